-- A schedule that is enabled again never fires for the past, whoever enables it, and whether or not a daemon was alive
-- while it was disabled: a next run that has come is forgotten, so that the next scheduler computes another and records
-- what was passed over. A statement that enables it and gives it a next run, as AYB's do, is left alone.
CREATE FUNCTION _ayb_job_schedule_enabled() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.next_run_at := NULL;
    RETURN NEW;
END
$$;

CREATE TRIGGER trg_ayb_job_schedules_enabled BEFORE UPDATE OF enabled ON _ayb_job_schedules FOR EACH ROW
    WHEN (NEW.enabled AND NOT OLD.enabled AND NEW.next_run_at <= now() AND NEW.next_run_at = OLD.next_run_at)
    EXECUTE FUNCTION _ayb_job_schedule_enabled();

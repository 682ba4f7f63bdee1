-- What daemons tell and are told beside their heartbeat: the jobs that one has set aside since the database refuses a
-- change of them, by id with the error; and that one is to take no more jobs and end, asked for when.
ALTER TABLE _ayb_job_workers ADD COLUMN aside jsonb, ADD COLUMN drain_requested_at timestamptz;

-- Whether a daemon has a scheduler, and which of its loops have made no progress for longer than they may. Null if an
-- older version, or a worker, wrote the row.
ALTER TABLE _ayb_job_workers
    ADD COLUMN has_scheduler boolean,
    ADD COLUMN stuck_loops text[];

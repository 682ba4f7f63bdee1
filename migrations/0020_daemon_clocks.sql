-- How far a daemon's clock is ahead of the database's, as of its last sign of life; null if an older version wrote it.
ALTER TABLE _ayb_job_workers ADD COLUMN clock_ahead_s float8;

-- The queues that may fill some slots of a daemon only, and how many each. Null if an older version, or a worker, wrote
-- the row.
ALTER TABLE _ayb_job_workers
    ADD COLUMN capped_queues text[],
    ADD COLUMN capped_slots int[];

-- The types whose handlers do not run in the slots that `concurrency` counts, and how many of them run at once: isolated
-- handlers in child processes, asynchronous ones on the event loop. Null if an older version, or a worker, wrote the row.
ALTER TABLE _ayb_job_workers
    ADD COLUMN isolated_types text[],
    ADD COLUMN isolated_slots int,
    ADD COLUMN async_types text[],
    ADD COLUMN async_slots int;

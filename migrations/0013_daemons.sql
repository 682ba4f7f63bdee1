-- What daemons tell and are told beside their heartbeat. All of it is null if an older version, or a worker, wrote the
-- row.

-- `aside`: the rows that a daemon has set aside since the database refuses a change of them, by table and id with the
-- error; `endings` are the jobs of which it refuses to store how an attempt ended.
-- `drain_requested_at`: when it was asked to take no more jobs and end. `clock_ahead_s`: how far its clock is ahead of
-- the database's. `isolated_*` and `async_*`: the types whose handlers do not run in the slots that `concurrency`
-- counts, and how many of them run at once, in child processes and on the event loop. `capped_*`: the queues that may
-- fill some of its slots only, and how many each. `has_scheduler`, and `stuck_loops`: which of its loops have made no
-- progress for longer than they may. `stuck_slots` and `stuck_async_slots`: how many of its slots are held by handlers
-- that were told to stop and did not; their jobs have been settled.
ALTER TABLE _ayb_job_workers
    ADD COLUMN aside jsonb,
    ADD COLUMN drain_requested_at timestamptz,
    ADD COLUMN clock_ahead_s float8,
    ADD COLUMN isolated_types text[],
    ADD COLUMN isolated_slots int,
    ADD COLUMN async_types text[],
    ADD COLUMN async_slots int,
    ADD COLUMN capped_queues text[],
    ADD COLUMN capped_slots int[],
    ADD COLUMN has_scheduler boolean,
    ADD COLUMN stuck_loops text[],
    ADD COLUMN stuck_slots int,
    ADD COLUMN stuck_async_slots int;

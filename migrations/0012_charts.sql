-- What charts are drawn from, however long the execution log has grown: sums and levels by minute, kept for days.

-- What ended in a minute, by job type, summed over the daemons: each adds what it counted, some seconds later.
-- `completed` and `failed` are jobs, `retried` attempts that others follow, `records` what handlers say they processed.
CREATE TABLE _ayb_job_minutes (
    at timestamptz NOT NULL,
    job_type varchar(100) NOT NULL,
    completed bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    retried bigint NOT NULL DEFAULT 0,
    records bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (at, job_type)
);

-- How much was due and ran, and for how long the job had been due that waited longest: measured once in a minute. `cut`
-- says that there were more lanes of queue and priority than are looked at, so that it is at least so much.
CREATE TABLE _ayb_job_levels (
    at timestamptz PRIMARY KEY,
    waiting bigint NOT NULL,
    running bigint NOT NULL,
    oldest_wait_s double precision NOT NULL,
    cut boolean NOT NULL DEFAULT false
);

-- Whether a daemon holds its lifeline: a session-level advisory lock on a direct connection, which the server frees the
-- moment the process dies. Only a daemon that says so can be taken for dead because its lifeline is free.
ALTER TABLE _ayb_job_workers ADD COLUMN guarded boolean NOT NULL DEFAULT false;

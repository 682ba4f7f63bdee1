-- The jobs that the database refuses to lease, as workers in any language met them: who was refused, why, and when the
-- job is tried again. Workers keep nothing between their calls, and the row itself cannot be changed. Without a memory
-- a look would end among the refused jobs at the front of the queue, again and again.
CREATE TABLE _ayb_job_refusals (
    job_id uuid PRIMARY KEY,
    worker_id varchar(100) NOT NULL,
    error text NOT NULL,
    retry_s int NOT NULL CHECK (retry_s BETWEEN 1 AND 60),
    retry_at timestamptz NOT NULL
);

CREATE INDEX idx_ayb_job_refusals_retry ON _ayb_job_refusals (retry_at);

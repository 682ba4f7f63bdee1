-- What commands of jobs wrote: the end of it, for each attempt that wrote anything. Written before the attempt ends,
-- under its lease, and kept as long as the log of attempts.

CREATE TABLE _ayb_job_outputs (
    lease_id uuid PRIMARY KEY,
    job_id uuid NOT NULL,
    attempt int NOT NULL,
    output text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX idx_ayb_job_outputs_job ON _ayb_job_outputs (job_id);
CREATE INDEX idx_ayb_job_outputs_written ON _ayb_job_outputs (written_at);

-- What handlers return, and the results of steps. Neither refers to `_ayb_jobs` by a foreign key: deleting a job would
-- cost a look into each table, and jobs without results would pay for those that have some.

-- A result outlives its job if that is removed as it completes.
CREATE TABLE _ayb_job_results (
    job_id uuid PRIMARY KEY,
    result jsonb NOT NULL,
    ended_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX idx_ayb_job_results_ended ON _ayb_job_results (ended_at);

-- A row for each step that a job has done, under its name, and one without a name for the job's last checkpoint.
CREATE TABLE _ayb_job_steps (
    job_id uuid NOT NULL,
    name varchar(100) NOT NULL,
    result jsonb NOT NULL,
    done_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, name)
);

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

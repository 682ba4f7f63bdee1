-- Jobs that wait for others. A child is queued with a time that never comes, and has its own beside it, until each of its
-- parents has ended as the rule says. It is born so, without a look at its parents: the resolver looks after each commit.
-- An edge is open until the resolver has seen its parent's end. None refers to `_ayb_jobs` by a foreign key: deleting a
-- job would cost a look into this table, and enqueueing a child a lock on its parent, whose settling would wait for it.
ALTER TABLE _ayb_jobs ADD COLUMN IF NOT EXISTS blocked_run_at timestamptz;

CREATE TABLE _ayb_job_dependencies (
    child_id uuid NOT NULL,
    parent_id uuid NOT NULL,
    rule varchar(10) NOT NULL CHECK (rule IN ('cancel', 'run', 'hold')),
    is_open boolean NOT NULL DEFAULT true,
    PRIMARY KEY (child_id, parent_id)
);

CREATE INDEX idx_ayb_job_dependencies_children ON _ayb_job_dependencies (child_id, parent_id) WHERE is_open;
CREATE INDEX idx_ayb_job_dependencies_parents ON _ayb_job_dependencies (parent_id, child_id);

-- A running job that is asked to end canceled. Its lease moves from `lease_id` to `canceling_lease_id`: so whatever its
-- daemon writes under the lease finds it gone, looks here, and ends the attempt as canceled. Plain jobs pay nothing for
-- that. `cancel_heard_at` is when its daemon knew.
ALTER TABLE _ayb_jobs
    ADD COLUMN canceling_lease_id uuid,
    ADD COLUMN cancel_requested_at timestamptz,
    ADD COLUMN cancel_heard_at timestamptz;

-- The jobs of schedules that wait for an earlier one to end canceled (see `storage/queue/successors.py`).
CREATE INDEX idx_ayb_jobs_successors ON _ayb_jobs (id)
    WHERE state = 'queued' AND run_at = '9999-12-31 00:00:00+00' AND blocked_run_at IS NULL AND scheduled_for IS NOT NULL;

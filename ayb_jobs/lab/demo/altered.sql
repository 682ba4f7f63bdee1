-- What somebody did to the tables and the server of the sick database. Only for a server of its own: it makes roles.

-- Roles that own and make what they should not.
CREATE ROLE erika SUPERUSER;  -- the daemon refuses tables of a role that could run code by them
CREATE ROLE mallory;
ALTER TABLE _ayb_job_audit OWNER TO erika;
GRANT CREATE ON SCHEMA public TO PUBLIC;
SET ROLE mallory;
CREATE FUNCTION public.lower(uuid) RETURNS text LANGUAGE sql RETURN $1::text;
RESET ROLE;

-- What the migrations made otherwise. The daemon that serves the pages does without all of it.
ALTER TABLE _ayb_job_outputs ALTER COLUMN attempt TYPE bigint;
DROP INDEX idx_ayb_job_alerts_at;
CREATE INDEX idx_ayb_job_alerts_at ON _ayb_job_alerts (id);
ALTER FUNCTION ayb_jobs.ayb_jobs_retry SET search_path = public;
DROP FUNCTION ayb_jobs.ayb_jobs_cancel;
ALTER TABLE _ayb_job_schedules DISABLE TRIGGER trg_ayb_job_schedules_enabled;
DROP TRIGGER trg_ayb_job_limit_types ON _ayb_job_limits;
ALTER TABLE _ayb_job_pauses DROP CONSTRAINT _ayb_job_pauses_kind_check;
ALTER TABLE _ayb_job_alerts DROP CONSTRAINT _ayb_job_alerts_kind_check;
ALTER TABLE _ayb_job_alerts ADD CONSTRAINT _ayb_job_alerts_kind_check CHECK (kind <> '');
ALTER TABLE _ayb_job_dependencies DROP CONSTRAINT _ayb_job_dependencies_rule_check;
ALTER TABLE _ayb_job_dependencies ADD CONSTRAINT _ayb_job_dependencies_rule_check CHECK (rule IN ('cancel', 'run', 'hold')) NOT VALID;

-- More dead versions of rows than live ones, in the table without autovacuum.
INSERT INTO _ayb_job_fires (schedule_id, fire_at, outcome, reason, recorded_at)
SELECT id, now() - n * interval '1 minute' - interval '30 days', 'skipped', 'an earlier job has not ended', now() - interval '30 days'
FROM _ayb_job_schedules, generate_series(1, 12000) AS n
WHERE name = 'refresh_search';
DELETE FROM _ayb_job_fires WHERE fire_at < now() - interval '29 days';

-- A type that kills its daemons and runs for longer than its lease.
INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, outcome, error, started_at, ended_at)
SELECT latest.id + n, gen_random_uuid(), 'render_video', 1, 'lost', 'the lease ran out', now() - n * interval '51 minutes', now() - (n - 1) * interval '52 minutes'
FROM (SELECT max(id) AS id FROM _ayb_job_executions) AS latest, generate_series(1, 3) AS n;

-- A limit that lets nothing start, and a job whose parent failed.
INSERT INTO _ayb_job_limits (name, types, max_running, set_by) VALUES ('exports', '{export_orders_to_partner}', 0, 'anna');
INSERT INTO _ayb_jobs (id, type, priority, limited_by, limited_key, run_at)
VALUES (gen_random_uuid(), 'export_orders_to_partner', 6, 'exports', '', now() + interval '4 hours');
WITH child AS (
    INSERT INTO _ayb_jobs (id, type, run_at, blocked_run_at) VALUES (gen_random_uuid(), 'send_mail', 'infinity', now()) RETURNING id
)
INSERT INTO _ayb_job_dependencies (child_id, parent_id, rule)
SELECT child.id, parent.id, 'hold'
FROM child, (SELECT id FROM _ayb_jobs WHERE state = 'failed' AND type = 'charge_card' LIMIT 1) AS parent;

-- A job of long ago, which retention is about to remove.
INSERT INTO _ayb_jobs (id, type, state, attempts, created_at, run_at, last_run_at, completed_at, updated_at)
SELECT gen_random_uuid(), 'send_mail', 'completed', 1, at, at, at, at, at FROM (SELECT now() - interval '100 days' AS at) AS times;

-- A daemon that was killed a moment ago, and a job that lost its daemon and that nobody takes over.
INSERT INTO _ayb_job_workers (id, host, pid, version, concurrency, queues, types, guarded, started_at, heartbeat_at)
VALUES ('api-4:4004:a87ff679a2f3', 'api-4', 4004, '0.5.0', 12, '{default}', '{send_mail}', true, now() - interval '1 day', now());
INSERT INTO _ayb_jobs (id, type, state, attempts, created_at, run_at, last_run_at, lease_until, lease_id, execution_id, worker_id)
VALUES ('01890000-0000-7000-8000-0000000000aa', 'render_video', 'running', 1, now() - interval '1 hour', now() - interval '1 hour',
    now() - interval '1 hour', now() - interval '10 minutes', gen_random_uuid(), 4711, 'api-3:4003:eccbc87e4b5c');

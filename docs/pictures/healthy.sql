-- A database in which all is well, for the pictures. Every row is made up.

INSERT INTO _ayb_job_workers (id, host, pid, version, concurrency, queues, types, started_at, heartbeat_at)
SELECT format('api-%s:%s:%s', n, 4000 + n, left(md5(n::text), 12)), 'api-' || n, 4000 + n, '1.0.0', 12, '{default,mail,images}',
    '{send_mail,sync_tenant,resize_image,nightly_report,prune_carts,refresh_search}', now() - interval '6 days', now() + interval '50 seconds'
FROM generate_series(1, 4) AS n;

INSERT INTO _ayb_jobs (id, type, queue, state, payload, attempts, created_at, run_at, last_run_at, completed_at, updated_at)
SELECT gen_random_uuid(), (ARRAY['send_mail', 'resize_image', 'sync_tenant', 'refresh_search'])[1 + n % 4],
    (ARRAY['mail', 'images', 'default', 'default'])[1 + n % 4], 'completed', jsonb_build_object('tenant', n % 40), 1,
    at, at, at + interval '0.2 seconds', at + interval '0.7 seconds', at + interval '0.7 seconds'
FROM generate_series(1, 3000) AS n, LATERAL (SELECT now() - n * interval '1.2 seconds' AS at) AS times;
INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, worker_id, outcome, records_processed, started_at, ended_at)
SELECT nextval('_ayb_job_execution_ids'), id, type, 1, 'api-1:4001:c4ca4238a0b9', 'completed', (random() * 900)::int, last_run_at, completed_at
FROM (SELECT * FROM _ayb_jobs WHERE state = 'completed' ORDER BY completed_at) AS done;

INSERT INTO _ayb_jobs (id, type, queue, run_at, created_at)
SELECT gen_random_uuid(), 'send_mail', 'mail', now() + n * interval '20 minutes', now() - interval '1 hour' FROM generate_series(1, 9) AS n;
INSERT INTO _ayb_jobs (id, type, queue, state, attempts, last_run_at, run_at, created_at, lease_until, lease_id, execution_id, worker_id, progress)
SELECT gen_random_uuid(), (ARRAY['send_mail', 'sync_tenant', 'resize_image'])[1 + n % 3], (ARRAY['mail', 'default', 'images'])[1 + n % 3],
    'running', 1, now() - n * interval '0.4 seconds', now() - n * interval '0.4 seconds', now() - n * interval '0.4 seconds',
    now() + interval '5 minutes', gen_random_uuid(), nextval('_ayb_job_execution_ids'),
    (SELECT id FROM _ayb_job_workers ORDER BY id OFFSET n % 4 LIMIT 1), CASE n % 3 WHEN 1 THEN jsonb_build_object('percent', 30 + n * 5) END
FROM generate_series(1, 11) AS n;

INSERT INTO _ayb_job_schedules (name, job_type, cron_expr, timezone, next_run_at, last_run_at, planned)
SELECT name, job_type, cron, 'UTC', next_at, now() - interval '1 hour', cron || ' UTC once'
FROM (VALUES
    ('nightly_report', 'nightly_report', '30 2 * * *', date_trunc('day', now() - interval '150 minutes') + interval '26 hours 30 minutes'),
    ('sync_tenants_hourly', 'sync_tenant', '0 * * * *', date_trunc('hour', now()) + interval '1 hour'),
    ('refresh_search', 'refresh_search', '*/5 * * * *', date_bin('5 minutes', now(), '2000-01-01') + interval '5 minutes'),
    ('expired_carts', 'prune_carts', '17 * * * *', date_trunc('hour', now() - interval '17 minutes') + interval '77 minutes')
) AS made (name, job_type, cron, next_at);
WITH jobs AS (
    INSERT INTO _ayb_jobs (id, type, state, attempts, schedule_id, scheduled_for, created_at, run_at, last_run_at, completed_at, updated_at)
    SELECT gen_random_uuid(), job_type, 'completed', 1, schedule.id, at, at, at, at, at + interval '40 seconds', at + interval '40 seconds'
    FROM _ayb_job_schedules AS schedule, generate_series(0, 23) AS n,
        LATERAL (SELECT date_trunc('hour', now()) - n * interval '1 hour' AS at) AS fire
    RETURNING id, schedule_id, scheduled_for
)
INSERT INTO _ayb_job_fires (schedule_id, fire_at, outcome, job_id, recorded_at)
SELECT schedule_id, scheduled_for, 'enqueued', id, scheduled_for FROM jobs;

INSERT INTO _ayb_job_levels (at, waiting, running, oldest_wait_s)
SELECT date_trunc('minute', now()) - n * interval '1 minute', (4 + 3 * sin(n / 9.0) + random() * 2)::int, (10 + 2 * sin(n / 7.0) + random() * 2)::int,
    0.2 + 0.1 * sin(n / 9.0) + random() / 20
FROM generate_series(0, 59) AS n;
INSERT INTO _ayb_job_minutes (at, job_type, completed, failed, records)
SELECT date_trunc('minute', now()) - n * interval '1 minute', type, 300 + (n * 13) % 97, 0, ((1.4 + sin(n / 90.0)) * 9000)::int + (n * 7919) % 900
FROM generate_series(0, 1439) AS n, unnest(ARRAY['send_mail', 'resize_image', 'sync_tenant']) AS type;
INSERT INTO _ayb_job_audit (at, actor, action, target, before, after)
SELECT now() - interval '3 hours', 'anna', 'schedule.update', id::text, jsonb_build_object('name', name, 'cron_expr', '0 2 * * *'),
    jsonb_build_object('name', name, 'cron_expr', cron_expr)
FROM _ayb_job_schedules WHERE name = 'nightly_report';

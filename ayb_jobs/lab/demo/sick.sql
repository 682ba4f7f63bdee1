-- A database in which much is wrong, for whoever wants to see how that is told. Every row is made up.

-- Two daemons that are alive for a while, and one that fell silent.
INSERT INTO _ayb_job_workers (id, host, pid, version, concurrency, queues, types, started_at, heartbeat_at)
SELECT format('api-%s:%s:%s', n, 4000 + n, left(md5(n::text), 12)), 'api-' || n, 4000 + n, '0.5.0', 12, '{default,mail,images}',
    '{send_mail,sync_tenant,resize_image,nightly_report,prune_carts,charge_card,refresh_search}',
    now() - interval '6 days', now() + CASE n WHEN 3 THEN interval '-6 minutes' ELSE interval '50 seconds' END
FROM generate_series(1, 3) AS n;

UPDATE _ayb_job_workers SET version = '0.4.9', clock_ahead_s = 41, stuck_loops = '{pruner}', stuck_slots = 2,
    aside = '{"_ayb_job_schedules": {"5": "a trigger says: no reports on Sundays"}}'
WHERE id LIKE 'api-2:%';

-- What doctor finds beside: a pause, an index that is missing, a table without autovacuum, jobs with one attempt alone.
INSERT INTO _ayb_job_pauses (kind, name, reason, paused_by, paused_at)
VALUES ('queue', 'exports', 'the bucket is full', 'anna', now() - interval '5 hours');
DROP INDEX idx_ayb_jobs_failed;
ALTER TABLE _ayb_job_fires SET (autovacuum_enabled = off);
INSERT INTO _ayb_jobs (id, type, queue, max_attempts, run_at)
SELECT gen_random_uuid(), 'charge_card', 'default', 1, now() + interval '2 hours' FROM generate_series(1, 2);

-- What completed in the last day, with its attempts.
INSERT INTO _ayb_jobs (id, type, queue, state, payload, attempts, created_at, run_at, last_run_at, completed_at, updated_at)
SELECT gen_random_uuid(), (ARRAY['send_mail', 'resize_image', 'sync_tenant', 'refresh_search'])[1 + n % 4],
    (ARRAY['mail', 'images', 'default', 'default'])[1 + n % 4], 'completed', jsonb_build_object('tenant', n % 40), 1,
    at, at, at + interval '0.2 seconds', at + interval '1 second', at + interval '1 second'
FROM generate_series(1, 3000) AS n, LATERAL (SELECT now() - n * interval '28 seconds' AS at) AS times;
INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, worker_id, outcome, records_processed, started_at, ended_at)
SELECT nextval('_ayb_job_execution_ids'), id, type, 1, 'api-1:4001:c4ca4238a0b9', 'completed',
    (random() * 900)::int, last_run_at, completed_at
FROM (SELECT * FROM _ayb_jobs WHERE state = 'completed' ORDER BY completed_at) AS done;

-- What failed: three errors.
INSERT INTO _ayb_jobs (id, type, queue, state, payload, attempts, max_attempts, created_at, run_at, last_run_at, updated_at, last_error)
SELECT gen_random_uuid(), failed.type, failed.queue, 'failed', jsonb_build_object('tenant', n % 90, 'page', n), 5, 5,
    at - interval '5 minutes', at - interval '30 seconds', at - interval '30 seconds', at, format(failed.error, n % 90, n * 7919)
FROM (VALUES
    ('sync_tenant', 'default', 312, interval '6 seconds', E'HTTPStatusError: 502 Bad Gateway from https://api.tenants.example/v2/export?tenant=%s&page=%s\n  File "/srv/shop/jobs/tenants.py", line 88, in sync_tenant\n    response.raise_for_status()'),
    ('send_mail', 'mail', 13, interval '200 seconds', E'SMTPRecipientsRefused: 550 5.1.1 mailbox %s unavailable (%s)\n  File "/srv/shop/jobs/mail.py", line 41, in send_mail\n    deliver(ctx.payload["to"], ctx.payload["text"])'),
    ('charge_card', 'default', 1, interval '30 minutes', 'CardError: Your card was declined (insufficient_funds) %s %s'),
    ('import_orders', 'default', 18, interval '3 hours', E'خطأ: تعذّر تحليل السطر %s من الملف orders-%s.csv لأن العمود «السعر» فارغ')
) AS failed (type, queue, jobs, apart, error), generate_series(1, failed.jobs) AS n,
    LATERAL (SELECT now() - n * failed.apart AS at) AS times;
INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, worker_id, outcome, error, started_at, ended_at)
SELECT nextval('_ayb_job_execution_ids'), id, type, n, 'api-2:4002:c81e728d9d4c', 'failed', last_error,
    last_run_at - (5 - n) * interval '50 seconds', updated_at - (5 - n) * interval '50 seconds'
FROM (SELECT * FROM _ayb_jobs WHERE state = 'failed' ORDER BY updated_at) AS done, generate_series(1, 5) AS n;

-- What waits: mail that nobody gets round to, a type that nobody knows, a queue that nobody serves, and what is due later.
INSERT INTO _ayb_jobs (id, type, queue, run_at, created_at, payload)
SELECT gen_random_uuid(), waiting.type, waiting.queue, due.at, least(due.at, now() - interval '1 second'), '{}'
FROM (VALUES
    ('send_mail', 'mail', 212, interval '252 seconds'),
    ('resize_imgae', 'images', 14, interval '51 minutes'),
    ('export_orders', 'exports', 12, interval '5 hours'),
    ('prune_carts', 'default', 40, interval '-3 hours'),
    ('sync_tenant_inventory_with_warehouse_reservations_and_backorders_v2', 'default', 3, interval '-1 day')
) AS waiting (type, queue, jobs, since), generate_series(1, waiting.jobs) AS n,
    LATERAL (SELECT now() - waiting.since + n * interval '1 second' AS at) AS due;
INSERT INTO _ayb_jobs (id, type, state, created_at, run_at, canceled_at, updated_at)
SELECT gen_random_uuid(), 'sync_tenant', 'canceled', at - interval '1 minute', at - interval '1 minute', at, at
FROM generate_series(1, 8), LATERAL (SELECT now() - interval '2 hours' AS at) AS times;

-- What runs: some of it for too long.
INSERT INTO _ayb_jobs (id, type, queue, state, attempts, last_run_at, run_at, created_at, lease_until, lease_id, execution_id, worker_id, timeout_s, progress)
SELECT gen_random_uuid(), (ARRAY['send_mail', 'sync_tenant', 'refresh_search', 'nightly_report'])[1 + n % 4],
    (ARRAY['mail', 'default', 'default', 'default'])[1 + n % 4], 'running', 1, now() - n * interval '11 seconds',
    now() - n * interval '11 seconds', now() - n * interval '11 seconds', now() + interval '30 minutes', gen_random_uuid(),
    nextval('_ayb_job_execution_ids'), (ARRAY['api-1:4001:c4ca4238a0b9', 'api-2:4002:c81e728d9d4c'])[1 + n % 2],
    CASE n % 4 WHEN 0 THEN 30 END,
    CASE n % 4 WHEN 2 THEN jsonb_build_object('percent', 40 + n) WHEN 1 THEN to_jsonb(format('page %s of about 418', n * 9)) END
FROM generate_series(1, 24) AS n;

-- Two limits: one that is full, and one with keys, of which one is full.
INSERT INTO _ayb_job_limits (name, types, key_field, max_running, key_max_running, rate, every, burst, set_by)
VALUES
    ('stripe', '{refresh_search}', NULL, 6, NULL, '100/min', '0.6 seconds', 5, 'anna'),
    ('mail-per-tenant', '{send_mail}', 'tenant', NULL, 4, NULL, NULL, 1, 'configuration');
UPDATE _ayb_jobs SET limited_by = 'stripe', limited_key = '', priority = 6 WHERE state = 'running' AND type = 'refresh_search';
UPDATE _ayb_jobs AS job
SET limited_by = 'mail-per-tenant', limited_key = CASE WHEN place < 5 THEN 'tenant-7' ELSE 'tenant-1184' END, priority = 6
FROM (SELECT id, row_number() OVER (ORDER BY last_run_at) AS place FROM _ayb_jobs WHERE state = 'running' AND type = 'send_mail') AS sender
WHERE job.id = sender.id;
UPDATE _ayb_jobs SET limited_by = 'mail-per-tenant', limited_key = 'tenant-7', priority = 6
WHERE id IN (SELECT id FROM _ayb_jobs WHERE state = 'queued' AND type = 'send_mail' ORDER BY run_at LIMIT 40);

-- Schedules with their fires.
INSERT INTO _ayb_job_schedules (name, job_type, cron_expr, timezone, enabled, next_run_at, last_run_at, planned, expect_success_within_s, watched_since)
SELECT name, job_type, cron, 'UTC', enabled, next_at, now() - interval '1 hour', cron || ' UTC once', within_s, now() - interval '60 days'
FROM (VALUES
    ('nightly_report', 'nightly_report', '30 2 * * *', true, 93600, date_trunc('day', now() - interval '150 minutes') + interval '26 hours 30 minutes'),
    ('prune_carts_nightly', 'prune_carts', '30 2 * * *', true, NULL, date_trunc('day', now() - interval '150 minutes') + interval '26 hours 30 minutes'),
    ('sync_tenants_hourly', 'sync_tenant', '0 * * * *', true, NULL, date_trunc('hour', now()) + interval '1 hour'),
    ('refresh_search', 'refresh_search', '*/5 * * * *', true, NULL, date_bin('5 minutes', now(), '2000-01-01') + interval '5 minutes'),
    ('stock_levels_to_marketplaces_and_partner_warehouses_every_quarter_hour', 'sync_tenant', '7,22,37,52 8-18 * * *', true, NULL, (
        SELECT min(fire) FROM generate_series(date_trunc('day', now()) + interval '7 minutes', now() + interval '1 day', interval '15 minutes') AS fire
        WHERE fire > now() AND extract(hour FROM fire) BETWEEN 8 AND 18
    )),
    ('expired_auth_cleanup_hourly', 'prune_carts', '17 * * * *', true, NULL, date_trunc('hour', now() - interval '17 minutes') + interval '77 minutes'),
    ('newsletter', 'send_mail', '0 10 * * 5', false, NULL, NULL)
) AS made (name, job_type, cron, enabled, within_s, next_at);
WITH fires AS (
    SELECT schedule.id, schedule.name, schedule.job_type, n, date_trunc('hour', now() - minute) + minute - n * interval '1 hour' AS at,
        CASE
            WHEN n = 9 AND name LIKE 'sync%' OR n IN (1, 2, 3) AND name = 'newsletter' THEN 'skipped'
            WHEN n = 5 AND name LIKE 'night%' THEN 'late'
            WHEN n IN (7, 8) AND name LIKE 'refresh%' THEN 'coalesced'
            WHEN n = 6 AND name LIKE 'refresh%' THEN 'caught_up'
            ELSE 'enqueued'
        END AS outcome
    FROM _ayb_job_schedules AS schedule, generate_series(0, 23) AS n,
        LATERAL (SELECT CASE name WHEN 'expired_auth_cleanup_hourly' THEN interval '17 minutes' ELSE interval '0' END AS minute) AS cron
    WHERE schedule.name IN ('nightly_report', 'prune_carts_nightly', 'sync_tenants_hourly', 'refresh_search', 'expired_auth_cleanup_hourly', 'newsletter')
        AND (name <> 'newsletter' OR n < 17)
), jobs AS (
    INSERT INTO _ayb_jobs (id, type, state, attempts, schedule_id, scheduled_for, created_at, run_at, last_run_at, completed_at, updated_at, last_error)
    SELECT gen_random_uuid(), job_type, CASE WHEN name IN ('nightly_report', 'sync_tenants_hourly') AND n = 0 THEN 'failed' ELSE 'completed' END,
        CASE WHEN name IN ('nightly_report', 'sync_tenants_hourly') AND n = 0 THEN 3 ELSE 1 END,
        id, at, at, at, at, CASE WHEN name NOT IN ('nightly_report', 'sync_tenants_hourly') OR n > 0 THEN at + interval '40 seconds' END,
        at + interval '40 seconds', CASE WHEN n = 0 THEN
            CASE name
                WHEN 'nightly_report' THEN 'UndefinedTable: relation "orders_2026_11" does not exist'
                WHEN 'sync_tenants_hourly' THEN 'TimeoutError: no answer from https://api.tenants.example within 10 s'
            END
        END
    FROM fires WHERE outcome IN ('enqueued', 'late', 'caught_up')
    RETURNING id, schedule_id, scheduled_for
)
INSERT INTO _ayb_job_fires (schedule_id, fire_at, outcome, reason, job_id, recorded_at)
SELECT fires.id, fires.at, outcome, CASE outcome WHEN 'skipped' THEN 'an earlier job has not ended' END, jobs.id, fires.at
FROM fires LEFT JOIN jobs ON jobs.schedule_id = fires.id AND jobs.scheduled_for = fires.at;
INSERT INTO _ayb_job_executions (id, job_id, job_type, schedule_id, attempt, outcome, started_at, ended_at)
SELECT nextval('_ayb_job_execution_ids'), id, type, schedule_id, 1, 'completed', run_at - CASE type WHEN 'nightly_report' THEN interval '28 hours' ELSE interval '0' END,
    run_at - CASE type WHEN 'nightly_report' THEN interval '27 hours 53 minutes' ELSE interval '-40 seconds' END
FROM (SELECT * FROM _ayb_jobs WHERE schedule_id IS NOT NULL AND state = 'completed' ORDER BY run_at) AS done;
INSERT INTO _ayb_job_executions (id, job_id, job_type, schedule_id, attempt, worker_id, outcome, error, started_at, ended_at)
SELECT nextval('_ayb_job_execution_ids'), id, type, schedule_id, n, 'api-2:4002:c81e728d9d4c', 'failed', last_error,
    run_at + (n - 1) * interval '15 seconds', run_at + (n - 1) * interval '15 seconds' + interval '10 seconds'
FROM _ayb_jobs, generate_series(1, 3) AS n
WHERE schedule_id IS NOT NULL AND state = 'failed';

INSERT INTO _ayb_job_schedules (name, job_type, cron_expr, timezone, planned, last_run_at, ended_at)
VALUES ('stocktaking_of_2025', 'nightly_report', '0 0 6 31 12 * 2025', 'UTC', '0 0 6 31 12 * 2025 UTC once',
    '2025-12-31 06:00+00', '2025-12-31 06:00+00');

-- The last hours, minute by minute.
INSERT INTO _ayb_job_levels (at, waiting, running, oldest_wait_s)
SELECT date_trunc('minute', now()) - n * interval '1 minute', greatest(3, 240 - n * 6) + (n * 7919) % 5, 18 + (n * 31) % 7,
    CASE WHEN n < 40 THEN (40 - n) * 60 ELSE 0.3 END
FROM generate_series(0, 59) AS n;
INSERT INTO _ayb_job_minutes (at, job_type, completed, failed, records)
SELECT date_trunc('minute', now()) - n * interval '1 minute', type, 20 + (n * 13) % 17, 0,
    ((1 + sin(n / 90.0)) * 4000)::int + (n * 7919) % 900
FROM generate_series(0, 1439) AS n, unnest(ARRAY['send_mail', 'resize_image', 'prune_carts']) AS type
ON CONFLICT DO NOTHING;
INSERT INTO _ayb_job_minutes (at, job_type, retried) VALUES (date_trunc('minute', now()) - interval '1 minute', 'import_orders', 7)
ON CONFLICT DO NOTHING;
INSERT INTO _ayb_job_audit (at, actor, action, target, before, after)
SELECT now() - interval '3 hours', 'anna', 'schedule.update', id::text, jsonb_build_object('name', name, 'cron_expr', '0 8-18 * * *'),
    jsonb_build_object('name', name, 'cron_expr', cron_expr)
FROM _ayb_job_schedules WHERE name LIKE 'stock%';
INSERT INTO _ayb_job_audit (at, actor, action, target, before, after)
SELECT now() - interval '2 hours', 'deploy-bot', 'job.cancel', id::text, jsonb_build_object('type', type, 'state', 'queued'),
    jsonb_build_object('type', type, 'state', 'canceled')
FROM _ayb_jobs WHERE state = 'canceled' LIMIT 1;

-- A batch of which some have failed, one that nobody sealed, and one that is done.
INSERT INTO _ayb_job_batches (id, description, created_at, sealed_at, done_at, completed)
VALUES
    ('01890000-0000-7000-8000-0000000000b1', 'mails of the spring', now() - interval '25 hours', now() - interval '25 hours', NULL, 0),
    ('01890000-0000-7000-8000-0000000000b2', 'inventory of the shops', now() - interval '26 hours', NULL, NULL, 0),
    ('01890000-0000-7000-8000-0000000000b3', 'invoices of the month', now() - interval '3 days', now() - interval '3 days',
        now() - interval '2 days', 1204);
INSERT INTO _ayb_job_batch_callbacks (batch_id, event, job_id, type)
VALUES ('01890000-0000-7000-8000-0000000000b1', 'done', gen_random_uuid(), 'charge_card');
UPDATE _ayb_jobs SET batch_id = '01890000-0000-7000-8000-0000000000b1' WHERE type = 'send_mail' AND state <> 'running';
UPDATE _ayb_jobs SET batch_id = '01890000-0000-7000-8000-0000000000b2' WHERE type = 'sync_tenant' AND state = 'canceled';

-- Attempts are numbered in the order of their starts, as they are drawn when jobs are leased.
UPDATE _ayb_job_executions SET id = id + 1000000;
UPDATE _ayb_job_executions AS execution SET id = ordered.n
FROM (SELECT id, row_number() OVER (ORDER BY started_at) AS n FROM _ayb_job_executions) AS ordered
WHERE execution.id = ordered.id;

-- What is seen of a restore that left the sequence behind, and of rights that everybody was given.
SELECT setval('_ayb_job_execution_ids', 1);
GRANT SELECT ON _ayb_job_audit TO PUBLIC;

-- An alert that its address has not taken.
WITH alert AS (
    INSERT INTO _ayb_job_alerts (kind, schedule_id, about, message, at)
    SELECT 'overdue', id, 'sick', format('schedule %s is overdue', name), now() - interval '20 minutes'
    FROM _ayb_job_schedules
    ORDER BY name
    LIMIT 1
    RETURNING id
)
INSERT INTO _ayb_job_alert_deliveries (alert_id, target, attempts, try_at, last_error)
SELECT id, 'sick', 5, now() + interval '4 minutes', 'https://hooks.example answered 503' FROM alert;

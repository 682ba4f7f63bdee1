-- Limits: how many jobs of some types may run at once, and how many may start in some time, over all daemons and for
-- each key. A limit's row is its lock: whoever leases under it holds the row, and looks in a statement that begins
-- later. What counts is rows in the state running, so that nothing can leak. `every` is the time between two starts,
-- and `tat` when the next one would be due if none had come early. `worker_after` is the key behind which a worker's
-- next look begins, since workers in other languages keep nothing between their calls. Below the attempt numbered
-- `running_from` none counts that runs. Limits are numbered, under the lock of the pauses. `left_types` were taken from
-- a limit; jobs of them may wait under it yet. `sharers` are the daemons and workers that share `max_running`: when each
-- was `sharers_seen` last, and, if it has not come since, when a place was first left to it (`sharers_called`).
CREATE TABLE _ayb_job_limits (
    name varchar(100) PRIMARY KEY CHECK (name <> ''),
    id bigint GENERATED ALWAYS AS IDENTITY,
    types varchar(100)[] NOT NULL CHECK (cardinality(types) > 0 AND array_position(types, NULL) IS NULL),
    key_field varchar(100),
    max_running int CHECK (max_running >= 0),
    key_max_running int CHECK (key_max_running >= 0),
    rate varchar(30),
    every interval CHECK (every > interval '0' AND every <= interval '36500 days'),
    burst int NOT NULL DEFAULT 1 CHECK (burst BETWEEN 1 AND 1000000),
    key_rate varchar(30),
    key_every interval CHECK (key_every > interval '0' AND key_every <= interval '36500 days'),
    key_burst int NOT NULL DEFAULT 1 CHECK (key_burst BETWEEN 1 AND 1000000),
    tat timestamptz NOT NULL DEFAULT '-infinity' CHECK (tat < '9999-12-31'),
    definition jsonb,
    set_by varchar(100) NOT NULL,
    set_at timestamptz NOT NULL DEFAULT now(),
    worker_after varchar(200) NOT NULL DEFAULT '',
    running_from bigint NOT NULL DEFAULT 0,
    left_types varchar(100)[] NOT NULL DEFAULT '{}',
    sharers varchar(100)[] NOT NULL DEFAULT '{}',
    sharers_seen timestamptz[] NOT NULL DEFAULT '{}',
    sharers_called timestamptz[] NOT NULL DEFAULT '{}',
    CHECK ((rate IS NULL) = (every IS NULL)),
    CHECK ((key_rate IS NULL) = (key_every IS NULL)),
    CHECK (burst * every <= interval '36500 days'),
    CHECK (key_burst * key_every <= interval '36500 days')
) WITH (fillfactor = 50);

CREATE TABLE _ayb_job_limit_keys (
    limit_name varchar(100),
    limit_key varchar(200),
    tat timestamptz NOT NULL CHECK (tat < '9999-12-31'),
    PRIMARY KEY (limit_name, limit_key)
) WITH (fillfactor = 50);

ALTER TABLE _ayb_job_workers ADD COLUMN limits_confirmed bigint;

-- `limit_key` is what the enqueuer gave. A job is put under its limit by the daemon that first meets it: `limited_by`
-- and `limited_key` are set, and `priority` is raised by 4. So limited jobs lie in lanes of their own, 5 to 8, which
-- leasing jobs without a limit never walks, whatever version does it. The server reads the text of each constraint anew
-- for each statement that writes a job, so that a short one is worth some microseconds of a lone job.
ALTER TABLE _ayb_jobs
    ADD COLUMN limit_key varchar(200),
    ADD COLUMN limited_by varchar(100),
    ADD COLUMN limited_key varchar(200),
    DROP CONSTRAINT IF EXISTS "_ayb_jobs_priority_check",
    ADD CONSTRAINT "_ayb_jobs_priority_check" CHECK (
        priority BETWEEN 1 AND CASE WHEN limited_by IS NULL OR limited_key IS NULL THEN 4 ELSE 8 END
    ) NOT VALID;

-- Whether a job is limited at all stands first: each change of each job asks.
CREATE INDEX idx_ayb_jobs_limited ON _ayb_jobs (limited_by, limited_key, priority, run_at, id)
    WHERE limited_by IS NOT NULL AND state = 'queued';
-- What waits under a limit that has lost its type. It is looked for as long as the limit stands, beside any number. The
-- type stands first, so that this index serves nothing that asks for a limit alone.
CREATE INDEX idx_ayb_jobs_limited_types ON _ayb_jobs (type, limited_by) WHERE limited_by IS NOT NULL AND state = 'queued';
CREATE INDEX idx_ayb_jobs_limited_running ON _ayb_jobs (limited_by, execution_id)
    WHERE limited_by IS NOT NULL AND state = 'running';

-- Leases jobs under one limit. Each statement of a volatile function has a snapshot of its own, so what is counted
-- behind the lock holds all that was committed before the lock was had. A client that is stopped holds no lock: it
-- sends one statement. If somebody else holds the lock for longer than `p_wait_s`, or if the limit was removed, no row
-- comes back, not even the last one, which tells how the look went.
-- Sequential scans are off, because the table may be small or never analyzed when a plan is made. To plan each call anew
-- costs a fifth of it, and finds the same plans.
--
-- A rate never spends beyond its burst from now on. What is further ahead was spent at a slower rate, before it was
-- raised, or by a clock that has gone back since, as after a failover. It counts as a spent burst, and is written so,
-- for only what is written comes nearer with time. A job that a trigger keeps as it is has not started, so it spends
-- nothing. A paused key has no place: its jobs are not looked at, however many wait, and nobody waits for its next
-- token.
--
-- While an old transaction keeps what is dead in the indexes, no look walks all of it. What runs is counted from
-- `running_from` on: attempts under a limit are numbered behind its lock, by a sequence without a cache, so that whatever
-- is leased later has a higher number than what a look has seen. The mark is written now and then, since each version of
-- the row costs the next looks time. What runs already and is put under a limit sets it back. The keys are walked
-- downwards, so that a key is met at its last job, not at the first ones, which are dead. Of the keys `p_floor_keys` the
-- jobs are looked for behind a place for each priority: four of `p_floor_run_ats` and `p_floor_ids` for each key.
--
-- Whoever settles looks first, and would take every place that it has freed. So those share the places that could start
-- more if there were more: none takes more than its part of what the others leave. Who has no job left that it could
-- start shares no more, nor does who leaves a place unused for longer than a sweep takes to come round, nor who is
-- silent: while all places are taken by long jobs, a daemon's heartbeat alone tells that it waits. A look for other
-- types, as of the daemon's other executors, changes nothing of that. If jobs are so short that a part of the places
-- costs more than what runs there (`p_quick`), all places are each one's in turn, for a tenth of a second by the clock.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
    -- whether the caller can lease `job` now, if its key has a free place
    can_start text := $filter$
        job.run_at <= now() AND job.type = ANY (p_types) AND job.queue = ANY (p_queues)
        AND job.id <> ALL (p_aside) AND (p_only IS NULL OR job.id = ANY (p_only))
        AND NOT EXISTS (
            SELECT FROM TABLES._ayb_job_pauses AS pause
            WHERE (pause.until IS NULL OR pause.until > now()) AND (
                pause.kind = 'queue' AND pause.name = job.queue
                OR pause.kind = 'type' AND pause.name = job.type)
        )
    $filter$;
BEGIN
    EXECUTE replace(replace($create$
        CREATE OR REPLACE FUNCTION TABLES._ayb_job_lease_limited(
            p_name text, p_room int, p_types text[], p_queues text[], p_aside uuid[], p_only uuid[], p_after text,
            p_worker_id text, p_lease_s float8, p_careful boolean, p_wait_s float8, p_path text,
            p_floor_keys text[] DEFAULT '{}', p_floor_run_ats timestamptz[] DEFAULT '{}', p_floor_ids uuid[] DEFAULT '{}',
            p_quick boolean DEFAULT false
        ) RETURNS TABLE (
            last_key text, wait_s float8, more boolean, picked uuid[], id uuid, lease_id uuid, execution_id bigint, type text,
            payload text, queue text, priority int, attempts int, max_attempts int, crashes int, run_at text,
            scheduled_for text, schedule_id uuid, timeout_s float8, traceparent text, batch_id uuid, limited_key text
        ) LANGUAGE plpgsql VOLATILE
            SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $body$
        #variable_conflict use_column
        DECLARE
            held record;
            had boolean;
            at timestamptz;
            spare int := p_room;
            picked_keys text[];
            running_keys text[];
            running_jobs int[];
            running_all bigint;
            running_own bigint;
            running_shared bigint;
            sharers text[] := '{}';
            sharing text[];
            shares boolean;
            wants boolean;
            places int;
            part int;
            fresh text[] := '{}';
            turn_s float8;
            turns float8;
            ahead int;
            sharing_seen timestamptz[];
            sharing_called timestamptz[];
            running_first bigint;
            last_number bigint;
            nobody uuid := '00000000-0000-0000-0000-000000000000';
            paused_keys text[];
            open_keys bigint;
            keys_left boolean := false;
            patience text := current_setting('lock_timeout');
            batch bytea := substring(uuid_send(gen_random_uuid()) FROM 1 FOR 10);
        BEGIN
            last_key := p_after;
            PERFORM set_config('lock_timeout', greatest(1, round(1000 * p_wait_s)) || 'ms', true);
            BEGIN
                SELECT it.max_running, it.key_max_running, it.every, it.burst, it.key_every, it.key_burst, it.tat, it.running_from,
                    it.types, it.sharers::text[] AS sharers, it.sharers_seen, it.sharers_called
                INTO held
                FROM TABLES._ayb_job_limits AS it WHERE it.name = p_name FOR NO KEY UPDATE;
                -- locked
                had := FOUND;
            EXCEPTION WHEN lock_not_available THEN
                had := false;
            END;
            PERFORM set_config('lock_timeout', patience, true);
            IF NOT had THEN
                RETURN;
            END IF;
            p_types := ARRAY(SELECT unnest(p_types) INTERSECT SELECT unnest(held.types::text[]));
            at := clock_timestamp();
            IF held.every IS NOT NULL AND held.tat > at + held.burst * held.every THEN
                held.tat := at + held.burst * held.every;
                UPDATE TABLES._ayb_job_limits AS it SET tat = held.tat WHERE it.name = p_name;
            END IF;
            paused_keys := ARRAY(
                SELECT substr(pause.name, length(p_name) + 2) FROM TABLES._ayb_job_pauses AS pause
                WHERE pause.kind = 'key' AND starts_with(pause.name, p_name || '/')
                    AND (pause.until IS NULL OR pause.until > now()));
            last_number := (SELECT ids.last_value FROM TABLES._ayb_job_execution_ids AS ids);
            IF held.running_from > last_number THEN  -- somebody has set the numbers back
                held.running_from := 0;
                UPDATE TABLES._ayb_job_limits AS it SET running_from = 0 WHERE it.name = p_name;
            END IF;
            IF held.max_running > 0 AND p_only IS NULL THEN
                sharers := ARRAY(
                    SELECT other.worker FROM unnest(held.sharers, held.sharers_seen, held.sharers_called) AS other (worker, seen, called)
                    WHERE other.worker <> p_worker_id
                        AND (other.seen BETWEEN at - interval '10 s' AND at OR EXISTS (
                            SELECT FROM TABLES._ayb_job_workers AS alive
                            WHERE alive.id = other.worker AND alive.heartbeat_at BETWEEN at - interval '60 s' AND at + interval '60 s'))
                        AND (other.called IS NULL OR other.called BETWEEN at - interval '1.2 s' AND at));
            END IF;
            SELECT array_agg(of_key.key), array_agg(of_key.jobs), coalesce(sum(of_key.jobs), 0), coalesce(sum(of_key.own), 0),
                coalesce(sum(of_key.shared), 0), coalesce(min(of_key.first), last_number)
            INTO running_keys, running_jobs, running_all, running_own, running_shared, running_first
            FROM (
                SELECT counted.key, count(*)::int AS jobs, count(*) FILTER (WHERE counted.worker = p_worker_id) AS own,
                    count(*) FILTER (WHERE counted.worker = ANY (sharers)) AS shared, min(counted.number) AS first
                FROM (
                    SELECT job.limited_key AS key, job.worker_id::text AS worker, job.execution_id AS number FROM TABLES._ayb_jobs AS job
                    WHERE job.state = 'running' AND job.limited_by = p_name AND job.execution_id >= held.running_from
                    UNION ALL
                    SELECT job.limited_key, job.worker_id::text, 0 FROM TABLES._ayb_jobs AS job
                    WHERE job.state = 'running' AND job.limited_by = p_name AND job.execution_id IS NULL
                ) AS counted
                GROUP BY counted.key
            ) AS of_key;
            IF running_first > held.running_from + 1000 THEN
                UPDATE TABLES._ayb_job_limits AS it SET running_from = running_first WHERE it.name = p_name;
            END IF;
            places := held.max_running - running_all;
            IF p_quick AND cardinality(sharers) > 0 THEN
                fresh := ARRAY(
                    SELECT other.worker FROM unnest(held.sharers, held.sharers_seen) AS other (worker, seen)
                    WHERE other.worker = ANY (sharers) AND other.seen BETWEEN at - interval '1.2 s' AND at);
            END IF;
            IF cardinality(fresh) > 0 THEN
                turn_s := least(0.1, 0.8 / (cardinality(fresh) + 1));
                turns := extract(epoch FROM at) / turn_s;
                ahead := (SELECT count(*) FROM unnest(fresh) AS other (worker) WHERE other.worker COLLATE "C" < p_worker_id);
                ahead := (ahead - mod(floor(turns)::bigint, cardinality(fresh) + 1) + cardinality(fresh) + 1)::int % (cardinality(fresh) + 1);
                part := CASE WHEN ahead > 0 THEN 0 END;
            ELSIF cardinality(sharers) > 0 THEN
                part := greatest(0, ceil(
                    (places + running_own + running_shared) / (cardinality(sharers) + 1.0)) - running_own);
            END IF;
            spare := least(spare, places, part);
            IF held.every IS NOT NULL THEN
                spare := least(spare, greatest(0, floor(
                    extract(epoch FROM at + held.burst * held.every - greatest(held.tat, at)) / extract(epoch FROM held.every))));
            END IF;

            -- The keys are walked in a circle behind the last one served, and no further than is needed: to as many
            -- with a free place and a job that can start as twice the room, or to a thousand. Of each key come the
            -- first jobs, by priority; of all keys those first whose key runs least. If none came, the next walk goes
            -- on behind the last key of this one.
            IF spare > 0 THEN
                WITH RECURSIVE keys (key, wrapped) AS (
                    (SELECT start.* FROM (
                        (SELECT job.limited_key AS key, false AS wrapped FROM TABLES._ayb_jobs AS job
                        WHERE job.state = 'queued' AND job.limited_by = p_name AND job.limited_key < p_after
                        ORDER BY job.limited_key DESC LIMIT 1)
                        UNION ALL
                        (SELECT job.limited_key, true FROM TABLES._ayb_jobs AS job
                        WHERE job.state = 'queued' AND job.limited_by = p_name AND job.limited_key >= p_after
                        ORDER BY job.limited_key DESC LIMIT 1)
                    ) AS start LIMIT 1)
                    UNION ALL
                    SELECT next.* FROM keys CROSS JOIN LATERAL (
                        (SELECT job.limited_key, keys.wrapped FROM TABLES._ayb_jobs AS job
                        WHERE job.state = 'queued' AND job.limited_by = p_name AND job.limited_key < keys.key
                            AND job.limited_key >= CASE WHEN keys.wrapped THEN p_after ELSE '' END
                        ORDER BY job.limited_key DESC LIMIT 1)
                        UNION ALL
                        (SELECT job.limited_key, true FROM TABLES._ayb_jobs AS job
                        WHERE NOT keys.wrapped AND job.state = 'queued' AND job.limited_by = p_name
                            AND job.limited_key >= p_after
                        ORDER BY job.limited_key DESC LIMIT 1)
                        LIMIT 1
                    ) AS next
                ), seen AS MATERIALIZED (
                    SELECT first.key, row_number() OVER () AS place FROM (SELECT keys.key FROM keys LIMIT 1000) AS first
                ), open AS MATERIALIZED (
                    SELECT found.key, found.place, found.jobs, found.free, found.places, startable.* FROM (
                        SELECT seen.key, seen.place, coalesce(running.jobs, 0) AS jobs,
                            least(
                                coalesce(held.key_max_running, 2147483647) - coalesce(running.jobs, 0),
                                CASE WHEN held.key_every IS NOT NULL THEN greatest(0, floor(
                                    extract(epoch FROM at + held.key_burst * held.key_every - greatest(rate.tat, at))
                                    / extract(epoch FROM held.key_every)))
                                END)::int AS free,
                            4 * (floor.number::int - 1) AS places
                        FROM seen
                        LEFT JOIN unnest(running_keys, running_jobs) AS running (key, jobs) ON running.key = seen.key
                        LEFT JOIN unnest(p_floor_keys) WITH ORDINALITY AS floor (key, number) ON floor.key = seen.key
                        LEFT JOIN LATERAL (
                            SELECT kept.tat FROM TABLES._ayb_job_limit_keys AS kept
                            WHERE held.key_every IS NOT NULL AND kept.limit_name = p_name AND kept.limit_key = seen.key
                        ) AS rate ON true
                    ) AS found CROSS JOIN LATERAL (
                        SELECT level.priority, first.run_at, first.id
                        FROM generate_series(5, 8) AS level (priority) CROSS JOIN LATERAL (
                            SELECT job.run_at, job.id FROM TABLES._ayb_jobs AS job
                            WHERE job.state = 'queued' AND job.limited_by = p_name AND job.limited_key = found.key
                                AND job.priority = level.priority AND CAN_START
                                AND (job.run_at, job.id) > (
                                    coalesce(p_floor_run_ats[found.places + level.priority - 4], '-infinity'),
                                    coalesce(p_floor_ids[found.places + level.priority - 4], nobody))
                            ORDER BY job.run_at, job.id
                            LIMIT 1
                        ) AS first
                        LIMIT 1
                    ) AS startable
                    WHERE found.free > 0 AND found.key <> ALL (paused_keys)
                    LIMIT greatest(16, 2 * spare)
                ), share AS MATERIALIZED (
                    SELECT ceil(2.0 * spare / greatest(1, count(*)))::int AS each FROM open
                ), chosen AS MATERIALIZED (
                    SELECT job.id, open.key, open.place, open.jobs + job.rank AS turn
                    FROM open CROSS JOIN share CROSS JOIN LATERAL (
                        SELECT locked.id, row_number() OVER (ORDER BY locked.priority, locked.run_at, locked.id) AS rank
                        FROM (
                            SELECT next.* FROM generate_series(open.priority, 8) AS level (priority) CROSS JOIN LATERAL (
                                SELECT job.id, job.priority, job.run_at
                                FROM TABLES._ayb_jobs AS job
                                WHERE job.state = 'queued' AND job.limited_by = p_name AND job.limited_key = open.key
                                    AND job.priority = level.priority AND CAN_START
                                    AND (job.run_at, job.id) >= (
                                        CASE WHEN level.priority > open.priority
                                            THEN coalesce(p_floor_run_ats[open.places + level.priority - 4], '-infinity')
                                            ELSE open.run_at END,
                                        CASE WHEN level.priority > open.priority
                                            THEN coalesce(p_floor_ids[open.places + level.priority - 4], nobody)
                                            ELSE open.id END)
                                ORDER BY job.run_at, job.id
                                LIMIT least(open.free, spare, share.each)
                                FOR NO KEY UPDATE SKIP LOCKED
                            ) AS next
                            LIMIT least(open.free, spare, share.each)
                        ) AS locked
                    ) AS job
                    ORDER BY turn, open.place
                    LIMIT spare
                )
                SELECT array_agg(chosen.id ORDER BY turn, place), array_agg(chosen.key ORDER BY turn, place),
                    coalesce((array_agg(chosen.key ORDER BY turn DESC, place DESC))[1],
                        CASE WHEN (SELECT count(*) FROM open) < greatest(16, 2 * spare)
                            THEN (SELECT seen.key FROM seen ORDER BY seen.place DESC LIMIT 1)
                            ELSE (SELECT open.key FROM open ORDER BY open.place DESC LIMIT 1) END,
                        p_after),
                    (SELECT count(*) FROM open),
                    CASE WHEN (SELECT count(*) FROM open) < greatest(16, 2 * spare)
                        THEN (SELECT count(*) = 1000 FROM seen)
                        ELSE EXISTS (SELECT FROM seen WHERE seen.place > (SELECT max(open.place) FROM open)) END
                INTO picked, picked_keys, last_key, open_keys, keys_left
                FROM chosen;
                more := CASE WHEN picked IS NULL THEN keys_left
                    ELSE cardinality(picked) = p_room
                        OR cardinality(picked) < spare AND (keys_left OR open_keys > 1) END;
            END IF;

            IF picked IS NOT NULL THEN
                PERFORM set_config('search_path', p_path, true);  -- the application's triggers go by it
                RETURN QUERY
                UPDATE TABLES._ayb_jobs AS job
                SET state = 'running', attempts = least(greatest(job.attempts, 0), 2147483646) + 1,
                    lease_id = encode(batch || tidsend(job.ctid), 'hex')::uuid,
                    lease_until = at + p_lease_s * interval '1 second', worker_id = p_worker_id,
                    execution_id = nextval('TABLES._ayb_job_execution_ids'), progress = NULL, last_run_at = at,
                    updated_at = now(), unique_key = CASE WHEN job.unique_waiting THEN NULL ELSE job.unique_key END
                WHERE job.id = ANY (picked)
                RETURNING NULL::text, NULL::float8, NULL::boolean, NULL::uuid[], job.id,
                    CASE WHEN job.state = 'running' THEN job.lease_id END, job.execution_id, job.type::text,
                    CASE WHEN pg_column_size(job.payload) <= 16384 AND NOT TABLES._ayb_job_has_long_numbers(job.payload) THEN
                        left(CASE WHEN p_careful THEN TABLES._ayb_job_text(job.payload) ELSE job.payload::text END, 16385)
                    END,
                    job.queue::text, job.priority::int, job.attempts, job.max_attempts, job.crashes, job.run_at::text,
                    job.scheduled_for::text, job.schedule_id, job.timeout_s, job.traceparent::text, job.batch_id,
                    job.limited_key::text;
                PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
                IF held.every IS NOT NULL OR held.key_every IS NOT NULL THEN
                    picked_keys := ARRAY(
                        SELECT chosen.key FROM unnest(picked, picked_keys) AS chosen (id, key)
                        JOIN TABLES._ayb_jobs AS job ON job.id = chosen.id
                        WHERE job.state = 'running' AND job.lease_id IS NOT NULL);
                END IF;
                IF held.every IS NOT NULL THEN
                    held.tat := greatest(held.tat, at) + cardinality(picked_keys) * held.every;
                    UPDATE TABLES._ayb_job_limits AS it SET tat = held.tat WHERE it.name = p_name;
                END IF;
                IF held.key_every IS NOT NULL THEN
                    INSERT INTO TABLES._ayb_job_limit_keys AS kept (limit_name, limit_key, tat)
                    SELECT p_name, spent.key, at + count(*) * held.key_every
                    FROM unnest(picked_keys) AS spent (key)
                    GROUP BY spent.key
                    ON CONFLICT (limit_name, limit_key) DO UPDATE
                    SET tat = greatest(least(kept.tat, at + held.key_burst * held.key_every), at) + (excluded.tat - at);
                END IF;
            END IF;
            IF held.max_running > 0 AND p_only IS NULL AND cardinality(p_types) > 0 THEN
                wants := coalesce(cardinality(picked), 0) BETWEEN least(places, part) AND p_room - 1;
                shares := p_worker_id = ANY (held.sharers);
                places := places - coalesce(cardinality(picked), 0);
            END IF;
            IF wants <> shares OR wants IS NOT NULL AND cardinality(sharers) > 0 THEN
                SELECT coalesce(array_agg(it.worker ORDER BY it.worker), '{}'), coalesce(array_agg(it.seen ORDER BY it.worker), '{}'),
                    coalesce(array_agg(it.called ORDER BY it.worker), '{}')
                INTO sharing, sharing_seen, sharing_called
                FROM (
                    SELECT other.worker, other.seen, CASE
                        WHEN places <= 0 THEN NULL
                        WHEN wants AND other.called IS NULL AND (other.seen BETWEEN at - interval '1.2 s' AND at) IS NOT TRUE THEN at
                        ELSE other.called END AS called
                    FROM unnest(held.sharers, held.sharers_seen, held.sharers_called) AS other (worker, seen, called)
                    WHERE other.worker = ANY (sharers)
                    UNION ALL
                    SELECT p_worker_id, coalesce((
                        SELECT own.seen FROM unnest(held.sharers, held.sharers_seen, held.sharers_called) AS own (worker, seen, called)
                        WHERE own.worker = p_worker_id AND own.called IS NULL AND own.seen BETWEEN at - interval '0.2 s' AND at
                        LIMIT 1), at), NULL
                    WHERE wants
                ) AS it;
                IF (sharing, sharing_seen, sharing_called) IS DISTINCT FROM (held.sharers, held.sharers_seen, held.sharers_called) THEN
                    UPDATE TABLES._ayb_job_limits AS it SET sharers = sharing, sharers_seen = sharing_seen,
                        sharers_called = sharing_called
                    WHERE it.name = p_name;
                END IF;
            END IF;
            IF held.every IS NOT NULL THEN
                wait_s := extract(epoch FROM held.tat - (held.burst - 1) * held.every - clock_timestamp());
            END IF;
            IF wants AND ahead > 0 THEN
                wait_s := greatest(wait_s, (floor(turns) + ahead) * turn_s - extract(epoch FROM at));
            ELSIF wants AND ahead = 0 AND picked IS NULL THEN
                wait_s := greatest(wait_s, 0.005);  -- what runs since the turn before
            ELSIF wants AND NOT shares AND picked IS NULL THEN
                wait_s := greatest(wait_s, 0.02);  -- the others leave it places by then
            END IF;
            IF held.key_every IS NOT NULL AND coalesce(cardinality(picked), 0) < spare THEN
                UPDATE TABLES._ayb_job_limit_keys AS kept SET tat = at + held.key_burst * held.key_every
                WHERE kept.limit_name = p_name AND kept.tat > at + held.key_burst * held.key_every;
            END IF;
            -- No key starts before its limit may, and none while all places are taken.
            IF held.key_every IS NOT NULL AND coalesce(wait_s, 0) <= 0 AND coalesce(cardinality(picked), 0) < spare THEN
                SELECT extract(epoch FROM spent.tat - (held.key_burst - 1) * held.key_every - clock_timestamp()) INTO wait_s
                FROM (
                    SELECT kept.limit_key AS key, kept.tat FROM TABLES._ayb_job_limit_keys AS kept
                    WHERE kept.limit_name = p_name AND kept.limit_key <> ALL (paused_keys) AND kept.tat > at + (held.key_burst - 1) * held.key_every
                    ORDER BY kept.tat
                ) AS spent CROSS JOIN LATERAL (
                    SELECT FROM generate_series(5, 8) AS level (priority) CROSS JOIN LATERAL (
                        SELECT FROM TABLES._ayb_jobs AS job
                        WHERE job.state = 'queued' AND job.limited_by = p_name AND job.limited_key = spent.key
                            AND job.priority = level.priority AND CAN_START
                        ORDER BY job.run_at, job.id
                        LIMIT 1
                    ) AS first
                    LIMIT 1
                ) AS startable
                ORDER BY spent.tat
                LIMIT 1;
            END IF;
            RETURN NEXT;
        END
        $body$
    $create$, 'CAN_START', can_start), 'TABLES.', tables || '.');

    -- Puts those of these jobs under their limits that wait or run beside them, or under another limit. What runs has
    -- an old number, so that its limit's mark goes back with it, behind the limit's lock, which is taken first and without
    -- a wait. A list or an object in the payload is no key: its text may be a gigabyte, though it is stored in a page.
    EXECUTE replace($create$
        CREATE OR REPLACE FUNCTION TABLES._ayb_job_put_under(p_ids uuid[]) RETURNS void LANGUAGE sql VOLATILE
            SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $body$
            WITH limited_types AS MATERIALIZED (
                SELECT type, limits.name, limits.key_field
                FROM TABLES._ayb_job_limits AS limits CROSS JOIN unnest(limits.types) AS type
            ), held AS MATERIALIZED (
                SELECT name FROM TABLES._ayb_job_limits
                WHERE name = ANY (ARRAY(
                    SELECT limited_types.name FROM TABLES._ayb_jobs AS job JOIN limited_types ON limited_types.type = job.type
                    WHERE job.id = ANY (p_ids) AND job.state = 'running'))
                FOR NO KEY UPDATE SKIP LOCKED
            ), due AS MATERIALIZED (
                SELECT job.id, job.type, job.state
                FROM TABLES._ayb_jobs AS job JOIN limited_types ON limited_types.type = job.type
                WHERE job.id = ANY (p_ids) AND (job.priority <= 4 OR job.limited_by IS DISTINCT FROM limited_types.name)
                    AND (job.state = 'queued' OR job.state = 'running' AND limited_types.name = ANY (ARRAY(SELECT name FROM held)))
                FOR NO KEY UPDATE OF job SKIP LOCKED
            ), counted AS (
                UPDATE TABLES._ayb_job_limits SET running_from = 0
                WHERE name = ANY (ARRAY(
                    SELECT limited_types.name FROM due JOIN limited_types ON limited_types.type = due.type
                    WHERE due.state = 'running'))
            ), put_under AS (
                UPDATE TABLES._ayb_jobs AS job
                SET priority = CASE WHEN job.priority > 4 THEN job.priority ELSE job.priority + 4 END, limited_by = limited_types.name, limited_key = key.short, updated_at = now()
                FROM due JOIN limited_types ON limited_types.type = due.type, LATERAL (
                    SELECT CASE WHEN length(long) <= 200 THEN long ELSE encode(sha256(convert_to(long, 'UTF8')), 'hex') END AS short
                    FROM (
                        SELECT coalesce(
                            keyed.limit_key,
                            CASE WHEN jsonb_typeof(keyed.payload -> limited_types.key_field) NOT IN ('array', 'object')
                                THEN keyed.payload ->> limited_types.key_field END,
                            '') AS long
                        FROM TABLES._ayb_jobs AS keyed WHERE keyed.id = due.id
                    ) AS given
                ) AS key
                WHERE job.id = due.id
                RETURNING job.id, coalesce(job.limited_by, '') AS limited_by
            )
            SELECT due.id::text
            FROM due JOIN limited_types ON limited_types.type = due.type
            WHERE (due.id, limited_types.name) NOT IN (SELECT id, limited_by FROM put_under)
        $body$
    $create$, 'TABLES.', tables || '.');

    -- A type has one limit: no job could count under two. It is looked at as a transaction is committed, since a type may
    -- move from one limit to another in it, and one transaction after another, so that each sees what others have
    -- written before.
    EXECUTE replace($create$
        CREATE OR REPLACE FUNCTION TABLES._ayb_job_limit_types() RETURNS trigger LANGUAGE plpgsql
            SET search_path = pg_catalog, pg_temp AS $body$
        DECLARE
            twice record;
        BEGIN
            PERFORM pg_advisory_xact_lock(hashtextextended('_ayb_job_limit_types', 0));
            SELECT type, min(name) AS one, max(name) AS other INTO twice
            FROM TABLES._ayb_job_limits CROSS JOIN unnest(types) AS type
            GROUP BY type
            HAVING min(name) <> max(name)
            ORDER BY type
            LIMIT 1;
            IF FOUND THEN
                RAISE 'the type % cannot have both limits % and %; a type has one at most', twice.type, twice.one, twice.other
                    USING ERRCODE = 'unique_violation';
            END IF;
            RETURN NULL;
        END
        $body$
    $create$, 'TABLES.', tables || '.');
END
$make$;

CREATE CONSTRAINT TRIGGER trg_ayb_job_limit_types AFTER INSERT OR UPDATE OF types ON _ayb_job_limits
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION _ayb_job_limit_types();

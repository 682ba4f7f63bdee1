"""The statements that put jobs into the queue, for any driver.

Each parameter is a text or a whole number, and is cast here: a text is sent alike by every driver, whatever codecs the
application has set for JSON, dates or UUIDs. `CAST` stands where `::` behind a parameter would mislead SQLAlchemy.

They run on the application's search path, on which others may have made operators and functions that fit better than
built-in ones. So operators have just the types that they are made for, and functions that take any type, or would have
theirs cast, bear their schema. (`unnest` of several arrays is PostgreSQL's own in any case, and only without one.)
"""

from ayb_jobs.storage.channel import MAY_NOTIFY

DROPPED = "the job was not made: a trigger or a rule on _ayb_jobs drops it"
MAKES_IDS_ITSELF = 180000
# With built-ins alone, so that an application's role needs no right to a function of ours.
ENQUEUE = f"""
    INSERT INTO _ayb_jobs (id, type, payload, queue, priority, max_attempts, run_at, idempotency_key, traceparent)
    VALUES (
        uuidv7(), CAST(%(type)s AS text), CAST(%(payload)s AS text)::jsonb, CAST(%(queue)s AS text),
        CAST(%(priority)s AS smallint), CAST(%(max_attempts)s AS int),
        coalesce(CAST(%(run_at)s AS text)::timestamptz, now() + CAST(%(delay)s AS text)::interval, now()),
        CAST(%(idempotency_key)s AS text), CAST(%(traceparent)s AS text)
    )
    ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id::text, CASE WHEN run_at <= now() AND {MAY_NOTIFY} THEN pg_notify('ayb_jobs', '')::text END
"""
# The same before PostgreSQL 18: the time in milliseconds replaces the first 48 bits of a random id.
ENQUEUE_BEFORE_18 = f"""
    INSERT INTO _ayb_jobs (id, type, payload, queue, priority, max_attempts, run_at, idempotency_key, traceparent)
    VALUES (
        encode(
            pg_catalog.set_bit(pg_catalog.set_bit(
                overlay(uuid_send(gen_random_uuid())
                    PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000::numeric)::bigint) FROM 3)
                    FROM 1 FOR 6),
                52, 1), 53, 1),
            'hex')::uuid,
        CAST(%(type)s AS text), CAST(%(payload)s AS text)::jsonb, CAST(%(queue)s AS text),
        CAST(%(priority)s AS smallint), CAST(%(max_attempts)s AS int),
        coalesce(CAST(%(run_at)s AS text)::timestamptz, now() + CAST(%(delay)s AS text)::interval, now()),
        CAST(%(idempotency_key)s AS text), CAST(%(traceparent)s AS text)
    )
    ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id::text, CASE WHEN run_at <= now() AND {MAY_NOTIFY} THEN pg_notify('ayb_jobs', '')::text END
"""
FIND_BY_KEY = "SELECT id::text FROM _ayb_jobs WHERE idempotency_key::text = CAST(%(idempotency_key)s AS text)"

# Everything else takes the column's default; `run_at` is now.
COPY_DUE_JOBS = """
    COPY _ayb_jobs (id, payload, type, queue, priority, max_attempts, traceparent) FROM STDIN
"""
NOTIFY = f"SELECT CASE WHEN {MAY_NOTIFY} THEN pg_notify('ayb_jobs', '')::text END"

INSERT_JOBS = f"""
    WITH added AS (
        INSERT INTO _ayb_jobs (id, type, payload, queue, priority, max_attempts, run_at, idempotency_key, traceparent)
        SELECT id::uuid, type, payload::jsonb, queue, priority::smallint, max_attempts,
            coalesce(run_at::timestamptz, now() + delay::interval, now()), idempotency_key, traceparent
        FROM unnest(
            CAST(%(ids)s AS text[]), CAST(%(types)s AS text[]), CAST(%(payloads)s AS text[]), CAST(%(queues)s AS text[]),
            CAST(%(priorities)s AS int[]), CAST(%(max_attempts)s AS int[]), CAST(%(run_ats)s AS text[]),
            CAST(%(delays)s AS text[]), CAST(%(idempotency_keys)s AS text[]), CAST(%(traceparents)s AS text[])
        ) AS asked (
            id, type, payload, queue, priority, max_attempts, run_at, delay, idempotency_key, traceparent
        )
        ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING run_at
    ), woken AS (
        SELECT CASE WHEN {MAY_NOTIFY} THEN pg_notify('ayb_jobs', '')::text END FROM added WHERE run_at <= now() LIMIT 1
    )
    SELECT count(*), (SELECT count(*) FROM woken) FROM added
"""

# Jobs that wait for others, with an edge to each. They are due at a time that never comes, and have their own beside
# it. No look at a parent and no lock on it: a running one could not be settled while this transaction lasts. The
# resolver looks once this is committed.
INSERT_DEPENDENT_JOBS = f"""
    WITH asked AS MATERIALIZED (
        SELECT *
        FROM unnest(
            CAST(%(ids)s AS text[]), CAST(%(types)s AS text[]), CAST(%(payloads)s AS text[]), CAST(%(queues)s AS text[]),
            CAST(%(priorities)s AS int[]), CAST(%(max_attempts)s AS int[]), CAST(%(run_ats)s AS text[]),
            CAST(%(delays)s AS text[]), CAST(%(idempotency_keys)s AS text[]), CAST(%(traceparents)s AS text[]),
            CAST(%(parents)s AS text[]), CAST(%(rules)s AS text[])
        ) AS asked (
            id, type, payload, queue, priority, max_attempts, run_at, delay, idempotency_key, traceparent, parents, rule
        )
    ), added AS (
        INSERT INTO _ayb_jobs
            (id, type, payload, queue, priority, max_attempts, run_at, blocked_run_at, idempotency_key, traceparent)
        SELECT id::uuid, type, payload::jsonb, queue, priority::smallint, max_attempts, '9999-12-31 00:00:00+00',
            coalesce(run_at::timestamptz, now() + delay::interval, now()), idempotency_key, traceparent
        FROM asked
        ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING id
    ), edges AS (
        INSERT INTO _ayb_job_dependencies (child_id, parent_id, rule)
        SELECT added.id, parent.id::uuid, asked.rule
        FROM added
        JOIN asked ON asked.id::uuid = added.id
        CROSS JOIN LATERAL jsonb_array_elements_text(asked.parents::jsonb) AS parent (id)
    ), woken AS (
        SELECT CASE WHEN {MAY_NOTIFY} THEN pg_notify('ayb_jobs', 'blocked')::text END FROM added LIMIT 1
    )
    SELECT count(*), (SELECT count(*) FROM woken) FROM added
"""

# The same with the key of a limit: other jobs are enqueued where there is no such column yet, too.
COLUMNS = "idempotency_key, traceparent)"
VALUES = "CAST(%(idempotency_key)s AS text), CAST(%(traceparent)s AS text)"
LIMITED_COLUMNS = "idempotency_key, traceparent, limit_key)"
LIMITED_VALUES = f"{VALUES}, CAST(%(limit_key)s AS text)"
ENQUEUE_LIMITED = ENQUEUE.replace(COLUMNS, LIMITED_COLUMNS).replace(VALUES, LIMITED_VALUES)
ENQUEUE_LIMITED_BEFORE_18 = ENQUEUE_BEFORE_18.replace(COLUMNS, LIMITED_COLUMNS).replace(VALUES, LIMITED_VALUES)
SELECTED = "idempotency_key, traceparent\n"
ARRAYS = "CAST(%(traceparents)s AS text[])"
INSERT_LIMITED_JOBS = (
    INSERT_JOBS.replace(COLUMNS, LIMITED_COLUMNS)
    .replace(SELECTED, "idempotency_key, traceparent, limit_key\n")
    .replace(ARRAYS, f"{ARRAYS}, CAST(%(limit_keys)s AS text[])")
)
RULES = "CAST(%(rules)s AS text[])"
INSERT_LIMITED_DEPENDENT_JOBS = (
    INSERT_DEPENDENT_JOBS.replace(COLUMNS, LIMITED_COLUMNS)
    .replace(SELECTED, "idempotency_key, traceparent, limit_key\n")
    .replace("parents, rule\n", "parents, rule, limit_key\n")
    .replace(RULES, f"{RULES}, CAST(%(limit_keys)s AS text[])")
)

# The same as members of batches. The end of each batch waits for the caller's transaction. If one takes no members, no
# job is made, and the answer names it.
JOINED = """WITH joined AS MATERIALIZED (
        SELECT batch_id, _ayb_job_batch_join(batch_id) AS became
        FROM (SELECT DISTINCT id::uuid AS batch_id FROM pg_catalog.unnest(CAST(%(batch_ids)s AS text[])) AS id ORDER BY 1) AS batch
        WHERE batch_id IS NOT NULL
    ), """
LIMIT_KEYS = "CAST(%(limit_keys)s AS text[])"
TAKEN = "SELECT count(*), (SELECT count(*) FROM woken) FROM added"
JOINED_OR_NOT = (
    "SELECT count(*), (SELECT count(*) FROM woken), "
    "(SELECT batch_id::text || ' ' || became FROM joined WHERE became <> 'open' LIMIT 1) FROM added"
)
MEMBER_COLUMNS = "idempotency_key, traceparent, limit_key, batch_id)"
IF_ALL_ARE_OPEN = "WHERE NOT EXISTS (SELECT FROM joined WHERE became <> 'open')"
INSERT_MEMBERS = (
    INSERT_LIMITED_JOBS.replace("WITH ", JOINED, 1)
    .replace(LIMITED_COLUMNS, MEMBER_COLUMNS)
    .replace("traceparent, limit_key\n        FROM", "traceparent, limit_key, batch_id::uuid\n        FROM")
    .replace("traceparent, limit_key\n        )", f"traceparent, limit_key, batch_id\n        ) {IF_ALL_ARE_OPEN}")
    .replace(LIMIT_KEYS, f"{LIMIT_KEYS}, CAST(%(batch_ids)s AS text[])")
    .replace(TAKEN, JOINED_OR_NOT)
)
INSERT_DEPENDENT_MEMBERS = (
    INSERT_LIMITED_DEPENDENT_JOBS.replace("WITH ", JOINED, 1)
    .replace(LIMITED_COLUMNS, MEMBER_COLUMNS)
    .replace("traceparent, limit_key\n        FROM", "traceparent, limit_key, batch_id::uuid\n        FROM")
    .replace("rule, limit_key\n        )", f"rule, limit_key, batch_id\n        ) {IF_ALL_ARE_OPEN}")
    .replace(LIMIT_KEYS, f"{LIMIT_KEYS}, CAST(%(batch_ids)s AS text[])")
    .replace(TAKEN, JOINED_OR_NOT)
)
# Members of one batch, which the transaction has joined.
COPY_DUE_MEMBERS = """
    COPY _ayb_jobs (id, payload, type, queue, priority, max_attempts, traceparent, batch_id) FROM STDIN
"""
JOIN_BATCH = "SELECT _ayb_job_batch_join(CAST(%(batch_id)s AS text)::uuid)"

OPEN_BATCH = """
    SELECT _ayb_job_batch_open(
        CAST(%(description)s AS text), CAST(%(callbacks)s AS text)::jsonb, CAST(%(traceparent)s AS text)
    )::text
"""
SEAL_BATCH = "SELECT _ayb_job_batch_seal(CAST(%(batch_id)s AS text)::uuid)"

# One job with a unique key. What it needs beside an insert is the function's: it may replace a job that waits.
ENQUEUE_UNIQUE = """
    SELECT job_id::text, became
    FROM _ayb_job_enqueue(
        CAST(%(type)s AS text), CAST(%(payload)s AS text)::jsonb, CAST(%(queue)s AS text), CAST(%(priority)s AS int),
        CAST(%(max_attempts)s AS int), CAST(%(run_at)s AS text)::timestamptz, CAST(%(delay)s AS text)::interval,
        CAST(%(traceparent)s AS text), CAST(%(unique_key)s AS text), CAST(%(unique_by)s AS text[]),
        CAST(%(scope)s AS text), CAST(%(on_conflict)s AS text), CAST(%(max_wait)s AS text)::interval
    )
"""

# The key that `_ayb_job_enqueue` makes of what the caller says.
HASHED = """
        sha256(pg_catalog.convert_to(
            length(type)::text || ':' || type || coalesce(
                'k' || unique_key,
                'f' || (
                    SELECT pg_catalog.jsonb_object_agg(field, payload -> field)::text
                    FROM jsonb_array_elements_text(unique_by::jsonb) AS field
                )
            ), 'UTF8'))
"""

# The order in which unique jobs are enqueued one by one: that of `INSERT_UNIQUE_JOBS`, for the same reason.
ORDER_UNIQUE_JOBS = f"""
    SELECT string_agg(number::text, ' ' ORDER BY hashed, number)
    FROM (
        SELECT number, {HASHED} AS hashed
        FROM (
            SELECT asked.number, asked.type, asked.payload_text::jsonb AS payload, asked.unique_key, asked.unique_by
            FROM unnest(
                CAST(%(types)s AS text[]), CAST(%(payloads)s AS text[]), CAST(%(unique_keys)s AS text[]),
                CAST(%(unique_bys)s AS text[])
            ) WITH ORDINALITY AS asked (type, payload_text, unique_key, unique_by, number)
        ) AS given
    ) AS keyed
"""

# Many jobs with unique keys; those whose keys are held are left out. They are inserted in the order of their keys, so
# that two calls with the same ones wait for each other and never deadlock.
INSERT_UNIQUE_JOBS = f"""
    WITH asked AS MATERIALIZED (
        SELECT asked.*, asked.payload_text::jsonb AS payload
        FROM unnest(
            CAST(%(ids)s AS text[]), CAST(%(types)s AS text[]), CAST(%(payloads)s AS text[]), CAST(%(queues)s AS text[]),
            CAST(%(priorities)s AS int[]), CAST(%(max_attempts)s AS int[]), CAST(%(run_ats)s AS text[]),
            CAST(%(delays)s AS text[]), CAST(%(traceparents)s AS text[]), CAST(%(unique_keys)s AS text[]),
            CAST(%(unique_bys)s AS text[]), CAST(%(scopes)s AS text[])
        ) AS asked (
            id, type, payload_text, queue, priority, max_attempts, run_at, delay, traceparent, unique_key, unique_by, scope
        )
    ), keyed AS (
        SELECT asked.*, {HASHED} AS hashed
        FROM asked
    ), added AS (
        INSERT INTO _ayb_jobs
            (id, type, payload, queue, priority, max_attempts, run_at, traceparent, unique_key, unique_waiting)
        SELECT id::uuid, type, payload, queue, priority::smallint, max_attempts,
            coalesce(run_at::timestamptz, now() + delay::interval, now()), traceparent, hashed, scope = 'waiting'
        FROM keyed
        ORDER BY hashed, id
        ON CONFLICT DO NOTHING
        RETURNING run_at
    ), woken AS (
        SELECT CASE WHEN {MAY_NOTIFY} THEN pg_notify('ayb_jobs', '')::text END FROM added WHERE run_at <= now() LIMIT 1
    )
    SELECT count(*), (SELECT count(*) FROM woken) FROM added
"""

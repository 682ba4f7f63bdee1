"""The event log: a trigger that writes down each change of a job, in the transaction that makes it."""

import time
from collections.abc import Iterator

from ayb_jobs.lab.checker import BatchLife, Dependency, Event, Snapshot
from ayb_jobs.storage.database import Connection

# After the change, so that the row is locked: the numbers of one job's events are in the order of its changes.
# Statements without an order of time (`clock_timestamp`) would all bear the instant of their transaction's beginning.
INSTALL = r"""
    CREATE TABLE _ayb_job_events (
        seq bigint GENERATED ALWAYS AS IDENTITY,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        writer text NOT NULL DEFAULT regexp_replace(current_setting('application_name'), '^ayb-torture-\w+ ', ''),
        backend int NOT NULL DEFAULT pg_backend_pid(),
        change text NOT NULL,
        was _ayb_jobs,
        became _ayb_jobs
    );
    CREATE TABLE _ayb_job_torture_effects (job_id uuid NOT NULL);
    CREATE TABLE _ayb_job_torture_elsewhere (
        job_id uuid NOT NULL, attempt int NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE TABLE _ayb_job_torture_rubbish (key text PRIMARY KEY);
    CREATE TABLE _ayb_job_torture_edges (child_id uuid NOT NULL, parent_id uuid NOT NULL, rule text NOT NULL);
    CREATE OR REPLACE FUNCTION _ayb_job_log_event() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO _ayb_job_events (change, became) VALUES ('insert', NEW);
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO _ayb_job_events (change, was) VALUES ('delete', OLD);
        ELSE
            INSERT INTO _ayb_job_events (change, was, became) VALUES ('update', OLD, NEW);
        END IF;
        RETURN NULL;
    END
    $$;
    CREATE OR REPLACE FUNCTION _ayb_job_log_edge() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        INSERT INTO _ayb_job_torture_edges VALUES (NEW.child_id, NEW.parent_id, NEW.rule);
        RETURN NULL;
    END
    $$;
    CREATE OR REPLACE FUNCTION _ayb_job_leave_rubbish() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        INSERT INTO _ayb_job_torture_rubbish VALUES (NEW.idempotency_key) ON CONFLICT DO NOTHING;
        RETURN NULL;
    END
    $$;
    CREATE OR REPLACE FUNCTION _ayb_job_log_cleanup() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        INSERT INTO _ayb_job_torture_elsewhere (job_id, attempt)
        SELECT id, attempts FROM _ayb_jobs WHERE idempotency_key = OLD.key;
        RETURN NULL;
    END
    $$;
    CREATE OR REPLACE TRIGGER _ayb_job_log_event AFTER INSERT OR UPDATE OR DELETE ON _ayb_jobs
        FOR EACH ROW EXECUTE FUNCTION _ayb_job_log_event();
    CREATE OR REPLACE TRIGGER _ayb_job_log_edge AFTER INSERT ON _ayb_job_dependencies
        FOR EACH ROW EXECUTE FUNCTION _ayb_job_log_edge();
    CREATE OR REPLACE TRIGGER _ayb_job_leave_rubbish AFTER INSERT ON _ayb_jobs
        FOR EACH ROW WHEN (NEW.type = 'torture_cleanup') EXECUTE FUNCTION _ayb_job_leave_rubbish();
    CREATE TRIGGER _ayb_job_log_cleanup AFTER DELETE ON _ayb_job_torture_rubbish
        FOR EACH ROW EXECUTE FUNCTION _ayb_job_log_cleanup();
"""
UNINSTALL = """
    DROP TRIGGER IF EXISTS _ayb_job_log_event ON _ayb_jobs;
    DROP TRIGGER IF EXISTS _ayb_job_log_edge ON _ayb_job_dependencies;
    DROP TRIGGER IF EXISTS _ayb_job_leave_rubbish ON _ayb_jobs;
    DROP TABLE IF EXISTS _ayb_job_events, _ayb_job_torture_effects, _ayb_job_torture_elsewhere, _ayb_job_torture_edges,
        _ayb_job_torture_rubbish;
    DROP FUNCTION IF EXISTS _ayb_job_log_event, _ayb_job_log_edge, _ayb_job_leave_rubbish, _ayb_job_log_cleanup;
"""


def install(conn: Connection) -> None:
    """Begin an empty event log."""
    conn.execute(UNINSTALL)
    conn.execute(INSTALL)


def uninstall(conn: Connection) -> None:
    """Remove the event log."""
    conn.execute(UNINSTALL)


# Beyond any instant that is compared stands infinity, for which there is no number of seconds in PostgreSQL before 17.
READ = """
    SELECT seq, extract(epoch FROM at)::float8, change, coalesce((became).id, (was).id)::text,
        coalesce((became).type, (was).type), coalesce((became).idempotency_key, (was).idempotency_key),
        (was).state, (became).state, coalesce((was).attempts, 0), coalesce((became).attempts, 0),
        coalesce((became).max_attempts, (was).max_attempts), coalesce((was).crashes, 0), coalesce((became).crashes, 0),
        coalesce((was).lease_id, (was).canceling_lease_id)::text,
        coalesce((became).lease_id, (became).canceling_lease_id)::text, extract(epoch FROM (was).lease_until)::float8,
        extract(epoch FROM (became).lease_until)::float8,
        extract(epoch FROM coalesce((became).run_at, (was).run_at))::float8,
        coalesce((became).schedule_id, (was).schedule_id)::text,
        extract(epoch FROM coalesce((became).scheduled_for, (was).scheduled_for))::float8, writer,
        (became).canceling_lease_id IS NOT NULL AND (was).lease_until IS NOT DISTINCT FROM (became).lease_until,
        (became).payload ->> 'unique', coalesce((became).payload ->> 'unique' LIKE 'waiting%', false),
        coalesce((became).limited_key, (was).limited_key), extract(epoch FROM (became).last_run_at)::float8
    FROM _ayb_job_events
    ORDER BY seq
"""


def read(conn: Connection, offset_s: float) -> list[Event]:
    """Return the log; `offset_s` is added to the database's clock to make it the reader's."""
    with conn.transaction(), conn.cursor("events") as cursor:
        cursor.itersize = 20_000
        return list(_events(cursor.execute(READ), offset_s))


def _events(rows: Iterator[tuple[object, ...]], offset_s: float) -> Iterator[Event]:
    names = ("at", "was_lease_until", "lease_until", "run_at", "scheduled_for", "leased_at")
    instants = [Event._fields.index(name) for name in names]
    for row in rows:
        values = list(row)
        for index in instants:
            value = values[index]
            if isinstance(value, float):
                values[index] = value + offset_s
        yield Event._make(values)


COUNT_EFFECTS = "SELECT job_id::text, count(*) FROM _ayb_job_torture_effects GROUP BY job_id"


def committed_effects(conn: Connection) -> dict[str, int]:
    """Return how often each transactional job left its effect."""
    return {row[0]: row[1] for row in conn.execute(COUNT_EFFECTS)}


READ_EDGES = "SELECT child_id::text, parent_id::text, rule FROM _ayb_job_torture_edges"


def edges(conn: Connection) -> list[Dependency]:
    """Return which job was enqueued to wait for which."""
    return [Dependency(*row) for row in conn.execute(READ_EDGES)]


READ_BATCHES = """
    WITH inserted AS MATERIALIZED (
        SELECT (became).id::text AS id, (became).batch_id AS batch_id, (became).payload -> 'batch' AS told
        FROM _ayb_job_events
        WHERE change = 'insert' AND ((became).batch_id IS NOT NULL OR (became).payload ? 'batch')
    ), members AS MATERIALIZED (
        SELECT batch_id, array_agg(id ORDER BY id) AS ids FROM inserted WHERE batch_id IS NOT NULL GROUP BY batch_id
    ), called AS MATERIALIZED (
        SELECT told ->> 'id' AS batch_id, array_agg(told ->> 'event' ORDER BY id) AS events, array_agg(id ORDER BY id) AS ids
        FROM inserted
        WHERE batch_id IS NULL
        GROUP BY 1
    )
    SELECT batch.id::text, batch.sealed_at IS NOT NULL, coalesce(members.ids, '{}'), coalesce(called.events, '{}'),
        coalesce(called.ids, '{}')
    FROM _ayb_job_batches AS batch
    LEFT JOIN members ON members.batch_id = batch.id
    LEFT JOIN called ON called.batch_id = batch.id::text
"""


def batches(conn: Connection) -> list[BatchLife]:
    """Return the batches, with their members and the callbacks that were enqueued."""
    return [
        BatchLife(id_, is_sealed, members, list(zip(events, ids, strict=True)))
        for id_, is_sealed, members, events, ids in conn.execute(READ_BATCHES)
    ]


CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"


def clock_offset(conn: Connection) -> tuple[float, float]:
    """Return what, added to the database's clock, makes it the monotonic one, and by how much that may be wrong."""
    best: tuple[float, float] | None = None
    for _ in range(20):
        before = time.monotonic()
        row = conn.execute(CLOCK).fetchone()
        after = time.monotonic()
        assert row is not None
        error_s = (after - before) / 2
        if best is None or error_s < best[1]:
            best = ((before + after) / 2 - float(row[0]), error_s)
    assert best is not None
    return best


# One statement, and so one snapshot.
COUNT = """
    SELECT (SELECT jsonb_object_agg(state, count) FROM (SELECT state, count(*) FROM _ayb_jobs GROUP BY state) AS states),
        (SELECT count(*) FROM _ayb_job_events WHERE change = 'insert'),
        (SELECT count(*) FROM _ayb_job_events WHERE change = 'delete')
"""


def count(conn: Connection, at: float) -> Snapshot:
    """Return the table's rows by state beside what the log says went in and out."""
    row = conn.execute(COUNT).fetchone()
    assert row is not None
    return Snapshot(at=at, rows=row[0] or {}, inserted=row[1], deleted=row[2])

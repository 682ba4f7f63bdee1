"""Whatever of ours runs on a handler's connection means PostgreSQL's own operators and functions, and nobody else's."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.resources import files

import psycopg
import pytest
from psycopg import sql

from ayb_jobs import AsyncJobContext
from ayb_jobs.config import Config, Handlers
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.kinds.batches import Delete, delete_in_batches
from ayb_jobs.handlers.owners import AnothersTable, refuse_anothers
from ayb_jobs.handlers.packs import build_registry, prune_webhook_deliveries
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from tests.eventually import eventually
from tests.factories import make_job
from tests.running import running
from tests.traps import traps

HEARD = """
    CREATE SCHEMA app;
    CREATE TABLE app.heard (at text);
    CREATE FUNCTION app.hear() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO heard VALUES (TG_ARGV[0]);
        RETURN NEW;
    END
    $$;
    CREATE TRIGGER hear BEFORE UPDATE ON _ayb_jobs FOR EACH ROW
        WHEN (NEW.state = 'completed') EXECUTE FUNCTION app.hear('change');
    CREATE CONSTRAINT TRIGGER hear_at_commit AFTER UPDATE ON _ayb_jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        WHEN (NEW.state = 'completed') EXECUTE FUNCTION app.hear('commit');
"""
MATVIEW = """
    CREATE TABLE _ayb_matview_refreshes (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), schema_name varchar(63) NOT NULL, view_name varchar(63) NOT NULL,
        refresh_mode varchar(20) NOT NULL DEFAULT 'standard', last_refresh_at timestamptz, last_refresh_duration_ms int,
        last_refresh_status varchar(20), last_refresh_error text, updated_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (schema_name, view_name)
    );
    CREATE MATERIALIZED VIEW leaderboard AS SELECT 1 AS place;
"""


def ended(conn: Connection) -> list[tuple[str, str, str | None]]:
    """Return how each job ended, by type; none before all have."""
    rows = conn.execute("SELECT type::text, state::text, last_error FROM public._ayb_jobs ORDER BY 1").fetchall()
    return [] if {"queued", "running"} & {row[1] for row in rows} else [(row[0], row[1], row[2]) for row in rows]


def handlers() -> Registry:
    registry = Registry()

    @registry.handler("plain")
    def plain(ctx: JobContext) -> None:
        with ctx.transaction() as own:
            own.execute("SET LOCAL search_path = app, public")

    @registry.handler("awaited")
    async def awaited(ctx: AsyncJobContext) -> None:
        async with ctx.transaction() as own:
            await own.execute("SET LOCAL search_path = app, public")

    return registry


@pytest.mark.parametrize("job_type", ["plain", "awaited"])
def test_a_transaction_that_completes_its_job_means_built_in_operators_and_leaves_triggers_their_path(
    database_url: str, conn: Connection, job_type: str
) -> None:
    conn.execute(HEARD)
    make_job(conn, type=job_type)
    with traps(conn, ahead=True), running(database_url, handlers(), poll_interval_ms=100):
        eventually(lambda: ended(conn))
        assert ended(conn) == [(job_type, "completed", None)]
    assert sorted(conn.execute("SELECT at FROM app.heard").fetchall()) == [("change",), ("commit",)]


def test_a_transaction_whose_completion_a_trigger_refuses_asks_why_with_built_in_operators(
    database_url: str, conn: Connection
) -> None:
    conn.execute("""
        CREATE SCHEMA app;
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER keep BEFORE UPDATE ON _ayb_jobs FOR EACH ROW
            WHEN (NEW.state = 'completed') EXECUTE FUNCTION keep();
    """)
    make_job(conn, type="plain", max_attempts=1)
    make_job(conn, type="awaited", max_attempts=1)
    with traps(conn, ahead=True), running(database_url, handlers(), poll_interval_ms=100):
        eventually(lambda: ended(conn))
        for _, state, error in ended(conn):
            assert state == "failed"
            assert "left the row as it was" in (error or "")


def test_the_jobs_of_the_packs_mean_built_in_operators(database_url: str, conn: Connection) -> None:
    conn.execute(files("ayb_jobs.lab.demo").joinpath("tables.sql").read_bytes())
    conn.execute(MATVIEW)
    registry = build_registry(Config(handlers=Handlers(packs=["ayb", "barycenter"])))
    for job_type in registry.types():
        payload = {"view_name": "leaderboard"} if job_type.name == "materialized_view_refresh" else {}
        make_job(conn, type=job_type.name, payload=payload, max_attempts=1)
    with traps(conn, ahead=True), running(database_url, registry, poll_interval_ms=100):
        eventually(lambda: ended(conn), within_s=60)
        assert [one for one in ended(conn) if one[1] != "completed"] == []


def test_the_pruning_of_a_disabled_daemon_means_built_in_operators(database_url: str, conn: Connection) -> None:
    conn.execute(files("ayb_jobs.lab.demo").joinpath("tables.sql").read_bytes())
    with traps(conn, ahead=True), closing(Database(database_url)) as database:
        assert prune_webhook_deliveries(database) > 0


SQUAT = """
    CREATE FUNCTION public.run() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'trapped %', current_user;
    END
    $$;
    CREATE TABLE public._ayb_sessions (expires_at timestamptz DEFAULT '2000-01-01');
    CREATE TABLE public._ayb_webhook_deliveries (delivered_at timestamptz DEFAULT '2000-01-01');
    CREATE TABLE public._ayb_matview_refreshes (
        schema_name text, view_name text, refresh_mode text, UNIQUE (schema_name, view_name)
    );
    CREATE TABLE public.sessions (expires_at bigint DEFAULT 0) PARTITION BY LIST (expires_at);
    CREATE TABLE public.some PARTITION OF public.sessions DEFAULT;
    CREATE VIEW public.refresh_tokens AS SELECT 0::bigint AS expires_at;
"""
SQUATTED = ["_ayb_sessions", "_ayb_webhook_deliveries", "_ayb_matview_refreshes", "some", "refresh_tokens"]
JOBS = {
    "stale_session_cleanup": {}, "webhook_delivery_prune": {}, "materialized_view_refresh": {"view_name": "scores"},
    "cleanup_expired_sessions": {}, "cleanup_expired_refresh_tokens": {},
}  # fmt: skip


def test_a_built_in_job_leaves_alone_what_another_role_has_made_under_its_tables_name(
    database_url: str, conn: Connection
) -> None:
    conn.execute("CREATE MATERIALIZED VIEW scores AS SELECT 1 AS place")
    registry = build_registry(Config(handlers=Handlers(packs=["ayb", "barycenter"])))
    for job_type, payload in JOBS.items():
        make_job(conn, type=job_type, payload=payload, max_attempts=1)
    with traps(conn) as mallory:
        conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(mallory)))
        conn.execute(SQUAT)
        for table in SQUATTED:
            when = "INSTEAD OF DELETE" if table == "refresh_tokens" else "BEFORE DELETE OR INSERT"
            squat = "CREATE TRIGGER run {} ON public.{} FOR EACH ROW EXECUTE FUNCTION public.run()"
            if table not in {"_ayb_matview_refreshes", "refresh_tokens"}:
                conn.execute(sql.SQL("INSERT INTO public.{} DEFAULT VALUES").format(sql.Identifier(table)))
            conn.execute(sql.SQL(squat).format(sql.SQL(when), sql.Identifier(table)))
        conn.execute("RESET ROLE")
        with running(database_url, registry, poll_interval_ms=100):
            eventually(lambda: ended(conn), within_s=60)
        assert [job_type for job_type, *_ in ended(conn)] == sorted(JOBS)
        for _, state, error in ended(conn):
            assert state == "failed"
            assert f"belongs to the role {mallory}, who could run code as postgres by a trigger" in (error or "")
        with closing(Database(database_url)) as database, pytest.raises(AnothersTable):
            prune_webhook_deliveries(database)


def test_a_built_in_job_takes_the_tables_of_a_role_that_the_daemon_belongs_to_or_that_owns_ours(
    database_url: str, conn: Connection
) -> None:
    app, worker = (f"{name}_{conn.info.dbname}" for name in ("app", "worker"))
    conn.execute(files("ayb_jobs.lab.demo").joinpath("tables.sql").read_bytes())
    for role in (app, worker):
        conn.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    try:
        conn.execute(sql.SQL("ALTER TABLE _ayb_sessions OWNER TO {}").format(sql.Identifier(app)))
        conn.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(worker)))
        with pytest.raises(AnothersTable, match=f"belongs to the role {app}"):
            refuse_anothers(conn, "_ayb_sessions")
        conn.execute("RESET ROLE")
        for trust in ("ALTER TABLE _ayb_jobs OWNER TO {app}", "GRANT {app} TO {worker}"):
            conn.execute("BEGIN")
            conn.execute(sql.SQL(trust).format(app=sql.Identifier(app), worker=sql.Identifier(worker)))
            conn.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(worker)))
            refuse_anothers(conn, "public", "_ayb_sessions")
            conn.execute("ROLLBACK")
    finally:
        conn.execute("RESET ROLE")
        for role in (app, worker):
            conn.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@pytest.mark.parametrize("indexed", [False, True], ids=["walked", "found-by-an-index"])
@pytest.mark.parametrize("locked", [False, True], ids=["free", "locked"])
def test_whatever_surrounds_the_condition_of_a_cleanup_means_built_in_operators(
    database_url: str, conn: Connection, *, indexed: bool, locked: bool
) -> None:
    conn.execute("CREATE TABLE things (id int) PARTITION BY RANGE (id)")
    conn.execute("CREATE TABLE few PARTITION OF things FOR VALUES FROM (0) TO (1000)")
    conn.execute("INSERT INTO things SELECT generate_series(1, 999)")
    if indexed:
        conn.execute("CREATE INDEX ON things (id)")
    conn.execute("ANALYZE things")
    delete = Delete(table="things", where="id OPERATOR(pg_catalog.<) 10", batch_size=5)
    with traps(conn, ahead=True), closing(Database(database_url)) as database, psycopg.connect(database_url) as other:
        if locked:
            other.execute("SELECT FROM public.things WHERE id OPERATOR(pg_catalog.=) 3 FOR UPDATE")
        assert sum(delete_in_batches(lambda: transaction(database), delete, {})) == (8 if locked else 9)


@contextmanager
def transaction(database: Database) -> Iterator[Connection]:
    with database.work() as conn, conn.transaction():
        yield conn

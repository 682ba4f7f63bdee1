"""Whatever of ours runs on a handler's connection means PostgreSQL's own operators and functions, and nobody else's."""

import pytest

from ayb_jobs import AsyncJobContext
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.registry import Registry
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
    with traps(conn), running(database_url, handlers(), poll_interval_ms=100):
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
    with traps(conn), running(database_url, handlers(), poll_interval_ms=100):
        eventually(lambda: ended(conn))
        for _, state, error in ended(conn):
            assert state == "failed"
            assert "left the row as it was" in (error or "")

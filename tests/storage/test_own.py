"""Whoever may create objects on the search path runs nothing as the daemon's role."""

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from ayb_jobs.checks.server import open_schemas
from ayb_jobs.errors import MigrationError
from ayb_jobs.handlers.registry import Registry
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect, connect_for_ourselves
from ayb_jobs.storage.migrate import migrate
from ayb_jobs.storage.own import Surroundings, find_surroundings, qualified
from ayb_jobs.storage.queue.jobs import cancel_job, list_jobs
from ayb_jobs.storage.queue.stats import job_stats
from tests.eventually import eventually
from tests.factories import make_job, make_schedule
from tests.pgbouncer import PgBouncer
from tests.running import running

# An operator that fits `state = 'queued'` better than PostgreSQL's own, and tells who ran it.
TRAP = """
    CREATE TABLE {schema}.trapped (who name);
    GRANT INSERT ON {schema}.trapped TO PUBLIC;
    GRANT USAGE ON SCHEMA {schema} TO PUBLIC;
    CREATE FUNCTION {schema}.trap(varchar, text) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO {schema}.trapped VALUES (current_user);
        RETURN $1::text OPERATOR(pg_catalog.=) $2;
    END
    $$;
    CREATE OPERATOR {schema}.= (FUNCTION = {schema}.trap, LEFTARG = varchar, RIGHTARG = text);
"""


@pytest.fixture
def mallory(conn: Connection) -> Iterator[str]:
    """A role of the server that may create objects in `public`, which is on everybody's path."""
    role = f"mallory_{conn.info.dbname}"
    conn.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    yield role
    conn.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
    conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def set_trap(conn: Connection, role: str, schema: str) -> None:
    names = {"role": sql.Identifier(role), "schema": sql.Identifier(schema)}
    conn.execute(sql.SQL("GRANT CREATE, USAGE ON SCHEMA {schema} TO {role}").format(**names))
    conn.execute(sql.SQL("SET ROLE {role}").format(**names))
    conn.execute(sql.SQL(TRAP).format(**names))
    conn.execute("RESET ROLE")


def trapped(conn: Connection, schema: str) -> object:
    row = conn.execute(sql.SQL("SELECT count(*) FROM {}.trapped").format(sql.Identifier(schema))).fetchone()
    return row and row[0]


@pytest.mark.parametrize("schema", ["public", "shared"])
def test_an_operator_of_another_role_runs_in_no_statement_of_ours(
    schema: str, mallory: str, database_url: str, conn: Connection
) -> None:
    if schema != "public":
        conn.execute("CREATE SCHEMA shared")
        database = sql.Identifier(conn.info.dbname)
        conn.execute(sql.SQL("ALTER DATABASE {} SET search_path = shared, public").format(database))
    set_trap(conn, mallory, schema)
    with closing(connect(database_url)) as theirs:  # the trap is one
        theirs.execute("SELECT FROM _ayb_jobs WHERE type = 'x'::text")
        make_job(theirs, type="x")
        theirs.execute("SELECT FROM _ayb_jobs WHERE state = 'queued'")
        assert trapped(theirs, schema) == 1
        theirs.execute(sql.SQL("DELETE FROM {}.trapped").format(sql.Identifier(schema)))
        theirs.execute("SET search_path = pg_catalog, public")
    registry = Registry()
    registry.handler("test")(lambda _: None)
    with closing(connect(database_url)) as made:
        make_schedule(made)
    with running(database_url, registry, scheduler_enabled=True, scheduler_tick_s=1):
        eventually(lambda: "completed" in states(conn), within_s=30)
    with closing(connect_for_ourselves(database_url, name="test")) as ours:
        list_jobs(ours, state=None)
        job_stats(ours)
    with closing(Database(database_url, users_sql=False)) as http, http.work() as ours:
        cancel_job(ours, make_job(conn))
    assert trapped(conn, schema) == 0


def states(conn: Connection) -> set[str]:
    return {state for (state,) in conn.execute('SELECT DISTINCT state::text COLLATE "C" FROM public._ayb_jobs')}


def test_what_was_made_before_the_right_was_taken_away_runs_in_no_statement_of_ours(
    mallory: str, database_url: str, conn: Connection
) -> None:
    make_job(conn)
    set_trap(conn, mallory, "public")
    conn.execute(sql.SQL("REVOKE CREATE ON SCHEMA public FROM {}").format(sql.Identifier(mallory)))
    with closing(connect_for_ourselves(database_url, name="test")) as ours:
        list_jobs(ours, state=None)
        job_stats(ours)
        assert [finding.name for finding in open_schemas(ours)] == ["schema.shadowed"]
    assert trapped(conn, "public") == 0


@pytest.mark.parametrize(
    ("made", "path"),
    [
        ("CREATE FUNCTION public.lower(varchar) RETURNS text LANGUAGE sql RETURN $1", "pg_temp"),
        ("CREATE FUNCTION public.theirs(varchar) RETURNS text LANGUAGE sql RETURN $1", "public, pg_temp"),
    ],
)
def test_another_roles_function_of_a_builtins_name_takes_a_schema_off_the_path(
    made: str, path: str, mallory: str, database_url: str, conn: Connection
) -> None:
    role = sql.Identifier(mallory)
    conn.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(role))
    conn.execute(sql.SQL("SET ROLE {}").format(role))
    conn.execute(made.encode())
    conn.execute("RESET ROLE")
    conn.execute(sql.SQL("REVOKE CREATE ON SCHEMA public FROM {}").format(role))
    with closing(connect_for_ourselves(database_url, name="test")) as ours:
        assert ours.execute("SHOW search_path").fetchone() == (path,)


def test_the_builtins_come_first_whatever_the_path_says(database_url: str, conn: Connection) -> None:
    database = sql.Identifier(conn.info.dbname)
    conn.execute(sql.SQL("ALTER DATABASE {} SET search_path = public, pg_catalog").format(database))
    with closing(connect_for_ourselves(database_url, name="test")) as ours:
        assert ours.execute("SHOW search_path").fetchone() == ("public, pg_temp",)


def test_behind_a_pooler_a_commands_path_is_as_safe(
    mallory: str, database_url: str, conn: Connection, pgbouncer: PgBouncer
) -> None:
    make_job(conn)
    set_trap(conn, mallory, "public")
    with closing(connect_for_ourselves(pgbouncer.url(database_url), name="test")) as ours:
        list_jobs(ours)
        with ours.transaction(), ours.transaction():
            job_stats(ours)
        assert ours.execute("SHOW search_path").fetchone() == ("pg_temp",)
    with closing(connect(pgbouncer.url(database_url))) as others:
        assert others.execute("SHOW search_path").fetchone() == ('"$user", public',)
    assert trapped(conn, "public") == 0


def test_a_first_migration_makes_tables_where_the_path_leads_though_others_may_create_there(
    mallory: str, empty_database_url: str
) -> None:
    with closing(connect(empty_database_url)) as conn:
        set_trap(conn, mallory, "public")
        with closing(connect_for_ourselves(empty_database_url, name="test")) as ours:
            migrate(ours)
        assert len(list_jobs(conn)) == 0
        assert trapped(conn, "public") == 0
        conn.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(mallory)))  # fails if anything depends on it


def test_without_a_schema_to_make_tables_in_a_migration_is_refused(empty_database_url: str) -> None:
    with closing(connect(empty_database_url)) as conn:
        database = sql.Identifier(conn.info.dbname)
        conn.execute(sql.SQL("ALTER DATABASE {} SET search_path = nowhere").format(database))
    with (
        closing(connect_for_ourselves(empty_database_url, name="test")) as ours,
        pytest.raises(MigrationError, match="no schema of the search path exists"),
    ):
        migrate(ours)


def test_behind_a_pooler_the_loops_path_is_as_safe(
    mallory: str, database_url: str, conn: Connection, pgbouncer: PgBouncer
) -> None:
    make_job(conn)
    set_trap(conn, mallory, "public")
    with closing(Database(pgbouncer.url(database_url))) as database, database.connection() as ours:
        list_jobs(ours)
        job_stats(ours)
        assert ours.execute("SHOW search_path").fetchone() == ("pg_temp",)
    assert trapped(conn, "public") == 0


@pytest.mark.parametrize(
    "squat",
    [
        "CREATE FUNCTION public._ayb_job_id() RETURNS uuid LANGUAGE sql AS 'SELECT gen_random_uuid()'",
        "CREATE TABLE public._ayb_jobs_migrations (version int)",
        "CREATE TABLE public._ayb_jobs (id uuid)",
        "CREATE SEQUENCE public._ayb_job_execution_ids",
        "CREATE TYPE public._ayb_job_fires AS (a int)",
        "CREATE FUNCTION ayb_jobs.ayb_jobs_cancel(id uuid) RETURNS uuid LANGUAGE sql RETURN id",
    ],
)
def test_what_another_role_has_made_under_our_names_is_refused(empty_database_url: str, squat: str) -> None:
    name = conninfo_to_dict(empty_database_url)["dbname"]
    role = sql.Identifier(f"squatter_{name}")
    with closing(connect(empty_database_url)) as conn:
        conn.execute(sql.SQL("CREATE ROLE {}").format(role))
        conn.execute("CREATE SCHEMA ayb_jobs")
        conn.execute(sql.SQL("GRANT USAGE, CREATE ON SCHEMA public, ayb_jobs TO {}").format(role))
        conn.execute(sql.SQL("SET ROLE {}").format(role))
        conn.execute(squat.encode())
        conn.execute("RESET ROLE")
        with pytest.raises(MigrationError, match=f"belongs to the role squatter_{name}"):
            migrate(conn)
        conn.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(role))
        assert migrate(conn).migrations
        conn.execute(sql.SQL("DROP ROLE {}").format(role))


def test_no_operator_of_another_role_gets_into_what_a_migration_makes(empty_database_url: str) -> None:
    name = conninfo_to_dict(empty_database_url)["dbname"]
    role = f"mallory_{name}"
    with closing(connect(empty_database_url)) as conn:
        conn.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
        set_trap(conn, role, "public")
        migrate(conn)
        conn.execute("SET search_path = pg_catalog")
        conn.execute("INSERT INTO public._ayb_jobs (type) VALUES ('x')")
        assert trapped(conn, "public") == 0
        conn.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))  # fails if anything depends on it
        conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def test_a_schema_in_which_nobody_else_may_create_stays_on_the_path(database_url: str, conn: Connection) -> None:
    conn.execute('CREATE SCHEMA "Own, ""app"""')
    conn.execute("CREATE TABLE public.heard (id uuid)")
    conn.execute("""
        CREATE FUNCTION public.hear() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO heard VALUES (NEW.id); RETURN NEW; END'
    """)
    conn.execute("CREATE TRIGGER hear BEFORE UPDATE ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION hear()")
    job_id = make_job(conn)
    database = sql.Identifier(conn.info.dbname)
    conn.execute(sql.SQL('ALTER DATABASE {} SET search_path = "Own, ""app""", public').format(database))
    with closing(connect_for_ourselves(database_url, name="test")) as ours:
        cancel_job(ours, job_id)
        assert ours.execute("SHOW search_path").fetchone() == ('"Own, ""app""", public, pg_temp',)
    assert conn.execute("SELECT id::text FROM heard").fetchall() == [(job_id,)]


def test_users_sql_keeps_its_path(database_url: str, conn: Connection, mallory: str) -> None:
    conn.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(sql.Identifier(mallory)))
    with closing(Database(database_url)) as database, database.work() as theirs:
        assert theirs.execute("SHOW search_path").fetchone() == ('"$user", public',)


def test_our_tables_are_found_in_a_schema_off_the_safe_path(empty_database_url: str, conn: Connection) -> None:
    with closing(connect(empty_database_url)) as made:
        made.execute('CREATE SCHEMA "The Jobs"')
        database = sql.Identifier(made.info.dbname)
        made.execute(sql.SQL('ALTER DATABASE {} SET search_path = "The Jobs"').format(database))
    with closing(connect(empty_database_url)) as made:
        migrate(made)
        make_job(made)
        made.execute('GRANT CREATE ON SCHEMA "The Jobs" TO PUBLIC')
    with closing(connect_for_ourselves(empty_database_url, name="test")) as ours:
        assert ours.execute("SHOW search_path").fetchone() == ("pg_temp",)
        assert len(list_jobs(ours)) == 1


@pytest.mark.parametrize(
    ("statement", "sent"),
    [
        ("SELECT FROM _ayb_jobs AS job", "SELECT FROM s._ayb_jobs AS job"),
        ("UPDATE _ayb_jobs SET a = 1 WHERE _ayb_jobs.id = 1", "UPDATE s._ayb_jobs SET a = 1 WHERE s._ayb_jobs.id = 1"),
        ("nextval('_ayb_job_execution_ids')", "nextval('s._ayb_job_execution_ids')"),
        ("oid = '_ayb_jobs'::regclass", "oid = 's._ayb_jobs'::regclass"),
        ("hashtextextended('_ayb_job_worker ' || id, 0)", "hashtextextended('_ayb_job_worker ' || id, 0)"),
        ("hashtextextended('_ayb_jobs_migrations', 0)", "hashtextextended('_ayb_jobs_migrations', 0)"),
        ("SELECT idx_ayb_jobs_ready, fk_ayb_jobs_schedule", "SELECT idx_ayb_jobs_ready, fk_ayb_jobs_schedule"),
        ("SELECT FROM _ayb_jobber, x._ayb_jobs", "SELECT FROM _ayb_jobber, x._ayb_jobs"),
        ("_ayb_job_text(payload)", "s._ayb_job_text(payload)"),
    ],
)
def test_our_names_are_sent_with_their_schema(statement: str, sent: str) -> None:
    assert qualified(statement, "s") == sent


def test_a_statement_of_psycopgs_own_making_passes_as_it_is(database_url: str) -> None:
    with closing(connect_for_ourselves(database_url, name="test")) as ours:
        assert ours.execute(sql.SQL("SELECT {}").format(sql.Literal("_ayb_jobs"))).fetchone() == ("_ayb_jobs",)
        with pytest.raises(psycopg.errors.UndefinedTable):
            ours.execute("SELECT FROM _ayb_job_nothing")


def test_loops_that_connect_at_once_ask_once_where_our_tables_are(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    all_at_once = threading.Barrier(4)

    def find(ours: psycopg.Connection[Any]) -> Surroundings:
        asked.append(ours)
        return find_surroundings(ours)

    def connect_at_once() -> None:
        all_at_once.wait()
        with database.connection() as ours:
            ours.execute("SELECT FROM _ayb_jobs")
            all_at_once.wait()

    monkeypatch.setattr("ayb_jobs.storage.database.find_surroundings", find)
    monkeypatch.setattr("ayb_jobs.storage.connections.OTHERS_ASK_S", 30.0)
    with closing(Database(database_url)) as database:
        threads = [threading.Thread(target=connect_at_once) for _ in range(all_at_once.parties)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(asked) == 1

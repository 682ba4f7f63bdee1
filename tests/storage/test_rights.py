"""Nobody gets a right to anything of ours unasked, and `grant` gives what is needed."""

import json
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ayb_jobs.client.batches import batch
from ayb_jobs.client.enqueueing import enqueue, enqueue_many
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.unique import Unique
from ayb_jobs.storage import migrate as module
from ayb_jobs.storage import migrations, rights
from ayb_jobs.storage.database import Connection, connect, connect_for_ourselves
from ayb_jobs.storage.execution_view import keep_execution_view
from ayb_jobs.storage.migrate import migrate
from ayb_jobs.storage.migrations import shipped_migrations
from ayb_jobs.storage.queue.enqueueing import ENQUEUE, ENQUEUE_BEFORE_18
from ayb_jobs.storage.queue.jobs import list_jobs
from ayb_jobs.storage.queue.stats import job_stats
from ayb_jobs.storage.rights import Level
from ayb_jobs.storage.schedules.schedules import list_schedules
from tests.acceptance.processes import daemon
from tests.ayb_database import make_ayb_database
from tests.cli.conftest import Cli
from tests.eventually import eventually
from tests.factories import make_job, make_schedule

OURS = """
    SELECT relname::text FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'S')
        AND (relname LIKE '\\_ayb\\_job%' OR relname = 'job_execution')
    ORDER BY 1
"""
READABLE = """
    SELECT relname::text FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND (relname LIKE '\\_ayb\\_job%%' OR relname = 'job_execution')
        AND relname NOT IN ('_ayb_jobs', '_ayb_job_schedules')
        AND CASE relkind
            WHEN 'S' THEN has_sequence_privilege(%(role)s, oid, 'USAGE, SELECT, UPDATE')
            ELSE relkind IN ('r', 'v') AND (
                has_table_privilege(%(role)s, oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                OR has_any_column_privilege(%(role)s, oid, 'SELECT, INSERT, UPDATE, REFERENCES'))
        END
    UNION ALL
    SELECT proname::text FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace AND proname LIKE '\\_ayb\\_job%%' AND has_function_privilege(%(role)s, oid, 'EXECUTE')
    ORDER BY 1
"""
AYBS = "ayb_authenticated"


def names(conn: Connection, query: str, **values: object) -> list[str]:
    return [name for (name,) in conn.execute(query.encode(), values or None)]


@pytest.fixture
def role(empty_database_url: str) -> Iterator[str]:
    """A role of the server's that may log in and has no rights."""
    with made_role(empty_database_url) as name:
        yield name


@contextmanager
def made_role(url: str, kind: str = "app") -> Iterator[str]:
    name = f"{kind}_{conninfo_to_dict(url)['dbname']}"
    with closing(connect(url)) as conn:
        conn.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        try:
            yield name
        finally:
            conn.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
            conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@contextmanager
def as_role(url: str, role: str) -> Iterator[Connection]:
    with closing(connect(make_conninfo(url, user=role))) as conn:
        yield conn


def migrate_and_grant(url: str, role: str, *levels: Level) -> None:
    with closing(connect_for_ourselves(url, name="test")) as conn:
        migrate(conn)
        rights.grant(conn, "public", role, levels)


@pytest.mark.parametrize("jobs", [True, False], ids=["with AYB's queue", "without"])
def test_nothing_of_ours_is_aybs_end_users_or_everybodys(empty_database_url: str, role: str, *, jobs: bool) -> None:
    make_ayb_database(empty_database_url, jobs=jobs)
    with closing(connect(empty_database_url)) as conn:
        migrate(conn)
        assert names(conn, READABLE, role=AYBS) == []
        assert names(conn, READABLE, role=role) == []  # who has what PUBLIC has
        mine = "SELECT has_table_privilege(%s, '_ayb_jobs', 'SELECT')"
        assert conn.execute(mine.encode(), (AYBS,)).fetchone() == (jobs,)  # AYB's own table is AYB's affair


def test_default_privileges_of_an_application_give_nothing_of_ours(empty_database_url: str, role: str) -> None:
    with closing(connect(empty_database_url)) as conn:
        for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"):
            conn.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO {role}".encode())
        migrate(conn)
        assert names(conn, READABLE, role=role) == []
        assert conn.execute(b"SELECT has_table_privilege(%s, '_ayb_jobs', 'SELECT')", (role,)).fetchone() == (False,)


def test_beside_aybs_tables_the_view_comes_with_its_pack_alone(empty_database_url: str) -> None:
    make_ayb_database(empty_database_url)
    with closing(connect_for_ourselves(empty_database_url, name="test")) as conn:
        migrate(conn)
        assert "job_execution" not in names(conn, OURS)
        for _ in range(2):
            keep_execution_view(conn, wanted=True)
        assert "job_execution" in names(conn, OURS)
        assert names(conn, READABLE, role=AYBS) == []
        make_job(conn, "running", type="now")
        assert conn.execute("SELECT job_name FROM job_execution").fetchall() == [("now",)]
        for _ in range(2):
            keep_execution_view(conn, wanted=False)
        assert "job_execution" not in names(conn, OURS)


def test_elsewhere_the_view_stays_as_it_is(empty_database_url: str) -> None:
    with closing(connect_for_ourselves(empty_database_url, name="test")) as conn:
        migrate(conn)
        keep_execution_view(conn, wanted=False)
        assert "job_execution" in names(conn, OURS)
        conn.execute("DROP VIEW job_execution")
        keep_execution_view(conn, wanted=True)
        assert "job_execution" not in names(conn, OURS)


def test_barycenters_own_table_stays_beside_aybs(empty_database_url: str) -> None:
    make_ayb_database(empty_database_url)
    with closing(connect_for_ourselves(empty_database_url, name="test")) as conn:
        conn.execute("CREATE TABLE public.job_execution (id int)")
        migrate(conn)
        for wanted in (True, False):
            keep_execution_view(conn, wanted=wanted)
            assert conn.execute("SELECT relkind::text FROM pg_class WHERE relname = 'job_execution'").fetchone() is None
            assert conn.execute(b"SELECT relkind::text FROM pg_class WHERE relname = 'job_execution'").fetchone() == (
                "r",
            )


def test_an_update_of_aybs_database_takes_the_view_away(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_ayb_database(empty_database_url)
    with closing(connect(empty_database_url)) as conn:
        migrate_to(conn, 7, tmp_path, monkeypatch)
        assert "job_execution" in names(conn, OURS)
        migrate(conn)
        assert "job_execution" not in names(conn, OURS)
        assert names(conn, READABLE, role=AYBS) == []


def migrate_to(conn: Connection, version: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the database as an earlier version of the program did, which knew nothing of rights."""
    for migration in shipped_migrations()[:version]:
        (folder / f"{migration.name}.sql").write_bytes(migration.sql)
    with monkeypatch.context() as earlier:
        earlier.setattr(migrations, "_folder", lambda: folder)
        earlier.setattr(module, "settle_rights", lambda *_, **__: None)
        assert len(migrate(conn).migrations) == version


def test_an_update_leaves_rights_to_those_who_used_the_queue(
    empty_database_url: str, role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(connect(empty_database_url)) as conn:
        migrate_to(conn, 7, tmp_path, monkeypatch)
        conn.execute(f"GRANT SELECT, INSERT ON _ayb_jobs TO {role}".encode())
        conn.execute(f"GRANT SELECT, INSERT, DELETE ON _ayb_job_executions TO {role}".encode())
        migrate(conn)
        assert names(conn, READABLE, role=role) == [
            "_ayb_job_batch_callbacks",
            "_ayb_job_batch_join",
            "_ayb_job_batch_open",
            "_ayb_job_batch_seal",
            "_ayb_job_batches",
            "_ayb_job_begin_leasing",
            "_ayb_job_dependencies",
            "_ayb_job_enqueue",
            "_ayb_job_error",
            "_ayb_job_executions",
            "_ayb_job_free_successors",
            "_ayb_job_has_long_numbers",
            "_ayb_job_id",
            "_ayb_job_lease_limited",
            "_ayb_job_levels",
            "_ayb_job_limit_keys",
            "_ayb_job_limits",
            "_ayb_job_minutes",
            "_ayb_job_outputs",
            "_ayb_job_pauses",
            "_ayb_job_put_under",
            "_ayb_job_refusals",
            "_ayb_job_refuse",
            "_ayb_job_results",
            "_ayb_job_schedule_definition",
            "_ayb_job_steps",
            "_ayb_job_text",
            "_ayb_job_worker_beat",
        ]
        assert names(conn, READABLE, role="public") == []
        (tmp_path / "9999_more.sql").write_text("CREATE TABLE _ayb_job_more (); CREATE SEQUENCE _ayb_job_numbers")
        for migration in shipped_migrations():
            (tmp_path / f"{migration.name}.sql").write_bytes(migration.sql)
        monkeypatch.setattr(migrations, "_folder", lambda: tmp_path)
        assert [migration.name for migration in migrate(conn).migrations] == ["9999_more"]
        granted = "SELECT has_table_privilege(%s, '_ayb_job_more', 'INSERT'), has_table_privilege(%s, '_ayb_job_more', 'UPDATE')"
        assert conn.execute(granted.encode(), (role, role)).fetchone() == (True, False)


def test_an_update_gives_who_only_read_nothing_that_enqueues(
    empty_database_url: str, role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(connect(empty_database_url)) as conn:
        migrate_to(conn, 7, tmp_path, monkeypatch)
        conn.execute(f"GRANT SELECT ON _ayb_jobs TO {role}".encode())
        migrate(conn)
        assert "_ayb_job_enqueue" not in names(conn, READABLE, role=role)


def test_an_application_enqueues_with_what_it_is_granted_and_no_more(each_empty_database_url: str) -> None:
    with made_role(each_empty_database_url) as role:
        migrate_and_grant(each_empty_database_url, role, "enqueue")
        with as_role(each_empty_database_url, role) as app:
            made = [enqueue(app, NewJob(type="mail", idempotency_key="k")) for _ in range(2)]
            assert [job.created for job in made] == [True, False]
            assert made[0].id == made[1].id
            assert made[0].id[14] == "7"
            assert enqueue_many(app, [NewJob(type="mail"), NewJob(type="mail", idempotency_key="m")]) == 2
            unique = [NewJob(type="mail", unique=Unique(key="u", on_conflict=how)) for how in ("return", "replace")]
            assert [enqueue(app, job).created for job in unique] == [True, False]
            assert enqueue_many(app, [NewJob(type="mail", unique=Unique(key=key)) for key in ("u", "v")]) == 1
            assert enqueue(app, NewJob(type="mail", depends_on=[made[0]])).created
            with batch(app, on_done=NewJob(type="mail")) as letters:
                letters.enqueue(NewJob(type="mail"))
                assert letters.enqueue_many([NewJob(type="mail")] * 2) == 2
            app.execute("INSERT INTO _ayb_jobs (type) VALUES ('plain')")
            for refused in (
                "SELECT FROM _ayb_job_batches",
                "UPDATE _ayb_job_batches SET sealed_at = NULL",
                "SELECT payload FROM _ayb_jobs",
                "DELETE FROM _ayb_jobs",
                "SELECT FROM _ayb_job_executions",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    app.execute(refused.encode())


def test_enqueueing_and_plain_inserts_need_no_function_of_ours(each_empty_database_url: str) -> None:
    with made_role(each_empty_database_url) as role:
        with closing(connect(each_empty_database_url)) as conn:
            migrate(conn)
            conn.execute(f"GRANT INSERT, SELECT (id, run_at, idempotency_key) ON _ayb_jobs TO {role}".encode())
        with as_role(each_empty_database_url, role) as app:
            assert enqueue(app, NewJob(type="mail")).id[14] == "7"
            app.execute("INSERT INTO _ayb_jobs (type) VALUES ('plain')")


def test_the_two_statements_of_enqueue_differ_in_the_id_alone() -> None:
    early = ENQUEUE_BEFORE_18
    made = early[early.index("encode(") : early.index("::uuid,") + len("::uuid")]
    assert early.replace(made, "uuidv7()").split() == ENQUEUE.split()


def test_a_daemon_runs_with_what_it_is_granted(empty_database_url: str, role: str, tmp_path: Path) -> None:
    migrate_and_grant(empty_database_url, role, "daemon")
    with closing(connect(empty_database_url)) as conn:
        make_job(conn, type="quick")
        make_schedule(conn, job_type="quick", cron_expr="* * * * * *")
        with daemon(tmp_path, make_conninfo(empty_database_url, user=role)) as running:
            eventually(
                lambda: names(conn, "SELECT state FROM _ayb_jobs WHERE state = 'completed' OFFSET 1"), within_s=30
            )
            running.send(signal.SIGTERM)
            assert running.wait() == 0
            assert [line["error"] for line in running.events("loop.failed")] == []


def test_who_may_read_reads_everything_and_changes_nothing(empty_database_url: str, role: str) -> None:
    migrate_and_grant(empty_database_url, role, "read")
    with closing(connect(empty_database_url)) as conn:
        make_job(conn)
        make_schedule(conn)
    with as_role(empty_database_url, role) as reader:
        assert len(list_jobs(reader)) == 1
        assert job_stats(reader)
        assert len(list_schedules(reader)) == 1
        for name in names(reader, OURS):
            if name != "_ayb_job_execution_ids" and not name.endswith("_seq"):
                reader.execute(f"SELECT FROM {name}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("UPDATE _ayb_jobs SET priority = 1")


def test_grant_as_its_user_meets_it(empty_database_url: str, role: str) -> None:
    cli = Cli({"AYB_JOBS_DATABASE_URL": empty_database_url})
    cli.ok("migrate")
    printed = cli.ok("grant", role, "--enqueue")
    assert f"GRANT INSERT, SELECT (id, run_at, idempotency_key) ON public._ayb_jobs TO {role};" in printed.splitlines()
    told = json.loads(cli.ok("grant", role, "--read", "--daemon", "--json"))
    assert told["levels"] == ["daemon", "read"]
    assert cli("grant", role).code == 2
    missing = cli("grant", "nobody_of_that_name", "--read")
    assert missing.code == 1
    assert "there is no role nobody_of_that_name" in missing.err


def test_who_may_enqueue_enqueues_on_the_command_line(empty_database_url: str, role: str) -> None:
    migrate_and_grant(empty_database_url, role, "enqueue")
    app = Cli({"AYB_JOBS_DATABASE_URL": make_conninfo(empty_database_url, user=role)})
    made = json.loads(app.ok("jobs", "enqueue", "now", "--queue", "mail", "--json"))
    assert made == {"id": made["id"], "type": "now", "state": "queued"}
    first = app("jobs", "enqueue", "now", "--idempotency-key", "k", "--depends-on", made["id"])
    assert first.out.endswith(" is queued\n"), first
    again = app("jobs", "enqueue", "now", "--idempotency-key", "k")
    assert again.out == first.out.replace("is queued", "has the key already"), again
    assert app.ok("jobs", "enqueue", "now", "--output", "csv").splitlines()[0] == "ID,STATE,TYPE"
    with closing(connect(empty_database_url)) as conn:
        assert {job.type for job in list_jobs(conn)} == {"now"}
        rights.grant(conn, "public", role, ["read"])
        assert app.ok("jobs", "enqueue", "now").endswith(" is queued\n")
        assert len(list_jobs(conn)) == 4


def test_who_lacks_a_right_is_told_what_grants_it(empty_database_url: str, role: str) -> None:
    stranger = Cli({"AYB_JOBS_DATABASE_URL": make_conninfo(empty_database_url, user=role)})
    early = stranger("migrate")
    assert early.code == 78
    assert "GRANT USAGE, CREATE ON SCHEMA public TO ROLE\n" in early.err
    assert "LINE" not in early.err
    migrate_and_grant(empty_database_url, role)
    for command, remedy in {
        ("jobs", "list"): "ayb-jobs grant ROLE --read to look, --daemon for all else",
        ("jobs", "enqueue", "now"): "ayb-jobs grant ROLE --enqueue",
        ("migrate",): "ayb-jobs migrate; ayb-jobs grant ROLE --daemon",
    }.items():
        said = stranger(*command)
        assert said.code != 0
        assert said.err.endswith(f": {remedy}\n"), said


def test_our_functions_run_nothing_that_others_put_on_the_path(conn: Connection) -> None:
    loose = """
        SELECT proname::text FROM pg_proc
        WHERE proname LIKE '\\_ayb\\_job%' AND prosqlbody IS NULL
            AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)
    """
    assert names(conn, loose) == []


def test_every_object_of_ours_is_documented(conn: Connection) -> None:
    page = (Path(__file__).parents[2] / "docs" / "postgresql.md").read_text()
    functions = "SELECT proname::text FROM pg_proc WHERE proname LIKE '\\_ayb\\_job%'"
    found = [*names(conn, OURS), *names(conn, functions)]
    assert [name for name in found if f"`{name}`" not in page] == []

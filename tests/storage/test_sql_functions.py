"""Enqueueing by SQL alone: what the functions check, and what a role that may call them can do besides."""

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.unique import Unique
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.queue.canceling import cancel_running_job
from ayb_jobs.storage.queue.jobs import get_job, retry_job
from tests.ayb_database import make_ayb_database
from tests.cli.conftest import Cli
from tests.factories import make_job
from tests.storage.test_rights import AYBS, as_role, made_role, migrate_and_grant, names

EXECUTABLE = """
    SELECT proname::text FROM pg_proc
    WHERE pronamespace = 'ayb_jobs'::regnamespace AND has_function_privilege(%(role)s, oid, 'EXECUTE')
    ORDER BY 1
"""
FUNCTIONS = ["ayb_jobs_batch", "ayb_jobs_cancel", "ayb_jobs_enqueue", "ayb_jobs_retry", "ayb_jobs_seal_batch"]
ENQUEUEING = ", ".join(f"ayb_jobs.{name}" for name in FUNCTIONS)
ENQUEUE_FULL = """
    SELECT ayb_jobs.ayb_jobs_enqueue('send_mail', '{"to": "ada", "price": 1.10}', queue => 'slow', priority => 1,
        max_attempts => 7, run_at => '2040-01-01 12:00+00', idempotency_key => 'k', traceparent => 'trace')::text
"""


def enqueued(conn: Connection, arguments: str = "'send_mail'") -> str:
    row = conn.execute(f"SELECT ayb_jobs.ayb_jobs_enqueue({arguments})::text".encode()).fetchone()
    assert row is not None
    return str(row[0])


def test_a_job_is_stored_as_it_was_asked_for(conn: Connection, notified: Callable[[], int]) -> None:
    row = conn.execute(ENQUEUE_FULL).fetchone()
    assert row is not None
    job = get_job(conn, row[0])
    assert (job.type, job.payload_text, job.queue, job.priority) == (
        "send_mail", '{"to": "ada", "price": 1.10}', "slow", 1,
    )  # fmt: skip
    assert (job.max_attempts, job.run_at.year, job.idempotency_key, job.id[14]) == (7, 2040, "k", "7")
    assert conn.execute("SELECT traceparent FROM _ayb_jobs").fetchone() == ("trace",)
    assert notified() == 0
    assert conn.execute(ENQUEUE_FULL).fetchone() == row
    job = get_job(conn, enqueued(conn, "'a', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL"))
    assert (job.payload_text, job.queue, job.priority, job.max_attempts) == ("{}", "default", 2, 3)
    assert job.run_at == job.created_at
    assert notified() == 1
    job = get_job(conn, enqueued(conn, "'a', delay => interval '1 hour'"))
    assert (job.run_at - job.created_at).total_seconds() == 3600


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ("''", {"type": ""}),
        ("NULL", {"type": ""}),
        ("' '", {"type": " "}),
        ("repeat('x', 101)", {"type": "x" * 101}),
        ("'t', queue => ''", {"type": "t", "queue": ""}),
        ("'t', queue => repeat('x', 101)", {"type": "t", "queue": "x" * 101}),
        ("'t', priority => 0", {"type": "t", "priority": 0}),
        ("'t', priority => 5", {"type": "t", "priority": 5}),
        ("'t', max_attempts => 0", {"type": "t", "max_attempts": 0}),
        ("'t', idempotency_key => repeat('x', 256)", {"type": "t", "idempotency_key": "x" * 256}),
        ("'t', limit_key => repeat('x', 201)", {"type": "t", "limit_key": "x" * 201}),
        ("'t', delay => '178000000 years'", {"type": "t", "delay": timedelta.max}),
        ("'t', delay => '-178000000 years'", {"type": "t", "delay": timedelta.min}),
        ("'t', limit_key => 'a', unique_key => 'b'", {"type": "t", "limit_key": "a", "unique": Unique(key="b")}),
    ],
)
def test_a_bad_value_is_refused_as_by_python(conn: Connection, arguments: str, values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as by_python:
        NewJob(**values)
    with pytest.raises(psycopg.errors.InvalidParameterValue) as by_sql:
        enqueued(conn, arguments)
    assert by_sql.value.diag.message_primary == str(by_python.value)
    assert by_sql.value.diag.column_name == by_python.value.field
    assert conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone() == (0,)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("'t', run_at => now(), delay => interval '1 s'", "give run_at or delay, not both"),
        ("'t', to_jsonb(repeat('x', 1048577))", "payload has more than 1048576 bytes"),
        ("'t', traceparent => repeat('x', 56)", "traceparent has 56 characters"),
        ("'t', depends_on => ARRAY[ARRAY[gen_random_uuid()]]", "depends_on is an array of arrays"),
        ("'t', unique_by => '{{a}}'", "unique_by is an array of arrays"),
    ],
)
def test_what_cannot_go_together_or_is_too_large_is_refused(conn: Connection, arguments: str, words: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=words):
        enqueued(conn, arguments)


def test_a_job_that_a_trigger_drops_is_told(conn: Connection) -> None:
    conn.execute("CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    conn.execute("CREATE TRIGGER drop_it BEFORE INSERT ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION drop_it()")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=r"a trigger or a rule on .*drops it"):
        enqueued(conn)


def test_cancel_and_retry_do_what_the_python_calls_do(conn: Connection, notified: Callable[[], int]) -> None:
    queued = make_job(conn)
    conn.execute("SELECT ayb_jobs.ayb_jobs_cancel(%s)", (queued,))
    job = get_job(conn, queued)
    assert (job.state, job.canceled_at) == ("canceled", job.updated_at)
    assert notified() == 0
    ours, theirs = (
        make_job(conn, "failed", crashes=2, progress={"a": 1}, run_at=sql.SQL("now() - interval '1 day'"))
        for _ in range(2)
    )
    conn.execute("SELECT ayb_jobs.ayb_jobs_retry(%s)", (ours,))
    assert notified() == 1
    retry_job(conn, theirs)
    same = """
        SELECT count(DISTINCT to_jsonb(job) - ARRAY['id', 'created_at', 'updated_at', 'run_at', 'last_run_at']),
            bool_and(run_at = updated_at)
        FROM _ayb_jobs AS job WHERE state = 'queued'
    """
    assert conn.execute(same).fetchone() == (1, True)


def test_every_field_of_a_new_job_is_a_parameter(conn: Connection) -> None:
    row = conn.execute("SELECT proargnames FROM pg_proc WHERE proname = 'ayb_jobs_enqueue'").fetchone()
    assert row is not None
    uniqueness = {"unique_key", "unique_by", "unique_scope", "on_conflict", "max_wait"}
    assert set(row[0]) == {*NewJob._fields} - {"unique"} | uniqueness


def test_the_key_of_a_limit_is_stored(conn: Connection) -> None:
    parent = enqueued(conn, "'a', limit_key => 'tenant-7'")
    enqueued(conn, f"'a', limit_key => 'tenant-7', depends_on => ARRAY['{parent}'::uuid]")
    assert conn.execute("SELECT limit_key, count(*) FROM _ayb_jobs GROUP BY 1").fetchall() == [("tenant-7", 2)]


def test_a_running_job_is_asked_to_end_canceled_as_by_python(conn: Connection, notified: Callable[[], int]) -> None:
    ours, theirs = make_job(conn, "running"), make_job(conn, "running")
    for _ in range(2):
        conn.execute("SELECT ayb_jobs.ayb_jobs_cancel(%s, running => true)", (ours,))
        assert notified() == 1
        cancel_running_job(conn, theirs)
        assert notified() == 1
    same = """
        SELECT count(DISTINCT to_jsonb(job) - ARRAY['id', 'execution_id', 'canceling_lease_id', 'created_at', 'updated_at',
            'run_at', 'last_run_at', 'lease_until', 'cancel_requested_at']), bool_and(cancel_requested_at = updated_at),
            count(canceling_lease_id)
        FROM _ayb_jobs AS job
    """
    assert conn.execute(same).fetchone() == (1, True, 2)
    queued = make_job(conn)
    conn.execute("SELECT ayb_jobs.ayb_jobs_cancel(%s, running => true)", (queued,))
    assert get_job(conn, queued).state == "canceled"
    with pytest.raises(
        psycopg.errors.ObjectNotInPrerequisiteState, match="is failed; only queued and running jobs can"
    ):
        conn.execute("SELECT ayb_jobs.ayb_jobs_cancel(%s, running => true)", (make_job(conn, "failed"),))


@pytest.mark.parametrize("answer", ["NULL", "OLD"])
@pytest.mark.parametrize(
    ("call", "state"),
    [("cancel(%s)", "queued"), ("cancel(%s, running => true)", "running"), ("retry(%s)", "failed")],
)
def test_a_job_that_a_trigger_keeps_as_it_is_is_told(conn: Connection, call: str, state: str, answer: str) -> None:
    job_id = make_job(conn, state)
    conn.execute(f"CREATE FUNCTION keep_it() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN {answer}; END'")
    conn.execute("CREATE TRIGGER keep_it BEFORE UPDATE ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION keep_it()")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="a trigger or a rule on its table keeps it"):
        conn.execute(f"SELECT ayb_jobs.ayb_jobs_{call}", (job_id,))
    assert get_job(conn, job_id).state == state


@pytest.mark.parametrize(("name", "state"), [("cancel", "queued"), ("retry", "failed")])
def test_a_job_in_another_state_is_named_and_kept(conn: Connection, name: str, state: str) -> None:
    call = f"SELECT ayb_jobs.ayb_jobs_{name}(%s)".encode()
    for other in ("queued", "running", "completed", "failed", "canceled"):
        if other != state:
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=f"is {other}; only {state} jobs"):
                conn.execute(call, (make_job(conn, other),))
    with pytest.raises(psycopg.errors.NoDataFound, match="there is no job"):
        conn.execute(call, ("01890000-0000-7000-8000-000000000000",))


def test_a_role_that_may_call_the_functions_can_do_nothing_else(each_empty_database_url: str) -> None:
    url = each_empty_database_url
    with made_role(url) as role:
        migrate_and_grant(url, role)
        with closing(connect(url)) as owner:
            owner.execute(f"GRANT USAGE ON SCHEMA ayb_jobs TO {role}".encode())
            owner.execute(f"GRANT EXECUTE ON FUNCTION {ENQUEUEING} TO {role}".encode())
            failed = make_job(owner, "failed")
        with as_role(url, role) as app:
            made = enqueued(app, "'a', idempotency_key => 'k'")
            assert made[14] == "7"
            assert enqueued(app, "'a', idempotency_key => 'k'") == made
            app.execute("SELECT ayb_jobs.ayb_jobs_cancel(%s), ayb_jobs.ayb_jobs_retry(%s)", (made, failed))
            refuses_all_else(app)
            for insert in ("INSERT INTO public._ayb_jobs (type) VALUES ('a')", "SELECT id FROM public._ayb_jobs"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    app.execute(insert.encode())


def test_the_granted_role_calls_the_functions_and_enqueues_and_can_do_nothing_else(empty_database_url: str) -> None:
    with made_role(empty_database_url) as role:
        migrate_and_grant(empty_database_url, role, "enqueue")
        with as_role(empty_database_url, role) as app:
            assert enqueued(app)[14] == "7"
            refuses_all_else(app)


def refuses_all_else(app: Connection) -> None:
    for refused in (
        "SELECT payload FROM public._ayb_jobs",
        "UPDATE public._ayb_jobs SET priority = 1",
        "DELETE FROM public._ayb_jobs",
        "SELECT FROM public._ayb_job_schedules",
        "CREATE TABLE ayb_jobs.mine ()",
        "CREATE FUNCTION ayb_jobs.mine() RETURNS int RETURN 1",
        "ALTER FUNCTION ayb_jobs.ayb_jobs_cancel RESET ALL",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute(refused.encode())


def test_nothing_that_others_put_on_the_path_gets_into_the_functions(empty_database_url: str) -> None:
    with made_role(empty_database_url) as role:
        migrate_and_grant(empty_database_url, role, "enqueue")
        with closing(connect(empty_database_url)) as owner:
            owner.execute(f"CREATE SCHEMA traps AUTHORIZATION {role}".encode())
            job_id = make_job(owner, "failed")
        with as_role(empty_database_url, role) as app:
            app.execute(TRAPS.encode())
            app.execute("SET search_path = traps, pg_temp, pg_catalog, public")
            app.execute("CREATE TEMPORARY TABLE _ayb_jobs (LIKE traps._ayb_jobs)")
            made = enqueued(app, "'a', idempotency_key => 'k', delay => interval '1 s'")
            app.execute("SELECT ayb_jobs.ayb_jobs_cancel(%s), ayb_jobs.ayb_jobs_retry(%s)", (made, job_id))
            assert app.execute("SELECT count(*) FROM traps.caught").fetchone() == (0,)
        with closing(connect(empty_database_url)) as owner:
            assert get_job(owner, made).state == "canceled"


# Each would note who ran it.
TRAPS = """
    CREATE TABLE traps.caught (who text);
    CREATE TABLE traps._ayb_jobs (id uuid);
    CREATE FUNCTION traps.catch() RETURNS void LANGUAGE sql AS 'INSERT INTO traps.caught VALUES (current_user)';
    CREATE FUNCTION traps.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT traps.catch(); SELECT pg_catalog.now()';
    CREATE FUNCTION traps.length(text) RETURNS int LANGUAGE sql AS 'SELECT traps.catch(); SELECT 1';
    CREATE FUNCTION traps.pg_notify(text, text) RETURNS void LANGUAGE sql AS 'SELECT traps.catch()';
    CREATE FUNCTION traps.same(varchar, text) RETURNS boolean LANGUAGE sql AS 'SELECT traps.catch(); SELECT true';
    CREATE OPERATOR traps.= (LEFTARG = varchar, RIGHTARG = text, FUNCTION = traps.same);
    CREATE OPERATOR traps.<> (LEFTARG = varchar, RIGHTARG = text, FUNCTION = traps.same);
"""


def test_nobody_may_call_them_unasked(empty_database_url: str) -> None:
    make_ayb_database(empty_database_url)
    with made_role(empty_database_url) as role:
        with closing(connect(empty_database_url)) as conn:
            for kind in ("FUNCTIONS", "SCHEMAS"):
                conn.execute(f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO {role}, {AYBS}".encode())
        migrate_and_grant(empty_database_url, role)
        with closing(connect(empty_database_url)) as conn:
            for other in ("public", role, AYBS):
                assert names(conn, EXECUTABLE, role=other) == []
            usage = "SELECT has_schema_privilege(%s, 'ayb_jobs', 'USAGE')"
            assert conn.execute(usage.encode(), (AYBS,)).fetchone() == (False,)


def test_grant_names_the_functions(empty_database_url: str) -> None:
    with made_role(empty_database_url) as role:
        cli = Cli({"AYB_JOBS_DATABASE_URL": empty_database_url})
        cli.ok("migrate")
        printed = cli.ok("grant", role, "--enqueue")
        assert f"GRANT USAGE ON SCHEMA ayb_jobs TO {role};" in printed.splitlines()
        with closing(connect(empty_database_url)) as conn:
            assert names(conn, EXECUTABLE, role=role) == FUNCTIONS


DEFINITIONS = """
    SELECT proname, pg_get_functiondef(oid) FROM pg_proc
    WHERE pronamespace IN ('public'::regnamespace, 'ayb_jobs'::regnamespace) AND proname LIKE '%ayb\\_job%' ORDER BY 1
"""


def test_who_may_not_make_a_schema_is_told_and_grant_makes_them_later_just_as_migrations_make_them(
    empty_database_url: str, database_url: str
) -> None:
    with made_role(empty_database_url) as role, made_role(empty_database_url, "clerk") as clerk:
        with closing(connect(empty_database_url)) as owner:
            owner.execute(f"GRANT ALL ON SCHEMA public TO {role}".encode())
            cli = Cli({"AYB_JOBS_DATABASE_URL": make_conninfo(empty_database_url, user=role)})
            told = cli("migrate")
            assert (told.code, f"CREATE SCHEMA ayb_jobs AUTHORIZATION {role}; then" in told.err) == (0, True)
            assert "ayb_jobs_enqueue" not in cli.ok("grant", clerk, "--enqueue")
            owner.execute(f"CREATE SCHEMA ayb_jobs AUTHORIZATION {role}".encode())
            assert "ayb_jobs_enqueue" in cli.ok("grant", clerk, "--enqueue")
        with as_role(empty_database_url, clerk) as app:
            assert enqueued(app)[14] == "7"
        with closing(connect(empty_database_url)) as later, closing(connect(database_url)) as usual:
            assert later.execute(DEFINITIONS).fetchall() == usual.execute(DEFINITIONS).fetchall()

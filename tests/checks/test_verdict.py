"""The one sentence: the words that must come in each situation, and the same at every door."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, LiteralString

import pytest
from psycopg import sql

from ayb_jobs.checks.finding import Finding, Severity
from ayb_jobs.checks.loops import LoopAge, stuck_loops
from ayb_jobs.checks.verdict import Figures, Mood, decide, look_round
from ayb_jobs.config import Retention
from ayb_jobs.errors import DatabaseError
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.model.words import span_words
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import beat
from ayb_jobs.storage.fleet.limits import set_limit
from ayb_jobs.storage.fleet.pauses import pause
from ayb_jobs.storage.queue.lateness import Pace
from ayb_jobs.storage.queue.minutes import Ended, Level, add_ended
from tests.cli.conftest import Cli
from tests.factories import make_job, make_schedule
from tests.http.conftest import ADMIN, serving
from tests.http.dashboard.visiting import visiting

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.031, "31 ms"), (0.3, "0.3 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min"), (252, "4 min 12 s"),
        (3600, "1 h"), (97800, "27 h 10 min"), (6 * 86400, "6 days"), (-5, "0 ms"), (1e12, "over 10,000 days"),
    ],
)  # fmt: skip
def test_a_span_has_a_unit_and_two_parts_at_most(seconds: float, words: str) -> None:
    assert span_words(seconds) == words


def figures(
    *, waiting: int = 0, oldest_s: float = 0.0, ended: int = 0, any_job: bool = True, daemons: int = 1, slots: int = 4
) -> Figures:
    level = Level(at=NOON, waiting=waiting, running=0, oldest_wait_s=oldest_s)
    return Figures(level=level, pace=Pace(ended, any_job), daemons=daemons, slots=slots)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            figures(waiting=3, oldest_s=0.3, ended=1204, daemons=4),
            "All well: 1,204 jobs in the last minute, none waits longer than 0.3 s, 4 daemons.",
        ),
        (figures(ended=1), "All well: 1 job in the last minute, none waits, 1 daemon."),
        (figures(ended=10_000), "All well: at least 10,000 jobs in the last minute, none waits, 1 daemon."),
        (figures(), "All well: 0 jobs in the last minute, none waits, 1 daemon."),
        (figures(any_job=False), "Ready, and nothing to do yet: 1 daemon with 4 free slots, no job so far."),
        (
            figures(any_job=False, daemons=2, slots=1),
            "Ready, and nothing to do yet: 2 daemons with 1 free slot, no job so far.",
        ),
        (None, "Nothing is known of the queue."),
    ],
)
def test_the_figures_speak_if_nothing_was_found(found: Figures | None, words: str) -> None:
    assert decide([], found).sentence == words


def test_what_keeps_work_from_being_done_speaks_first() -> None:
    def finding(name: str, severity: Severity) -> Finding:
        return Finding(name=name, severity=severity, fact=f"{name} is so", meaning="", remedy="")

    lesser, grave = finding("lesser", Severity.WARNING), finding("grave", Severity.FAILING)
    verdict = decide([lesser, grave], figures())
    assert (verdict.sentence, verdict.mood, list(verdict.findings)) == ("Grave is so.", Mood.NEEDED, [grave, lesser])
    assert decide([finding("database.unavailable", Severity.FAILING)], None).mood is Mood.UNKNOWN


def ago(text: LiteralString) -> sql.SQL:
    return sql.SQL(f"now() - interval '{text}'")


def a_daemon(conn: Connection, *, types: tuple[str, ...] = ("mail",), queues: tuple[str, ...] = ("default",)) -> None:
    beat(conn, DaemonRecord(id="a", host="h", pid=1, version="1", concurrency=2, queues=queues, types=types))


def nobody(conn: Connection) -> None:
    make_job(conn)


def all_slots_are_busy(conn: Connection) -> None:
    a_daemon(conn)
    for _ in range(2):
        make_job(conn, "running", type="mail", worker_id="a")
    for _ in range(3):
        make_job(conn, type="mail", run_at=ago("252 seconds"))


def all_slots_of_an_older_daemon_are_busy(conn: Connection) -> None:
    all_slots_are_busy(conn)
    conn.execute(
        "UPDATE _ayb_job_workers SET isolated_types = NULL, isolated_slots = NULL, async_types = NULL, async_slots = NULL"
    )


def the_slot_for_isolated_handlers_is_busy(conn: Connection) -> None:
    beat(
        conn,
        DaemonRecord(
            id="a", host="h", pid=1, version="1", concurrency=2, queues=["default"], types=["mail", "render"],
            isolated_types=["render"], isolated_slots=1,
        ),
    )  # fmt: skip
    make_job(conn, "running", type="render", worker_id="a")
    make_job(conn, type="render", run_at=ago("90 seconds"))


def slots_are_free(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mail", run_at=ago("90 seconds"))
    make_job(conn, type="mail", run_at=sql.SQL("now() + interval '1 day'"))


def nobody_knows_it(conn: Connection) -> None:
    a_daemon(conn)
    for _ in range(14):
        make_job(conn, type="mial", run_at=ago("1 hour"))


def nobody_serves_it(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mail", queue="exports", run_at=ago("1 hour"))


def four_unknown(conn: Connection) -> None:
    a_daemon(conn)
    for name in "abcd":
        make_job(conn, type=name)


def not_due(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mial", run_at=sql.SQL("now() + interval '1 hour'"))


def no_success(conn: Connection) -> None:
    a_daemon(conn)
    made = make_schedule(
        conn, name="nightly", job_type="mail", next_run_at=sql.SQL("now() + interval '1 hour'"),
        expect_success_within_s=93600, watched_since=ago("30 hours"),
        planned="* * * * * UTC once",
    )  # fmt: skip
    conn.execute(
        "INSERT INTO _ayb_job_executions (id, job_id, job_type, schedule_id, attempt, outcome, started_at, ended_at)"
        " VALUES (1, gen_random_uuid(), 'mail', %s, 1, 'completed', now() - interval '27 h 10 min',"
        " now() - interval '27 h 10 min')",
        (made,),
    )


def not_fired(conn: Connection) -> None:
    a_daemon(conn)
    for name in ("a", "b"):
        make_schedule(conn, name=name, job_type="mail", next_run_at=ago("1 hour"), planned="* * * * * UTC once")


def many_fail(conn: Connection) -> None:
    a_daemon(conn)
    for _ in range(5):
        make_job(conn, "failed", type="mail")
    add_ended(conn, {"mail": Ended(completed=45, failed=5)})


def few_fail(conn: Connection) -> None:
    a_daemon(conn)
    for _ in range(5):
        make_job(conn, "failed", type="mail")
    add_ended(conn, {"mail": Ended(completed=46, failed=5)})


def failed_long_ago(conn: Connection) -> None:
    a_daemon(conn)
    for _ in range(9):
        make_job(conn, "failed", type="mail", updated_at=ago("2 hours"))


def leases_ran_out(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, "running", type="mail", lease_until=ago("40 seconds"))


def one_is_gone(conn: Connection) -> None:
    a_daemon(conn)
    conn.execute(
        "INSERT INTO _ayb_job_workers (id, host, pid, version, concurrency, queues, types, heartbeat_at)"
        " VALUES ('secret', 'secret', 1, '1', 1, '{}', '{}', now() - interval '6 minutes')"
    )


def a_hostile_name(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="`\n\x1b[31m<b>", run_at=ago("1 hour"))


def paused(conn: Connection, kind: PauseKind, name: str, *, reason: str | None = None) -> None:
    with conn.transaction():
        pause(conn, NewPause(kind=kind, name=name, reason=reason), by="ann")
    conn.execute("UPDATE _ayb_job_pauses SET paused_at = now() - interval '1 hour'")


def a_paused_queue(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mail", run_at=ago("10 minutes"))
    paused(conn, PauseKind.QUEUE, "default", reason="the\ndisk is full")


def a_paused_type(conn: Connection) -> None:
    a_daemon(conn)
    for _ in range(2):
        make_job(conn, type="mail", run_at=ago("10 minutes"))
    paused(conn, PauseKind.TYPE, "mail")


def two_pauses(conn: Connection) -> None:
    a_daemon(conn, types=("mail", "report"), queues=("default", "slow"))
    make_job(conn, type="mail", run_at=ago("10 minutes"))
    make_job(conn, type="report", queue="slow", run_at=ago("5 minutes"))
    paused(conn, PauseKind.TYPE, "mail")
    paused(conn, PauseKind.QUEUE, "slow")


def a_pause_just_begun(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mail")
    paused(conn, PauseKind.QUEUE, "default")


def a_pause_without_jobs(conn: Connection) -> None:
    a_daemon(conn)
    paused(conn, PauseKind.QUEUE, "default")


def a_pause_that_ended(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mail", run_at=ago("90 seconds"))
    paused(conn, PauseKind.QUEUE, "default")
    conn.execute("UPDATE _ayb_job_pauses SET until = now() - interval '1 second'")


def late_beside_a_pause(conn: Connection) -> None:
    a_daemon(conn, types=("mail", "report"))
    make_job(conn, type="mail", run_at=ago("10 minutes"))
    make_job(conn, type="report", run_at=ago("90 seconds"))
    paused(conn, PauseKind.TYPE, "mail")


def paused_and_nobody_lives(conn: Connection) -> None:
    make_job(conn, run_at=ago("10 minutes"))
    paused(conn, PauseKind.QUEUE, "default")


def a_limit_that_is_held(conn: Connection, **columns: Any) -> None:
    """A key at 2 of 2, of which the last started some minutes ago."""
    a_daemon(conn)
    new = NewLimit(name="tenants", types=["mail"], max_running=9, key_max_running=2)
    with conn.transaction():
        set_limit(conn, new, by="ann")
    under: dict[str, Any] = {"type": "mail", "priority": 6, "limited_by": "tenants", "limited_key": "seven"}
    for _ in range(2):
        make_job(conn, "running", **{**under, "last_run_at": ago("5 minutes"), "lease_until": later(), **columns})
    for _ in range(3):
        make_job(conn, run_at=ago("4 minutes"), **under)


def later() -> sql.SQL:
    return sql.SQL("now() + interval '1 hour'")


def a_limit_that_is_held_as_a_whole(conn: Connection) -> None:
    a_limit_that_is_held(conn)
    conn.execute("UPDATE _ayb_job_limits SET max_running = 2, key_max_running = NULL")


def a_limit_that_goes_on(conn: Connection) -> None:
    a_limit_that_is_held(conn, last_run_at=ago("50 seconds"))


def a_limit_with_a_place(conn: Connection) -> None:
    a_limit_that_is_held(conn)
    conn.execute("UPDATE _ayb_job_limits SET key_max_running = 3")


def two_leases_ran_out(conn: Connection) -> None:
    a_daemon(conn)
    for _ in range(2):
        make_job(conn, "running", type="mail", lease_until=ago("3 minutes"))


def a_lease_just_ran_out(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, "running", type="mail", lease_until=ago("5 seconds"))


def two_types_fail(conn: Connection) -> None:
    a_daemon(conn)
    for name, count in (("mail", 6), ("report", 5)):
        for _ in range(count):
            make_job(conn, "failed", type=name)


def four_failed(conn: Connection) -> None:
    a_daemon(conn)
    for _ in range(4):
        make_job(conn, "failed", type="mail")


def three_are_gone(conn: Connection) -> None:
    a_daemon(conn)
    conn.execute(
        "INSERT INTO _ayb_job_workers (id, host, pid, version, concurrency, queues, types, heartbeat_at)"
        " SELECT n::text, 'h', 1, '1', 1, '{}', '{}', now() - n * interval '2 minutes' FROM generate_series(1, 3) AS n"
    )


def gone_for_two_days(conn: Connection) -> None:
    a_daemon(conn)
    one_is_gone(conn)
    conn.execute("UPDATE _ayb_job_workers SET heartbeat_at = now() - interval '2 days' WHERE id = 'secret'")


def a_broken_schedule(conn: Connection) -> None:
    a_daemon(conn)
    make_schedule(conn, name="nightly", cron_expr="often", next_run_at=None, last_error="it cannot be read")


def never_succeeded(conn: Connection) -> None:
    a_daemon(conn)
    make_schedule(
        conn, name="nightly", job_type="mail", next_run_at=sql.SQL("now() + interval '1 hour'"),
        expect_success_within_s=3600, watched_since=ago("30 hours"), planned="* * * * * UTC once",
    )  # fmt: skip


def a_disabled_schedule(conn: Connection) -> None:
    a_daemon(conn)
    make_schedule(conn, name="nightly", job_type="mail", enabled=False, next_run_at=None)


def a_second_late(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mail", run_at=ago("59 seconds"))


def two_queues_are_late(conn: Connection) -> None:
    a_daemon(conn, queues=("default", "slow"))
    make_job(conn, type="mail", run_at=ago("2 minutes"))
    make_job(conn, type="mail", queue="slow", run_at=ago("5 minutes"))


def unknown_and_late(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mial", run_at=ago("1 hour"))
    make_job(conn, type="mail", run_at=ago("5 minutes"))


def lost_and_failing(conn: Connection) -> None:
    many_fail(conn)
    leases_ran_out(conn)


def an_old_job_of_minus_infinity(conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="mail", run_at=sql.SQL("'-infinity'"))


SITUATIONS: dict[Callable[[Connection], None], str] = {
    nobody: "No daemon is alive: it stopped, or has been silent for 60 s.",
    all_slots_of_an_older_daemon_are_busy: "`mail` jobs wait 4 min 12 s: all 2 slots that serve queue `default` are busy; "
    "3 jobs are due.",
    all_slots_are_busy: "`mail` jobs wait 4 min 12 s: all 2 slots that serve queue `default` are busy; 3 jobs are due.",
    slots_are_free: "`mail` jobs wait 1 min 30 s: 0 of the 2 slots that serve queue `default` are busy; 1 job is due.",
    nobody_knows_it: "14 due jobs wait that no live daemon can run: none knows type `mial`.",
    nobody_serves_it: "1 due job waits that no live daemon can run: none serves queue `exports`.",
    four_unknown: "4 due jobs wait that no live daemon can run: none knows types `a`, `b`, `c`, 1 further type.",
    not_due: "All well: 0 jobs in the last minute, none waits, 1 daemon.",
    no_success: "`nightly` has not succeeded for 27 h 10 min; it is expected within 26 h.",
    not_fired: "2 schedules did not do what is expected of them; `a` is due, and no scheduler has fired it.",
    many_fail: "5 `mail` jobs failed in the last hour, while 45 completed.",
    few_fail: "All well: 0 jobs in the last minute, none waits, 1 daemon.",
    failed_long_ago: "All well: 0 jobs in the last minute, none waits, 1 daemon.",
    leases_ran_out: "1 running job has lost its daemon, and no daemon has taken it over for 40 s.",
    one_is_gone: "Daemon `secret` was last heard of 6 min ago.",
    a_hostile_name: "1 due job waits that no live daemon can run: none knows type `???[31m<b>`.",
    a_limit_that_is_held: "Key `seven` of limit `tenants` is at 2 of 2, and none of these started within 1 min; 3 due jobs "
    "wait behind it, the first for 4 min.",
    a_limit_that_is_held_as_a_whole: "Limit `tenants` is at 2 of 2, and none of these started within 1 min; 3 due jobs wait "
    "behind it, the first for 4 min.",
    a_limit_that_goes_on: "All well: 0 jobs in the last minute, none waits longer than 4 min, 1 daemon.",
    a_limit_with_a_place: "All well: 0 jobs in the last minute, none waits longer than 4 min, 1 daemon.",
    a_paused_queue: "Queue `default` has been paused for 1 h by ann (the disk is full); 1 due job waits for its end.",
    a_paused_type: "Type `mail` has been paused for 1 h by ann; 2 due jobs wait for its end.",
    two_pauses: "Type `mail` has been paused for 1 h by ann; 1 due job waits for its end, and 1 other pause with due jobs.",
    a_pause_just_begun: "All well: 0 jobs in the last minute, none waits longer than 0 ms, 1 daemon.",
    a_pause_without_jobs: "Ready, and nothing to do yet: 1 daemon with 2 free slots, no job so far.",
    a_pause_that_ended: "`mail` jobs wait 1 min 30 s: 0 of the 2 slots that serve queue `default` are busy; 1 job is due.",
    late_beside_a_pause: "`report` jobs wait 1 min 30 s: 0 of the 2 slots that serve queue `default` are busy; 2 jobs are due.",
    paused_and_nobody_lives: "No daemon is alive: it stopped, or has been silent for 60 s.",
    two_leases_ran_out: "2 running jobs have lost their daemon, and no daemon has taken them over for 3 min.",
    a_lease_just_ran_out: "All well: 0 jobs in the last minute, none waits, 1 daemon.",
    two_types_fail: "6 `mail` jobs failed in the last hour, while none completed, and jobs of 1 other type.",
    four_failed: "All well: 0 jobs in the last minute, none waits, 1 daemon.",
    three_are_gone: "3 daemons fell silent; the last, `1`, was last heard of 2 min ago.",
    gone_for_two_days: "Ready, and nothing to do yet: 1 daemon with 2 free slots, no job so far.",
    a_broken_schedule: "`nightly` cannot fire.",
    never_succeeded: "`nightly` has never succeeded; it is expected within 1 h.",
    a_disabled_schedule: "Ready, and nothing to do yet: 1 daemon with 2 free slots, no job so far.",
    the_slot_for_isolated_handlers_is_busy: "`render` jobs wait 1 min 30 s: the only slot for isolated handlers that serves queue "
    "`default` is busy; 1 job is due.",
    a_second_late: "All well: 0 jobs in the last minute, none waits longer than 59 s, 1 daemon.",
    two_queues_are_late: "`mail` jobs wait 5 min: 0 of the 2 slots that serve queue `slow` are busy; 2 jobs are due.",
    unknown_and_late: "1 due job waits that no live daemon can run: none knows type `mial`.",
    lost_and_failing: "1 running job has lost its daemon, and no daemon has taken it over for 40 s.",
    an_old_job_of_minus_infinity: "All well: 0 jobs in the last minute, none waits longer than 0 ms, 1 daemon.",
}


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda each: each.__name__)
def test_a_situation_is_told_in_its_words(conn: Connection, situation: Callable[[Connection], None]) -> None:
    with conn.transaction():  # so that the clock stands still, and every figure is exact
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        situation(conn)
        said = look_round(conn, Retention()).verdict
    assert said.sentence == SITUATIONS[situation]


def test_a_stuck_loop_speaks_where_it_is_known(conn: Connection) -> None:
    a_daemon(conn)
    said = look_round(conn, Retention(), stuck_loops([LoopAge("producer", 11.0, 10.0)])).verdict
    assert said.sentence == "Loop producer has made no progress for 11.0 s; 10 s are its limit."


QUICK = {all_slots_are_busy, nobody_knows_it, many_fail, not_due}
# In these a second more or less makes another situation, and the doors are asked one after the other.
OF_A_SECOND = {a_second_late, a_lease_just_ran_out}


def wording(text: str) -> str:
    """Return a sentence without its spans of time, which go on, and as plain text has it."""
    plain = " ".join(text.replace("`", "").lower().split())
    return re.sub(r"\d[\d,.]* (ms|s|min|h|days)\b( \d+ (s|min))?", "some time", plain).rstrip(".")


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_what_differs_in_its_name_alone_is_told_in_one_order(conn: Connection, names: str) -> None:
    a_daemon(conn)
    then = "2001-02-03T04:05:06Z"
    for name in names:
        make_job(conn, type=name, run_at=then)
        make_job(conn, type="mail", queue=f"paused_{name}", run_at=then)
        paused(conn, PauseKind.QUEUE, f"paused_{name}")
        make_schedule(conn, name=name, next_run_at=then)
        for _ in range(5):
            make_job(conn, "failed", type=name)
    found = {each.name: each.told for each in look_round(conn, Retention()).verdict.findings}
    assert found["jobs.unclaimable"].endswith("knows types `a`, `b`; none serves queues `paused_a`, `paused_b`")
    assert found["jobs.paused"].startswith("queue `paused_a`")
    assert "; `a` " in found["schedules.overdue"]
    assert found["jobs.failing"].startswith("5 `a` jobs")


@pytest.mark.parametrize(
    "situation",
    [
        each if each in QUICK else pytest.param(each, marks=pytest.mark.slow)
        for each in SITUATIONS
        if each not in OF_A_SECOND
    ],
    ids=lambda each: each.__name__,
)
def test_every_door_says_the_same(
    db: Database, conn: Connection, database_url: str, situation: Callable[[Connection], None]
) -> None:
    situation(conn)
    words = wording(SITUATIONS[situation])
    of_database = Cli({"AYB_JOBS_DATABASE_URL": database_url, "AYB_JOBS_ENABLED": "true"})
    with serving(db) as server, server.client() as client, server.client(None) as stranger:
        assert wording(client.get("/readyz").json()["sentence"]) == words
        assert "`" not in stranger.get("/readyz").text
        of_api = Cli({"AYB_JOBS_URL": server.url, "AYB_JOBS_ADMIN_TOKEN": ADMIN})
        with visiting(server) as guest:
            assert wording(guest.get("/").headline) == words
        for cli in (of_api, of_database):
            said = cli("health")
            assert words in wording(said.out + said.err)
    assert wording(of_database("top", "--once").out).startswith(words)


def test_an_outage_is_told_without_its_host(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise DatabaseError("cannot connect to the database: secret.example.org")

    with serving(db) as server, server.client(None) as client:
        monkeypatch.setattr(type(db), "connection", refused)
        told = client.get("/readyz").json()["sentence"]
    assert told == "The database cannot be reached; the log has the details."


@pytest.mark.parametrize(("is_stopping", "words"), [(True, "The daemon is stopping."), (False, "No daemon is alive")])
def test_every_door_says_the_same_if_no_work_can_be_done(
    db: Database, conn: Connection, database_url: str, is_stopping: bool, words: str
) -> None:
    with serving(db, draining=lambda: is_stopping) as server, server.client() as client, visiting(server) as guest:
        sentence = client.get("/readyz").json()["sentence"]
        assert sentence.startswith(words)
        assert guest.get("/").headline == sentence.replace("`", "")
        told = Cli({"AYB_JOBS_URL": server.url, "AYB_JOBS_ADMIN_TOKEN": ADMIN})("health", "--json")
        assert (told.code, json.loads(told.out)["sentence"]) == (int(is_stopping), sentence)
    if not is_stopping:
        told = Cli({"AYB_JOBS_DATABASE_URL": database_url, "AYB_JOBS_ENABLED": "true"})("health", "--json")
        assert (told.code, json.loads(told.out)["sentence"]) == (1, sentence)

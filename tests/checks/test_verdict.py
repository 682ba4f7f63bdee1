"""The one sentence: the words that must come in each situation, and the same at every door."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from ayb_jobs.checks.finding import Finding, Severity
from ayb_jobs.checks.loops import LoopAge, stuck_loops
from ayb_jobs.checks.verdict import Figures, Mood, decide, look_round
from ayb_jobs.config import Retention
from ayb_jobs.errors import DatabaseError
from ayb_jobs.model.pauses import PauseKind
from ayb_jobs.model.words import span_words
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.lateness import Pace
from ayb_jobs.storage.queue.minutes import Level
from tests.checks.situations import SITUATIONS, a_daemon, paused
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


def test_an_outage_is_told_without_its_host(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise DatabaseError("cannot connect to the database: secret.example.org")

    with serving(db) as server, server.client(None) as client:
        monkeypatch.setattr(type(db), "connection", refused)
        told = client.get("/readyz").json()["sentence"]
    assert told == "Cannot connect to the database; the log has the details."


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

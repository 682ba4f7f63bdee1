"""A daemon whose process was killed is named at once, and is not alive once it has missed a sign of life."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from ayb_jobs.checks.fleet import lifeless, no_daemon
from ayb_jobs.checks.glance import glance
from ayb_jobs.cli.commands.top.tables import daemon_word
from ayb_jobs.config import Retention
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.lifelines import Lifeline, look_at_fleet
from ayb_jobs.storage.fleet.unclaimable import unclaimable_jobs
from tests.cli.conftest import Cli
from tests.eventually import eventually
from tests.factories import make_job

ME = DaemonRecord(id="me", host="here", pid=1, version="1", concurrency=1, queues=["default"], types=["test"])


@pytest.fixture
def held(db: Database) -> Iterator[Lifeline]:
    """A lifeline that its daemon holds."""
    with closing(Lifeline(db.url, ME, name="test", lease_s=30, timeouts=db.timeouts)) as line:
        assert line.take()
        yield line


def be_silent(conn: Connection, seconds: int) -> None:
    conn.execute("UPDATE _ayb_job_workers SET heartbeat_at = now() - make_interval(secs => %s)", (seconds,))


def test_a_daemon_that_holds_its_lifeline_is_alive_for_a_minute_of_silence(conn: Connection, held: Lifeline) -> None:
    be_silent(conn, 50)
    assert lifeless(look_at_fleet(conn)) is None
    assert no_daemon(look_at_fleet(conn)) is None


def test_health_names_a_daemon_whose_lifeline_nobody_holds(conn: Connection, held: Lifeline, database_url: str) -> None:
    held.close()
    eventually(lambda: lifeless(look_at_fleet(conn)) is not None)  # the server ends the session in its own time
    found = lifeless(look_at_fleet(conn))
    assert found is not None
    assert found.evidence == {"daemons": ["me"]}
    said = Cli({"AYB_JOBS_DATABASE_URL": database_url, "AYB_JOBS_ENABLED": "true"})("health")
    assert (said.code, f"{found.fact}: me" in said.err) == (0, True), said


def test_a_daemon_without_lifeline_that_misses_a_sign_of_life_is_not_alive(conn: Connection, held: Lifeline) -> None:
    held.close()
    be_silent(conn, 30)
    eventually(lambda: no_daemon(look_at_fleet(conn)) is not None)  # the server ends the session in its own time


def test_top_shows_it_as_gone_with_no_slot_and_its_queue_as_served_by_nobody(conn: Connection, held: Lifeline) -> None:
    make_job(conn, type="test")
    before = glance(conn, Retention())
    held.close()
    be_silent(conn, 30)
    eventually(lambda: no_daemon(look_at_fleet(conn)) is not None)
    seen = glance(conn, Retention())
    for details, word, queue, slots in (
        (before.details, "alive", "flows", 1),
        (seen.details, "gone", "nobody serves it", 0),
    ):
        assert details is not None
        assert [daemon_word(each, details) for each in details.daemons] == [word]
        assert [(view.word, view.slots > 0) for view in details.queues.first] == [(queue, bool(slots))]
    assert before.verdict.figures is not None
    assert before.verdict.figures.slots > 0
    assert seen.verdict.figures is not None
    assert (seen.verdict.figures.slots, seen.verdict.figures.daemons) == (0, 0)


def test_a_daemon_that_announced_no_lifeline_is_alive_for_a_minute_of_silence(conn: Connection, held: Lifeline) -> None:
    conn.execute("UPDATE _ayb_job_workers SET guarded = false")
    held.close()
    be_silent(conn, 50)
    assert lifeless(look_at_fleet(conn)) is None
    assert no_daemon(look_at_fleet(conn)) is None


def test_a_fleet_that_drains_as_a_whole_takes_no_jobs_and_that_is_said(conn: Connection, held: Lifeline) -> None:
    conn.execute("UPDATE _ayb_job_workers SET drain_requested_at = now()")
    found = no_daemon(look_at_fleet(conn))
    assert found is not None
    assert found.fact == "no daemon takes jobs: 1 daemon drains, and ends when its handlers have"
    assert no_daemon(look_at_fleet(conn), host="here") is None
    make_job(conn, type="test")
    assert unclaimable_jobs(conn).by_type == {"test": 1}
    conn.execute("UPDATE _ayb_job_workers SET drain_requested_at = NULL")
    assert no_daemon(look_at_fleet(conn)) is None
    assert unclaimable_jobs(conn).by_type == {}

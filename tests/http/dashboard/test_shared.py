"""Many pages that ask one thing cost the database one answer, and a dear answer is made more rarely."""

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ayb_jobs.errors import DatabaseError
from ayb_jobs.http.dashboard import shared
from ayb_jobs.http.dashboard.shared import FRESH_S, Shared
from ayb_jobs.http.pacing import apart_s
from ayb_jobs.http.routes import stream
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from tests.factories import make_job
from tests.http.conftest import serving
from tests.http.dashboard.visiting import Guest, visiting

TWO_HOURS = 7200.0
WATCHERS = 8


@pytest.fixture
def _fresh_for_long(_fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "apart_s", lambda _, **__: TWO_HOURS)


@pytest.fixture
def guest(db: Database, _fresh_for_long: None) -> Iterator[Guest]:
    with serving(db) as server, visiting(server) as visitor:
        yield visitor


@pytest.mark.parametrize(("took_s", "for_s"), [(0.0, 2.0), (0.05, 2.0), (0.1, 3.0), (0.3, 9.0), (5.0, 10.0)])
def test_what_took_long_is_good_for_longer(took_s: float, for_s: float) -> None:
    assert apart_s(took_s, least_s=FRESH_S) == pytest.approx(for_s)


@pytest.mark.usefixtures("_fresh_for_long")
def test_however_many_ask_at_once_one_answer_is_made() -> None:
    made, all_ask = itertools.count(1), threading.Barrier(WATCHERS)
    answer = Shared(lambda: next(made))

    def ask(_: int) -> int:
        all_ask.wait()
        return answer.ask()

    with ThreadPoolExecutor(WATCHERS) as crowd:
        assert list(crowd.map(ask, range(WATCHERS))) == [1] * WATCHERS
    answer.forget()
    assert [answer.ask(), answer.ask(), answer.renew(), answer.ask()] == [2, 2, 3, 3]


@pytest.mark.usefixtures("_fresh_for_long")
def test_a_failure_is_told_to_everybody_and_ends() -> None:
    tries: list[int] = []

    def fail_once() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise LookupError("away")
        return len(tries)

    answer = Shared(fail_once)
    for _ in range(2):
        with pytest.raises(LookupError, match="away"):
            answer.ask()
    assert len(tries) == 1
    assert answer.renew() == 2


def test_a_database_that_was_away_is_asked_again_soon_however_long_the_answer_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared, "FRESH_S", 0.0)
    tries = itertools.count(1)

    def fail_once() -> int:
        if (number := next(tries)) == 1:
            time.sleep(0.2)
            raise DatabaseError("away")
        return number

    answer = Shared(fail_once)
    with pytest.raises(DatabaseError):
        answer.ask()
    assert answer.ask() == 2


def test_watchers_of_the_first_page_share_one_look(guest: Guest, conn: Connection) -> None:
    first = guest.get("/")
    make_job(conn, "queued")
    assert guest.get("/").text == first.text  # also the time of its data
    guest.client.cookies.set("ayb_jobs_zone", "Asia/Kolkata")
    assert guest.get("/").text != first.text  # each is told it in a zone of their own


def test_who_presses_is_told_how_things_stand_since(guest: Guest, conn: Connection) -> None:
    failed = make_job(conn, "failed")
    before = guest.get("/").text
    guest.press(guest.get(f"/jobs/{failed}"), "Retry this job")
    assert guest.get("/").text != before


def test_a_stream_too_many_is_not_told_as_disabled(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_WATCHERS", 0)
    refused = guest.client.get("/live")
    assert refused.status_code == 503
    assert "streams are open already" in refused.text
    assert "disabled" not in refused.text

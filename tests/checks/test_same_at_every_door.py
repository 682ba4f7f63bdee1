"""The one sentence is the same at every door: pages, `/readyz`, `health`, `top` and alerts."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple

import pytest

from ayb_jobs.checks.verdict import look_round
from ayb_jobs.config import Retention
from ayb_jobs.http.dashboard import shared
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.schedules.alerts import note_overdue
from ayb_jobs.storage.throwaway import Databases
from tests.checks import situations
from tests.checks.situations import SITUATIONS
from tests.cli.conftest import Cli
from tests.http.conftest import ADMIN, Server, serving
from tests.http.dashboard.visiting import Guest, visiting
from tests.operations.test_every_door import EMPTY

Situation = Callable[[Connection], None]
# In these a second more or less makes another situation, and the doors are asked one after the other.
OF_A_SECOND = {situations.a_second_late, situations.a_lease_just_ran_out}
OF_SCHEDULES = [
    situations.no_success, situations.not_fired, situations.a_broken_schedule, situations.never_succeeded,
]  # fmt: skip


class Doors(NamedTuple):
    """The ways in to one database, in which situations are made and undone."""

    conn: Connection
    server: Server
    guest: Guest
    of_database: Cli
    of_api: Cli


@pytest.fixture(scope="module")
def doors(databases: Databases) -> Iterator[Doors]:
    with (
        pytest.MonkeyPatch.context() as patch,
        databases.migrated() as url,
        closing(Database(url)) as db,
        db.connection() as conn,
        serving(db) as server,
    ):
        patch.setattr(shared, "apart_s", lambda _, **__: 0.0)  # no page is as of the situation before
        of_database = Cli({"AYB_JOBS_DATABASE_URL": url, "AYB_JOBS_ENABLED": "true"})
        of_api = Cli({"AYB_JOBS_URL": server.url, "AYB_JOBS_ADMIN_TOKEN": ADMIN})
        with visiting(server) as guest:
            yield Doors(conn, server, guest, of_database, of_api)


@pytest.fixture(autouse=True)
def _undone(doors: Doors) -> Iterator[None]:
    yield
    doors.conn.execute(EMPTY)
    doors.conn.execute("DELETE FROM _ayb_job_minutes; DELETE FROM _ayb_job_alerts")


def wording(text: str) -> str:
    """Return a sentence without its spans of time, which go on, and as plain text has it."""
    plain = " ".join(text.replace("`", "").lower().split())
    return re.sub(r"\d[\d,.]* (ms|s|min|h|days)\b( \d+ (s|min))?", "some time", plain).rstrip(".")


@pytest.mark.parametrize(
    "situation", [each for each in SITUATIONS if each not in OF_A_SECOND], ids=lambda each: each.__name__
)
def test_every_door_says_the_same(doors: Doors, situation: Situation) -> None:
    situation(doors.conn)
    words = wording(SITUATIONS[situation])
    with doors.server.client() as client, doors.server.client(None) as stranger:
        assert wording(client.get("/readyz").json()["sentence"]) == words
        assert "`" not in stranger.get("/readyz").text
    assert wording(doors.guest.get("/").headline) == words
    for cli in (doors.of_api, doors.of_database):
        said = cli("health")
        assert words in wording(said.out + said.err)
    assert wording(doors.of_database("top", "--once").out).startswith(words)


@pytest.mark.parametrize("situation", OF_SCHEDULES, ids=lambda each: each.__name__)
def test_an_alert_and_the_list_of_overdue_schedules_begin_with_the_sentence(doors: Doors, situation: Situation) -> None:
    with doors.conn.transaction():  # so that the clock stands still
        situation(doors.conn)
        sentence = look_round(doors.conn, Retention()).verdict.sentence.rpartition("; `a`")
        first = f"{sentence[1].removeprefix('; ')}{sentence[2]}".removesuffix(".")
        noted = note_overdue(doors.conn).begun
    assert [each.words for each in noted if each.words.startswith(first)]
    stored = [text for (text,) in doors.conn.execute("SELECT message FROM _ayb_job_alerts")]
    assert sorted(stored) == sorted(each.words for each in noted)
    assert wording(first) in wording(doors.of_database("schedules", "overdue").out)

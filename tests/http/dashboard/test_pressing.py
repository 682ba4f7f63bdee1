"""Every action of the dashboard, pressed by a person in a real browser, with and without JavaScript."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from ayb_jobs import NewJob
from ayb_jobs.client.steps import open_batch
from ayb_jobs.client.sync_drivers import Psycopg, run
from ayb_jobs.model.batches import NewBatch
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import beat
from tests.factories import make_job, make_schedule
from tests.http.conftest import ADMIN, Server
from tests.http.dashboard import browsing
from tests.http.dashboard.test_session import routes_that_change

pytestmark = [browsing.NEEDS_A_BROWSER, pytest.mark.timeout(300)]
NAMED = re.compile(r"\{[a-z_]+\}")
IDS = re.compile(r"/(jobs|schedules|batches)/[0-9a-f-]{36}")


class Person:
    """Goes to pages, types, presses, and reads what was done. Keeps the paths of all forms that were sent."""

    def __init__(self, page: Any, url: str) -> None:
        self._page = page
        self._url = url
        self.sent: set[str] = set()
        page.on("request", self._note)

    def _note(self, asked: Any) -> None:
        if asked.method == "POST":
            path = asked.url.removeprefix(self._url).partition("?")[0]
            self.sent.add(IDS.sub(r"/\1/{}", path))

    def goes_to(self, path: str) -> None:
        self._page.goto(self._url + path)

    def types(self, **fields: str) -> None:
        for name, text in fields.items():
            self._page.fill(f"#{name}", text)

    def presses(self, *words: str, at: str = "") -> str:
        """Press one after another, from a page or where they are; return what the last page says was done."""
        if at:
            self.goes_to(at)
        for word in words:
            self._page.locator(f"main :is(a, button):text-is('{word}')").first.click()
        return str(self._page.inner_text(".told")).strip()


@pytest.fixture(params=[True, False], ids=["with JavaScript", "without JavaScript"])
def person(browser: Any, server: Server, request: pytest.FixtureRequest) -> Iterator[Person]:
    with browsing.watched(browser, server.url, java_script_enabled=request.param) as page:
        page.goto(f"{server.url}/login")
        page.fill("#token", ADMIN)
        page.click("button:text-is('Log in')")
        page.wait_for_selector("#sentence")
        yield Person(page, server.url)


def test_every_action_is_pressed_and_says_what_it_did(person: Person, server: Server, conn: Connection) -> None:
    presses_of_jobs(person, conn)
    presses_of_schedules(person, conn)
    presses_of_flow(person, conn)
    forms = {NAMED.sub("{}", path) for path in routes_that_change(server)}
    assert person.sent - {"/login"} == forms


def presses_of_jobs(person: Person, conn: Connection) -> None:
    failed, queued = make_job(conn, "failed", type="send_mail"), make_job(conn, type="send_mail")
    many = [make_job(conn, "failed", type="many") for _ in range(2)]
    assert person.presses("Retry this job", at=f"/jobs/{failed}") == "The job is queued again."
    assert person.presses("Cancel this job …", "Cancel this job", at=f"/jobs/{queued}") == "The job is canceled."
    assert person.presses("Run again", at=f"/jobs/{queued}") == "The job is enqueued."
    assert states(conn, failed, queued) == ["queued", "canceled"]
    bulk = person.presses("Retry 2 that match …", "Retry 2 jobs", at="/jobs?state=failed&type=many")
    assert (bulk, states(conn, *many)) == ("2 jobs were queued again.", ["queued", "queued"])
    person.goes_to("/enqueue")
    person.types(type="send_mail", payload='{"to": "ada"}')
    assert person.presses("Enqueue it") == "The job is enqueued."


def presses_of_schedules(person: Person, conn: Connection) -> None:
    schedule = make_schedule(conn, name="nightly", job_type="send_mail", cron_expr="0 3 * * *")
    at = f"/schedules/{schedule}"
    assert person.presses("Disable", at=at) == "The schedule is disabled."
    assert person.presses("Enable", at=at).startswith("The schedule is enabled")
    assert "enqueued" in person.presses("Run now", at=at)
    person.goes_to(at)
    person.types(cron="15 4 * * *")
    assert person.presses("Save") == "The schedule is saved."
    assert conn.execute("SELECT cron_expr FROM _ayb_job_schedules").fetchall() == [("15 4 * * *",)]
    assert person.presses("Delete …", "Delete this schedule", at=at).startswith("The schedule is deleted")
    person.goes_to("/schedules/new")
    person.types(name="hourly", job_type="send_mail", cron="@hourly")
    assert person.presses("Create it") == "The schedule is created."


def presses_of_flow(person: Person, conn: Connection) -> None:
    beat(
        conn, DaemonRecord(id="a:1", host="a", pid=1, version="1", concurrency=1, queues=["mail"], types=["send_mail"])
    )
    make_job(conn, queue="mail")
    person.goes_to("/queues/pause")
    person.types(name="mail")
    assert person.presses("Pause it").startswith("The queue is paused.")
    assert person.presses("Resume", at="/queues") == "The queue is resumed."
    person.goes_to("/queues/limit")
    person.types(name="few", types="send_mail", max_running="1")
    assert person.presses("Set it").startswith("The limit is set.")
    assert person.presses("Remove this limit", at="/queues/limit/remove?name=few") == "The limit is removed."
    batch = run(open_batch(NewBatch(on_done=NewJob(type="send_mail"))), Psycopg(conn).fetch)
    assert person.presses("Seal this batch", at=f"/batches/{batch}").startswith("The batch is sealed")
    other = run(open_batch(NewBatch()), Psycopg(conn).fetch)
    assert person.presses("Cancel this batch …", "Cancel this batch", at=f"/batches/{other}").startswith(
        "The batch is c"
    )
    assert person.presses("Drain …", "Drain this daemon", at="/daemons").startswith("The daemon is asked to drain")


def states(conn: Connection, *ids: str) -> list[str]:
    found: dict[str, str] = dict(
        conn.execute("SELECT id::text, state FROM _ayb_jobs WHERE id = ANY (%s::uuid[])", (list(ids),)).fetchall()
    )
    return [found[id_] for id_ in ids]

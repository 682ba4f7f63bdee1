"""Forms that were open while somebody else changed the same thing."""

from collections.abc import Iterator

import pytest

from ayb_jobs.model.limits import NewLimit
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.limits import find_limit, set_limit
from tests.factories import make_schedule
from tests.http.conftest import Server
from tests.http.dashboard.visiting import Guest, visiting


@pytest.fixture
def guest(server: Server) -> Iterator[Guest]:
    with visiting(server) as logged_in:
        yield logged_in


def of_schedule(conn: Connection) -> object:
    return conn.execute("SELECT cron_expr::text, payload FROM _ayb_job_schedules").fetchone()


def test_saving_a_schedule_keeps_what_somebody_else_changed_meanwhile(guest: Guest, conn: Connection) -> None:
    schedule = make_schedule(conn, name="nightly", cron_expr="0 3 * * *")
    page = guest.get(f"/schedules/{schedule}")
    conn.execute("UPDATE _ayb_job_schedules SET cron_expr = '0 5 * * *'")
    assert "saved" in guest.press(page, "Save", payload='{"n": 2}').path
    assert of_schedule(conn) == ("0 5 * * *", {"n": 2})


def test_a_field_that_two_people_change_is_told_to_the_second(guest: Guest, conn: Connection) -> None:
    schedule = make_schedule(conn, name="nightly", cron_expr="0 3 * * *")
    page = guest.press(guest.get(f"/schedules/{schedule}"), "Preview", cron="0 4 * * *")
    conn.execute("""UPDATE _ayb_job_schedules SET cron_expr = '0 5 * * *', payload = '{"n": 1}'""")
    told = guest.press(page, "Save")
    assert told.status == 409
    assert "Somebody changed cron to 0 5 * * * meanwhile. Save again to have yours." in told.text
    assert of_schedule(conn) == ("0 5 * * *", {"n": 1})
    assert "saved" in guest.press(told, "Save").path
    assert of_schedule(conn) == ("0 4 * * *", {"n": 1})


def test_seconds_are_shown_digit_for_digit(guest: Guest, conn: Connection) -> None:
    schedule = make_schedule(conn, name="nightly", timeout_s=2764812.5, jitter_s=90.0)
    shown = guest.get(f"/schedules/{schedule}").form("Save").fields
    assert (shown["timeout_s"], shown["jitter_s"]) == ("2764812.5", "90")


def test_a_limit_that_somebody_else_changed_meanwhile_is_told(guest: Guest, conn: Connection) -> None:
    def limit(most: int) -> None:
        with conn.transaction():
            set_limit(conn, NewLimit(name="few", types=["t"], max_running=most), by="ann")

    limit(1)
    page = guest.get("/queues/limit?name=few")
    limit(2)
    told = guest.press(page, "Set it", key_max_running="3")
    assert (told.status, "Somebody changed or removed this limit meanwhile." in told.text) == (409, True)
    found = find_limit(conn, "few")
    assert found is not None
    assert (found.new.max_running, found.new.key_max_running) == (2, None)
    guest.press(told, "Set it")
    found = find_limit(conn, "few")
    assert found is not None
    assert (found.new.max_running, found.new.key_max_running) == (1, 3)

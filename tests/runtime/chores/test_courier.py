"""An alert whose delivery cannot be recorded stops no address: it is set aside and told, and the others go on."""

from collections.abc import Iterator
from contextlib import closing, suppress

import psycopg
import pytest
from psycopg import sql

from ayb_jobs.runtime.chores.courier import COURIER_S, Courier
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.schedules.deliveries import Alert, target_id
from tests.aside import set_aside
from tests.factories import make_schedule

RAISES = ["RAISE EXCEPTION 'no'", "RAISE EXCEPTION 'no' USING ERRCODE = '40001'"]
# When the trigger comes, for the bad alert alone, and how it may change the row.
STEPS = {
    "addressed": ("INSERT", "true", "new.target := 'other'; RETURN new"),
    "taken": ("UPDATE", "new.attempts > old.attempts", "new.try_at := old.try_at; RETURN new"),
    "settled": ("UPDATE", "new.attempts = old.attempts", "new.delivered_at := NULL; RETURN new"),
}


class Listener:
    """An address that takes every alert, and keeps what it was told."""

    key = host = "listener"

    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, alert: Alert) -> str | None:
        """Take an alert."""
        self.told.append(alert.id)
        return None


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url, name="test")) as made:
        yield made


def make_alerts(conn: Connection, count: int) -> list[str]:
    """Note alerts of one schedule."""
    schedule_id = make_schedule(conn, enabled=False, next_run_at=None)
    return [
        conn.execute(
            "INSERT INTO _ayb_job_alerts (kind, schedule_id, about, message)"
            " VALUES ('failed', %s, %s, 'it failed') RETURNING id::text",
            (schedule_id, str(number)),
        ).fetchall()[0][0]
        for number in range(count)
    ]


def refuse(conn: Connection, bad: str, event: str, when: str, what: str) -> None:
    """Have a trigger of the application's refuse a change of the bad alert's delivery."""
    conn.execute(
        sql.SQL("""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF new.alert_id = {bad} AND {when} THEN {what}; END IF;
                RETURN new;
            END $$;
            CREATE TRIGGER refuse BEFORE {event} ON _ayb_job_alert_deliveries FOR EACH ROW EXECUTE FUNCTION refuse();
        """).format(bad=sql.Literal(bad), when=sql.SQL(when), what=sql.SQL(what), event=sql.SQL(event))
    )


def ticked(courier: Courier) -> None:
    """Let turns pass, of which some may fail."""
    for _ in range(7):
        with suppress(psycopg.errors.SerializationFailure):
            assert courier.tick() == COURIER_S


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("refusal", [*RAISES, "RETURN NULL", "RETURN old", "change"])
def test_an_alert_whose_delivery_is_refused_is_set_aside_and_told_and_the_others_are_delivered(
    database: Database, conn: Connection, step: str, refusal: str
) -> None:
    bad, *good = make_alerts(conn, 20)
    event, when, change = STEPS[step]
    refuse(conn, bad, event, when, change if refusal == "change" else refusal)
    told: list[object] = []
    listener = Listener()
    ticked(Courier(database, listener, told.append))
    assert sorted(listener.told) == sorted([bad, *good] if step == "settled" else good)
    assert set(set_aside(told)) == {bad}


@pytest.mark.parametrize("step", STEPS)
def test_an_alert_that_was_set_aside_is_delivered_once_when_the_database_takes_it(
    database: Database, conn: Connection, step: str
) -> None:
    (bad,) = make_alerts(conn, 1)
    event, when, _ = STEPS[step]
    refuse(conn, bad, event, when, RAISES[0])
    listener = Listener()
    courier = Courier(database, listener, lambda _: None)
    courier.tick()
    conn.execute("DROP TRIGGER refuse ON _ayb_job_alert_deliveries")
    conn.execute("UPDATE _ayb_job_alert_deliveries SET try_at = now() - interval '1 second'")
    courier.tick()
    assert listener.told == ([bad] if step == "settled" else []), "it is tried again after a while"
    courier._aside.waits.end_all()
    courier.tick()
    assert listener.told == [bad]
    assert conn.execute("SELECT count(*) FROM _ayb_job_alert_deliveries WHERE delivered_at <= now()").fetchone() == (1,)


def test_an_alert_that_somebody_holds_locked_ends_the_turn(database: Database, conn: Connection) -> None:
    make_alerts(conn, 1)
    listener = Listener()
    courier = Courier(database, listener, lambda _: None)
    conn.execute("INSERT INTO _ayb_job_alert_deliveries (alert_id, target) SELECT id, %s FROM _ayb_job_alerts", (KEY,))
    with conn.transaction():
        conn.execute("SELECT FROM _ayb_job_alert_deliveries FOR UPDATE")
        assert courier.tick() == COURIER_S
    assert listener.told == []


KEY = target_id(Listener.key)

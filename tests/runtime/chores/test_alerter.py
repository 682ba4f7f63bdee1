"""Alerts leave the house: once, signed, until they are taken, and without holding anything up."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.errors import UndefinedTable
from psycopg.rows import TupleRow
from standardwebhooks import Webhook as StandardWebhook
from standardwebhooks import WebhookVerificationError

from ayb_jobs.config import Alerts
from ayb_jobs.events import (
    AlertsDelivered,
    AlertsUndelivered,
    Events,
    JobsLeased,
    JobsSettled,
    RowsSetAside,
    ScheduleOverdue,
    ScheduleRecovered,
)
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.lifecycle import settle_result
from ayb_jobs.model.schedules.schedule import NewSchedule
from ayb_jobs.runtime.chores.alerter import WATCH_S, Alerter, alert_chores
from ayb_jobs.runtime.chores.courier import Courier, FailPings, Webhook
from ayb_jobs.runtime.chores.pinger import PING_S, Pinger
from ayb_jobs.runtime.narrowing import MOST_REFUSED
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.fleet.daemons import beat
from ayb_jobs.storage.schedules.deliveries import MOST_ATTEMPTS, target_id
from ayb_jobs.storage.schedules.schedules import create_schedule
from tests.aside import set_aside
from tests.eventually import eventually
from tests.receiver import Receiver

SECRET, OLD_SECRET = (
    "whsec_bmV3IHNlY3JldCwgbmV3IHNlY3JldCwgbmV3IG9uZSE=",
    "whsec_b2xkIHNlY3JldCwgb2xkIHNlY3JldCwgb2xkIG9uZSE=",
)

Conn = psycopg.Connection[TupleRow]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def add(conn: Conn, name: str = "nightly", **values: Any) -> str:
    schedule = NewSchedule(**{"name": name, "job_type": "t", "cron": "0 3 * * *", **values})
    return create_schedule(conn, schedule).id


def make_overdue(conn: Conn) -> None:
    conn.execute("UPDATE _ayb_job_schedules SET watched_since = now() - interval '1 day'")


def again(conn: Conn) -> None:
    """Let every pause between attempts be over."""
    conn.execute("UPDATE _ayb_job_alert_deliveries SET try_at = now() - interval '1 second'")


def test_a_schedule_without_success_is_told_once_and_its_recovery_once(conn: Conn, database: Database) -> None:
    schedule_id = add(conn, expect_success_within_s=3600)
    events: list[object] = []
    alerter = Alerter(database, events.append)
    alerter.tick()
    assert events == []
    make_overdue(conn)
    for _ in range(3):
        alerter.tick()
    assert [(type(event), getattr(event, "reason", "")) for event in events] == [(ScheduleOverdue, "no_success")]
    conn.execute(
        "INSERT INTO _ayb_job_executions (id, job_id, job_type, schedule_id, attempt, outcome, started_at, ended_at) "
        "VALUES (1, gen_random_uuid(), 't', %s, 1, 'completed', now(), now())",
        (schedule_id,),
    )
    for _ in range(3):
        alerter.tick()
    assert events[1:] == [ScheduleRecovered(name="nightly")]


def test_many_daemons_note_a_change_once(conn: Conn, database_url: str) -> None:
    for number in range(20):
        add(conn, f"s{number}", expect_success_within_s=3600)
    make_overdue(conn)
    events: list[object] = []
    databases = [Database(database_url) for _ in range(4)]
    threads = [threading.Thread(target=Alerter(each, events.append).tick) for each in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in databases:
        each.close()
    assert len(events) == 20
    assert conn.execute("SELECT count(*) FROM _ayb_job_alerts").fetchone() == (20,)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("last_error = 'no such zone', next_run_at = NULL", "broken"),
        ("next_run_at = now() - interval '2 minutes'", "not_fired"),
        ("watched_since = now() - interval '2 hours'", "no_success"),
    ],
)
def test_each_way_of_being_overdue_is_told(conn: Conn, database: Database, change: str, reason: str) -> None:
    add(conn, expect_success_within_s=3600)
    conn.execute(f"UPDATE _ayb_job_schedules SET {change}")
    events: list[Any] = []
    Alerter(database, events.append).tick()
    assert [event.reason for event in events] == [reason]


def test_a_schedule_whose_jobs_no_live_daemon_can_run_is_overdue(conn: Conn, database: Database) -> None:
    add(conn)
    conn.execute(
        "INSERT INTO _ayb_jobs (type, schedule_id, run_at)"
        " SELECT job_type, id, now() - interval '2 minutes' FROM _ayb_job_schedules"
    )
    events: list[Any] = []
    alerter = Alerter(database, events.append)
    alerter.tick()
    assert [event.reason for event in events] == ["unserved"]
    (job_type,) = conn.execute("SELECT job_type FROM _ayb_job_schedules").fetchone() or ("",)
    beat(conn, DaemonRecord(id="d", host="h", pid=1, version="1", concurrency=1, queues=["default"], types=[job_type]))
    alerter.tick()
    assert [type(event).__name__ for event in events[1:]] == ["ScheduleRecovered"]


@pytest.mark.parametrize("trigger", ["BEFORE UPDATE ON _ayb_job_schedules", "BEFORE INSERT ON _ayb_job_alerts"])
def test_a_schedule_that_the_application_refuses_to_have_noted_is_set_aside_and_the_others_are_told(
    conn: Conn, database: Database, trigger: str
) -> None:
    bad = add(conn, "bad", expect_success_within_s=3600)
    add(conn, "good", expect_success_within_s=3600)
    make_overdue(conn)
    refuse(conn, trigger, bad, "RAISE EXCEPTION 'the application refuses it'")
    events: list[Any] = []
    alerter = Alerter(database, events.append)
    assert [alerter.tick(), alerter.tick()] == [0.0, WATCH_S]
    assert [event.name for event in events if isinstance(event, ScheduleOverdue)] == ["good"]
    (told,) = [event for event in events if isinstance(event, RowsSetAside)]
    assert (told.row_ids, "the application refuses it" in told.error) == ((bad,), True)


def test_failures_are_noted_beside_one_that_the_application_refuses(conn: Conn, database: Database) -> None:
    bad, good = add(conn, "bad"), add(conn, "good")
    refuse(conn, "BEFORE INSERT ON _ayb_job_alerts", bad, "RAISE EXCEPTION 'the application refuses it'")
    for schedule_id in (bad, good):
        conn.execute("INSERT INTO _ayb_jobs (type, state, schedule_id) VALUES ('t', 'failed', %s)", (schedule_id,))
    events: list[Any] = []
    Alerter(database, events.append).tick()
    assert conn.execute("SELECT kind, schedule_id::text FROM _ayb_job_alerts").fetchall() == [("failed", good)]
    assert set_aside(events) == [bad]


def test_a_schedule_whose_row_a_trigger_keeps_as_it_is_is_set_aside_and_told_once(
    conn: Conn, database: Database
) -> None:
    bad = add(conn, expect_success_within_s=3600)
    make_overdue(conn)
    refuse(conn, "BEFORE UPDATE ON _ayb_job_schedules", bad, "RETURN NULL")
    events: list[Any] = []
    alerter = Alerter(database, events.append)
    assert [alerter.tick(), alerter.tick()] == [WATCH_S, WATCH_S]
    assert [type(event) for event in events] == [RowsSetAside]
    assert conn.execute("SELECT count(*) FROM _ayb_job_alerts").fetchone() == (0,)


def test_many_schedules_that_are_refused_keep_none_behind_them_from_being_told(conn: Conn, database: Database) -> None:
    for number in range(2 * MOST_REFUSED):
        add(conn, f"bad {number}", expect_success_within_s=3600)
    add(conn, "good", expect_success_within_s=3600)
    make_overdue(conn)
    conn.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON _ayb_job_schedules
            FOR EACH ROW WHEN (old.name <> 'good') EXECUTE FUNCTION refuse();
    """)
    events: list[Any] = []
    alerter = Alerter(database, events.append)
    turns = 1
    while alerter.tick() < WATCH_S:
        turns += 1
    assert turns > 1, "all were refused in one turn"
    assert [event.name for event in events if isinstance(event, ScheduleOverdue)] == ["good"]


def refuse(conn: Conn, trigger: str, schedule_id: str, what: str) -> None:
    """Have a trigger of the application's do something about the rows of one schedule."""
    conn.execute(f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF '{schedule_id}' IN (to_jsonb(new) ->> 'id', to_jsonb(new) ->> 'schedule_id') THEN {what}; END IF;
            RETURN new;
        END $$;
        CREATE TRIGGER refuse {trigger} FOR EACH ROW EXECUTE FUNCTION refuse();
    """)


@pytest.mark.parametrize("instant", ["infinity", "-infinity", "294276-12-31", "4713-01-01 BC"])
def test_an_instant_at_the_end_of_time_hides_no_other(conn: Conn, database: Database, instant: str) -> None:
    add(conn, "odd", expect_success_within_s=1)
    add(conn, "late", expect_success_within_s=3600)
    make_overdue(conn)
    conn.execute(
        "UPDATE _ayb_job_schedules SET watched_since = %s, expect_success_within_s = 1e300 WHERE name = 'odd'",
        (instant,),
    )
    events: list[Any] = []
    Alerter(database, events.append).tick()
    assert "late" in [event.name for event in events]


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "1e300"])
def test_an_expectation_that_no_interval_holds_hides_no_other(conn: Conn, database: Database, seconds: str) -> None:
    add(conn, "odd", expect_success_within_s=3600)
    add(conn, "late", expect_success_within_s=3600)
    conn.execute("UPDATE _ayb_job_schedules SET expect_success_within_s = %s WHERE name = 'odd'", (seconds,))
    make_overdue(conn)
    events: list[Any] = []
    Alerter(database, events.append).tick()
    assert [event.name for event in events] == ["late"]


@pytest.mark.parametrize(
    "change",
    [
        "enabled = false, watched_since = now() - interval '2 hours'",
        "expect_success_within_s = NULL, watched_since = now() - interval '2 hours'",
        "next_run_at = now() - interval '30 seconds'",
        "watched_since = now() - interval '59 minutes'",
    ],
)
def test_what_is_not_overdue_is_not_told(conn: Conn, database: Database, change: str) -> None:
    add(conn, expect_success_within_s=3600)
    conn.execute(f"UPDATE _ayb_job_schedules SET {change}")
    events: list[object] = []
    Alerter(database, events.append).tick()
    assert events == []


def test_a_webhook_gets_each_alert_once_and_signed(conn: Conn, database: Database, receiver: Receiver) -> None:
    schedule_id = add(conn, expect_success_within_s=3600)
    make_overdue(conn)
    Alerter(database, lambda _: None).tick()
    couriers = [
        Courier(database, Webhook(f"{receiver.url}/hook?key=1", secrets=[SECRET], timeout_s=5), lambda _: None)
        for _ in range(2)
    ]
    for courier in couriers:
        courier.tick()
    [request] = receiver.requests
    told = json.loads(request.body)
    assert (told["kind"], told["schedule"], told["scheduleId"]) == ("overdue", "nightly", schedule_id)
    assert request.path == "/hook?key=1"
    assert request.headers["webhook-id"] == told["id"]
    assert StandardWebhook(SECRET).verify(request.body, request.headers) == told
    with pytest.raises(WebhookVerificationError):
        StandardWebhook(OLD_SECRET).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        StandardWebhook(SECRET).verify(request.body + b" ", request.headers)


def test_a_webhook_is_signed_by_both_secrets_while_they_change(
    conn: Conn, database: Database, receiver: Receiver
) -> None:
    add(conn, expect_success_within_s=3600)
    make_overdue(conn)
    settings = Alerts(webhooks=[receiver.url], webhook_secret=SECRET, previous_webhook_secret=OLD_SECRET)
    assert not list(settings.contradictions())
    chores = alert_chores(settings, database, Events())
    chores["alerter"].tick()
    chores["webhook 1"].tick()
    [request] = receiver.requests
    for secret in (SECRET, OLD_SECRET):
        assert StandardWebhook(secret).verify(request.body, request.headers)["kind"] == "overdue"


def test_without_a_secret_a_webhook_is_not_signed(conn: Conn, database: Database, receiver: Receiver) -> None:
    add(conn, expect_success_within_s=3600)
    make_overdue(conn)
    Alerter(database, lambda _: None).tick()
    Courier(database, Webhook(receiver.url, secrets=(), timeout_s=5), lambda _: None).tick()
    [request] = receiver.requests
    assert {"webhook-id", "webhook-timestamp"} <= request.headers.keys()
    assert "webhook-signature" not in request.headers


def test_an_address_that_refuses_is_tried_again_and_told_about_once(
    conn: Conn, database: Database, receiver: Receiver
) -> None:
    add(conn, expect_success_within_s=3600)
    make_overdue(conn)
    Alerter(database, lambda _: None).tick()
    events: list[object] = []
    courier = Courier(database, Webhook(f"{receiver.url}/secret", secrets=(), timeout_s=5), events.append)
    receiver.status = 500
    for _ in range(3):
        courier.tick()
        again(conn)
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    assert len(receiver.requests) == 3
    assert [type(event) for event in events] == [AlertsUndelivered]
    assert "secret" not in str(events)
    receiver.status = 200
    courier.tick()
    again(conn)
    courier.tick()
    assert len(receiver.requests) == 4
    assert [type(event) for event in events] == [AlertsUndelivered, AlertsDelivered]
    row = conn.execute("SELECT attempts, delivered_at IS NOT NULL, target FROM _ayb_job_alert_deliveries").fetchone()
    assert row is not None
    assert row[:2] == (4, True)
    assert "secret" not in row[2]


def test_an_address_that_never_answers_is_given_up(conn: Conn, database: Database) -> None:
    add(conn, expect_success_within_s=3600)
    make_overdue(conn)
    Alerter(database, lambda _: None).tick()
    courier = Courier(database, Webhook("http://127.0.0.1:9/", secrets=(), timeout_s=1), lambda _: None)
    for _ in range(MOST_ATTEMPTS + 3):
        courier.tick()
        again(conn)
    assert conn.execute("SELECT attempts FROM _ayb_job_alert_deliveries").fetchone() == (MOST_ATTEMPTS,)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(conn: Conn, database: Database, receiver: Receiver, status: int) -> None:
    add(conn, expect_success_within_s=3600)
    make_overdue(conn)
    Alerter(database, lambda _: None).tick()
    receiver.status = status
    Courier(database, Webhook(f"{receiver.url}/hook", secrets=(), timeout_s=5), lambda _: None).tick()
    assert receiver.paths() == ["/hook"]


def test_a_scheduled_job_that_failed_for_good_is_told_once(conn: Conn, database: Database, receiver: Receiver) -> None:
    schedule_id = add(conn)
    conn.execute(
        "INSERT INTO _ayb_jobs (type, state, schedule_id, last_error, attempts) VALUES ('t', 'failed', %s, 'boom', 3), "
        "('t', 'failed', NULL, 'not scheduled', 3), ('t', 'queued', %s, 'will be tried again', 1)",
        (schedule_id, schedule_id),
    )
    for _ in range(3):
        Alerter(database, lambda _: None).tick()
        Courier(database, Webhook(receiver.url, secrets=(), timeout_s=5), lambda _: None).tick()
    [request] = receiver.requests
    assert json.loads(request.body)["kind"] == "failed"
    assert "boom" in json.loads(request.body)["message"]


def test_fail_pings_go_to_a_schedules_own_address_or_its_name_under_the_common_one(
    conn: Conn, database: Database, receiver: Receiver
) -> None:
    add(conn, "a b", expect_success_within_s=3600)
    add(conn, "own", expect_success_within_s=3600, ping_url=f"{receiver.url}/mine/")
    make_overdue(conn)
    Alerter(database, lambda _: None).tick()
    Courier(database, FailPings(f"{receiver.url}/base/", timeout_s=5), lambda _: None).tick()
    assert sorted(receiver.paths()) == ["/base/a%20b/fail", "/mine/fail"]


def leased(schedule_id: str | None) -> LeasedJob:
    fields: dict[str, Any] = dict.fromkeys(LeasedJob._fields)
    return LeasedJob(**fields | {"id": "j", "schedule_id": schedule_id, "attempt": 1, "max_attempts": 3})


def test_runs_are_pinged_as_they_start_and_succeed(conn: Conn, database: Database, receiver: Receiver) -> None:
    schedule_id = add(conn)
    pinger = Pinger(database, lambda _: None, base=receiver.url, timeout_s=5)
    pinger(JobsLeased(jobs=[leased(schedule_id), leased(None)]))
    pinger.tick()
    pinger(JobsSettled(settlements=[settle_result(leased(schedule_id), None, 0.0, 1.0)], now=1.0))
    pinger.tick()
    pinger.tick()
    assert receiver.paths() == ["/nightly/start", "/nightly"]


def test_the_pinger_rests_until_a_ping_waits_and_a_second_lies_between_two_turns_that_send(
    conn: Conn, database: Database, receiver: Receiver
) -> None:
    schedule_id, woken = add(conn), list[str]()
    pinger = Pinger(database, lambda _: None, base=receiver.url, timeout_s=5, wake=lambda: woken.append("ping"))
    assert pinger.tick() > 60
    pinger(JobsLeased(jobs=[leased(None)]))
    assert woken == []
    for _ in range(2):
        pinger(JobsLeased(jobs=[leased(schedule_id)]))
    assert woken == ["ping"]
    assert pinger.tick() == PING_S
    pinger(JobsLeased(jobs=[leased(schedule_id)]))
    assert woken == ["ping"], "it was woken before the second was over"
    assert pinger.tick() == PING_S
    assert pinger.tick() > 60
    assert receiver.paths() == ["/nightly/start"] * 2


def test_a_ping_outlives_a_failure_of_the_database(conn: Conn, database: Database, receiver: Receiver) -> None:
    schedule_id = add(conn)
    pinger = Pinger(database, lambda _: None, base=receiver.url, timeout_s=5)
    pinger(JobsLeased(jobs=[leased(schedule_id)]))
    conn.execute("ALTER TABLE _ayb_job_schedules RENAME TO away")
    with pytest.raises(UndefinedTable):
        pinger.tick()
    conn.execute("ALTER TABLE away RENAME TO _ayb_job_schedules")
    pinger.tick()
    assert receiver.paths() == ["/nightly/start"]


def test_a_ping_that_fails_is_tried_three_times(conn: Conn, database: Database, receiver: Receiver) -> None:
    schedule_id = add(conn)
    receiver.status = 500
    events: list[object] = []
    pinger = Pinger(database, events.append, base=receiver.url, timeout_s=5)
    pinger(JobsSettled(settlements=[settle_result(leased(schedule_id), None, 0.0, 1.0)], now=1.0))
    for _ in range(5):
        pinger.tick()
    assert receiver.paths() == ["/nightly"] * 3
    assert [type(event) for event in events] == [AlertsUndelivered]


@pytest.mark.parametrize("url", ["hc.example.com/x", "http://[bad", "http://", "file:///etc/hosts", "http://a b/"])
def test_an_address_that_is_none_is_a_failure_like_any_other(
    conn: Conn, database: Database, receiver: Receiver, url: str
) -> None:
    """Plain SQL may write any `ping_url`; the other schedules are pinged all the same."""
    broken, sound = add(conn, "broken"), add(conn, "sound")
    conn.execute("UPDATE _ayb_job_schedules SET ping_url = %s WHERE name = 'broken'", (url,))
    events: list[object] = []
    pinger = Pinger(database, events.append, base=receiver.url, timeout_s=5)
    pinger(JobsLeased(jobs=[leased(broken), leased(sound)]))
    pinger.tick()
    assert receiver.paths() == ["/sound/start"]
    assert [type(event) for event in events] == [AlertsUndelivered]


def test_the_settings_make_one_loop_for_each_address(conn: Conn, database: Database, receiver: Receiver) -> None:
    settings = Alerts(webhooks=[f"{receiver.url}/a", f"{receiver.url}/b"])
    chores = alert_chores(settings, database, Events())
    add(conn, expect_success_within_s=3600)
    make_overdue(conn)
    for chore in chores.values():
        chore.tick()
    eventually(lambda: sorted(receiver.paths()) == ["/a", "/b"])


def test_couriers_are_woken_for_what_they_have_to_deliver(conn: Conn, database: Database, receiver: Receiver) -> None:
    address = Webhook(receiver.url, secrets=(), timeout_s=5)
    woken: list[str] = []
    alerter = Alerter(database, lambda _: None, {address.key: lambda: woken.append("it"), "other": woken.clear})
    courier = Courier(database, address, lambda _: None)
    add(conn, expect_success_within_s=3600)
    alerter.tick()
    assert woken == []
    make_overdue(conn)
    Alerter(database, lambda _: None).tick()
    conn.execute("INSERT INTO _ayb_job_alert_deliveries SELECT id, %s, 12 FROM _ayb_job_alerts", (target_id("other"),))
    alerter.tick()
    assert woken == ["it"]
    receiver.status = 500
    courier.tick()
    alerter.tick()
    assert woken == ["it"]
    again(conn)
    alerter.tick()
    assert woken == ["it", "it"]
    receiver.status = 200
    courier.tick()
    again(conn)
    alerter.tick()
    assert woken == ["it", "it"]


def test_a_schedule_that_is_overdue_again_for_the_same_reason_is_told_again(conn: Conn, database: Database) -> None:
    """An edit of the expectation back and forth leaves it overdue since the same instant."""
    add(conn, expect_success_within_s=3600)
    make_overdue(conn)
    for expected_s in (3600, 30 * 86400, 3600):
        conn.execute("UPDATE _ayb_job_schedules SET expect_success_within_s = %s", (expected_s,))
        Alerter(database, lambda _: None).tick()
    kinds = conn.execute("SELECT kind FROM _ayb_job_alerts ORDER BY at").fetchall()
    assert [kind for (kind,) in kinds] == ["overdue", "recovered", "overdue"]

"""Every page and every action of the dashboard, without JavaScript."""

import gzip
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
from psycopg import sql

from ayb_jobs import NewJob, Unique, enqueue
from ayb_jobs.checks.glance import glance
from ayb_jobs.checks.verdict import look_round
from ayb_jobs.cli.commands.top.screen import whole
from ayb_jobs.client.steps import open_batch
from ayb_jobs.client.sync_drivers import Psycopg, run
from ayb_jobs.config import Api, Retention
from ayb_jobs.errors import DatabaseError
from ayb_jobs.http.dashboard import shared
from ayb_jobs.http.dashboard.charts import line, marked, portions, round_top
from ayb_jobs.http.dashboard.shell import templates
from ayb_jobs.model.batches import NewBatch
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.daemons import Troubles, beat
from ayb_jobs.storage.fleet.limits import set_limit
from ayb_jobs.storage.fleet.pauses import pause
from ayb_jobs.storage.queue.minutes import keep_level
from tests.factories import make_job, make_schedule
from tests.http.conftest import OPERATE, READ, Server, serving
from tests.http.dashboard.visiting import SECURE, Guest, visiting
from tests.runtime.test_hostile_rows import A_SCHEDULE, SCHEDULE, write_hostile_rows

PATHS = (
    "/", "/jobs", "/jobs?state=waiting", "/jobs?state=later", "/jobs?state=running", "/jobs?state=failed",
    "/jobs?state=completed&type=a&queue=b&key=c&since=2026-11-25&until=2026-11-26&error=d", "/jobs/bulk?action=retry",
    "/failures", "/failures?seen=ever", "/schedules", "/schedules/new", "/schedules/preview?cron=@hourly", "/executions",
    "/executions?over=week&outcome=failed&type=a", "/batches", "/batches?state=open", "/queues", "/queues?limit=x", "/queues/pause",
    "/queues/limit", "/daemons", "/audit", "/audit?target=x", "/enqueue", "/zone",
)  # fmt: skip


@pytest.fixture
def guest(server: Server) -> Iterator[Guest]:
    with visiting(server) as logged_in:
        yield logged_in


def a_daemon(conn: Connection) -> None:
    beat(
        conn, DaemonRecord(id="a", host="h", pid=1, version="1", concurrency=2, queues=["default"], types=["send_mail"])
    )


@pytest.mark.parametrize("token", [READ, OPERATE])
def test_every_page_answers_on_an_empty_database_and_forbids_all_from_elsewhere(server: Server, token: str) -> None:
    with visiting(server, token) as guest:
        for path in PATHS:
            answer = guest.client.get(path)
            of_operators = ("/jobs/bulk", "/enqueue", "/schedules/new", "/queues/pause", "/queues/limit")
            is_free = token == OPERATE or not path.startswith(of_operators)
            is_free &= not path.startswith("/schedules/new")
            assert answer.status_code == (200 if is_free else 403), path
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
            assert "unsafe" not in policy
            assert all(name in answer.headers for name in SECURE)
            assert answer.headers["cache-control"] == "no-store"


def test_the_first_page_claims_nothing_of_due_jobs_that_were_not_looked_at(guest: Guest, conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, "completed")
    many = "INSERT INTO _ayb_jobs (type) SELECT 'send_mail' FROM generate_series(1, %s)"
    conn.execute(many, (9999,))
    assert "each due job has one that can run it" in guest.get("/").text
    conn.execute(many, (1,))
    assert "each due job that was looked at has one that can run it" in guest.get("/").text


def test_why_a_job_waits_is_told_with_the_times_of_the_page(guest: Guest, conn: Connection) -> None:
    a_daemon(conn)
    job = make_job(conn, type="send_mail", run_at=sql.SQL("'2090-01-01 UTC'"))
    assert "it is due only at Sun 1 Jan 2090 00:00 UTC." in guest.get(f"/jobs/{job}").text


def test_what_is_held_on_purpose_comes_after_what_is_wrong(guest: Guest, conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="strange")
    make_job(conn, type="send_mail", run_at=sql.SQL("now() - interval '5 minutes'"))
    with conn.transaction():
        pause(conn, NewPause(kind=PauseKind.TYPE, name="send_mail"), by="ada")
    make_schedule(conn, name="nightly", next_run_at=sql.SQL("now() - interval '1 hour'"), last_run_at=sql.SQL("now()"))
    page = guest.get("/")
    assert page.headline.startswith("1 due job waits that no live daemon can run")
    others = page.text.partition("Needs attention as well")[2]
    assert 0 < others.index("nightly") < others.index("send_mail")


def test_a_list_of_jobs_marks_those_that_are_paused(guest: Guest, conn: Connection) -> None:
    ids = {
        "heavy": make_job(conn, type="send_mail", queue="heavy"),
        "again": make_job(conn, type="held", attempts=1),
        "free": make_job(conn, type="send_mail"),
        "done": make_job(conn, "completed", type="held"),
        "ended": make_job(conn, type="send_mail", queue="ended"),
    }
    with conn.transaction():
        for kind, name in ((PauseKind.QUEUE, "heavy"), (PauseKind.TYPE, "held"), (PauseKind.QUEUE, "ended")):
            pause(conn, NewPause(kind=kind, name=name), by="ada")
    conn.execute("UPDATE _ayb_job_pauses SET until = now() - interval '1 s' WHERE name = 'ended'")
    rows = dict(re.findall(r'id="job-([0-9a-f-]+)">(.*?)</td>', guest.get("/jobs").html))
    words = {name: re.sub(r"<[^>]*>", "", rows[job_id]).strip() for name, job_id in ids.items()}
    assert words == {"heavy": "paused", "again": "paused", "free": "waits", "done": "completed", "ended": "waits"}


def test_a_daemon_that_is_asked_to_drain_is_marked(guest: Guest, conn: Connection) -> None:
    a_daemon(conn)
    assert "drains" not in guest.get("/daemons").html
    conn.execute("UPDATE _ayb_job_workers SET drain_requested_at = now()")
    assert "drains" in guest.get("/daemons").html


def test_the_first_sentence_is_that_of_the_checks(guest: Guest, conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn, type="nobody_knows", run_at=sql.SQL("now() - interval '1 hour'"))
    page = guest.get("/")
    assert page.headline == look_round(conn, Retention()).verdict.sentence.replace("`", "")
    assert page.links["Show 1"] == "/jobs?state=waiting&type=nobody_knows"


def test_what_the_sentence_tells_stands_once_on_the_page(guest: Guest, conn: Connection) -> None:
    a_daemon(conn)
    past = sql.SQL("now() - interval '4 hours'")
    make_schedule(conn, name="nightly_1", next_run_at=past, last_error="no such <table>")
    alone = guest.get("/")
    assert alone.headline == "nightly_1 cannot fire."
    assert "no such <table>" in alone.text
    assert "Nothing else needs attention." in alone.text
    make_schedule(conn, name="nightly_2", next_run_at=past)
    both = guest.get("/")
    assert both.headline.startswith("2 schedules did not do what is expected of them; nightly_")
    assert "Needs attention as well" in both.text
    for words in ("nightly_1 cannot fire", "nightly_2 is due, and no scheduler has fired it"):
        assert both.text.count(words) == 1, words


def test_a_pause_and_a_full_limit_that_jobs_wait_for_lead_to_their_page(guest: Guest, conn: Connection) -> None:
    a_daemon(conn)
    with conn.transaction():
        pause(conn, NewPause(kind=PauseKind.QUEUE, name="slow"), by="ada")
        set_limit(conn, NewLimit(name="few", types=["send_mail"], max_running=1), by="ada")
    past = sql.SQL("now() - interval '5 minutes'")
    paused = make_job(conn, queue="slow", run_at=sql.SQL("now() - interval '6 minutes'"))
    under: dict[str, Any] = {"type": "send_mail", "priority": 6, "limited_by": "few", "limited_key": ""}
    make_job(conn, "running", worker_id="a", last_run_at=past, **under)
    limited = make_job(conn, run_at=past, **under)
    page = guest.get("/")
    assert "in queue slow, paused" in page.text  # it waits longer than what is under the limit
    assert page.links["Show what is paused"] == "/queues"
    assert page.links["Show who holds it"] == "/queues?limit=few"
    assert "Limit few is at 1 of 1" in page.text
    assert guest.get(f"/jobs/{paused}").links["Show what is paused"] == "/queues"
    assert guest.get(f"/jobs/{limited}").links["Show who holds it"] == "/queues?limit=few"
    assert "2 queued jobs, due or not." in guest.get("/jobs?state=waiting").text


def test_what_a_first_start_shows_can_be_pressed(guest: Guest, conn: Connection) -> None:
    a_daemon(conn)
    page = guest.get("/")
    assert page.headline == "Ready, and nothing to do yet: 1 daemon with 2 free slots, no job so far."
    made = guest.press(page, "Run send_mail")
    assert "The job is enqueued." in made.text
    assert conn.execute("SELECT type FROM _ayb_jobs").fetchall() == [("send_mail",)]


def test_a_job_is_shown_whole_and_retried(guest: Guest, conn: Connection) -> None:
    error = "ValueError: no\n  File 1\n" + "x" * 20_000
    failed = make_job(conn, "failed", payload={"big": 9007199254740993, "a": [], "b": {"c": 1.10}}, last_error=error)
    page = guest.get(f"/jobs/{failed}")
    assert "failed after 3 of 3 attempts" in page.headline
    assert " ".join(error.split()) in page.text
    assert '"big": 9007199254740993' in page.text
    assert "ayb-jobs jobs enqueue test --payload" in page.text
    done = guest.press(page, "Retry this job")
    assert "The job is queued again." in done.text
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("queued",)


def test_a_job_that_waits_for_others_names_them_and_no_time_that_never_comes(guest: Guest, conn: Connection) -> None:
    parent = make_job(conn, "running", type="fetch")
    child = enqueue(conn, NewJob(type="join", depends_on=[parent])).id
    page = guest.get(f"/jobs/{child}")
    assert "waits for other jobs" in page.headline
    assert f"it depends on job {parent}, which is running" in page.text
    assert page.links[parent] == f"/jobs/{parent}"
    assert guest.get(f"/jobs/{parent}").links[child] == f"/jobs/{child}"
    listed = guest.get("/jobs?state=later")
    assert "depends on others" in listed.text
    assert "9999" not in page.text
    assert "due in" not in listed.text


def test_a_queued_job_is_canceled_after_a_question(guest: Guest, conn: Connection) -> None:
    queued = make_job(conn)
    page = guest.get(f"/jobs/{queued}")
    asked = guest.get(page.links["Cancel this job …"])
    assert asked.headline == "Cancel this job?"
    assert "The job is canceled." in guest.press(asked, "Cancel this job").text
    again = guest.press(asked, "Cancel this job")
    assert (again.status, conn.execute("SELECT state FROM _ayb_jobs").fetchone()) == (409, ("canceled",))
    assert "is canceled" in again.headline


def test_all_that_match_are_counted_first_and_the_filter_is_kept(guest: Guest, conn: Connection) -> None:
    for number in range(3):
        make_job(conn, "failed", type="mail", last_error=f"OSError: {number} & <more>")
    other = make_job(conn, "failed", type="other")
    page = guest.get("/jobs?state=failed&type=mail&error=oserror")
    assert "3 failed mail jobs with “oserror” in the error." in page.text
    asked = guest.get(page.links["Retry 3 that match …"])
    assert asked.headline == "Retry 3 jobs?"
    done = guest.press(asked, "Retry 3 jobs")
    assert "3 jobs were queued again." in done.text
    assert "type=mail" in done.path
    assert conn.execute("SELECT id::text FROM _ayb_jobs WHERE state = 'failed'").fetchall() == [(other,)]


def test_a_group_of_failures_is_retried_by_the_same_condition(guest: Guest, conn: Connection) -> None:
    for number in range(3):
        make_job(conn, "failed", type="mail", last_error=f"OSError: {number} of v2")
    make_job(conn, "failed", type="mail", last_error="OSError: none of v2")
    page = guest.get("/failures?seen=ever")
    assert "OSError: n of v2" in page.text
    asked = guest.get(next(href for href in page.hrefs if href.startswith("/jobs/bulk") and "%3Cn%3E" in href))
    assert asked.headline == "Retry 3 jobs?"
    guest.press(asked, "Retry 3 jobs")
    assert conn.execute("SELECT last_error FROM _ayb_jobs WHERE state = 'failed'").fetchall() == [
        ("OSError: none of v2",)
    ]


@pytest.mark.parametrize("action", ["retry", "cancel"])
def test_a_press_that_would_change_nothing_says_so_and_has_no_button(
    guest: Guest, conn: Connection, action: str
) -> None:
    make_job(conn, "completed")
    asked = guest.get(f"/jobs/bulk?action={action}&type=mail")
    assert asked.headline == f"No job to {action}"
    assert "mail jobs" in asked.text
    assert "None matches now." in asked.text
    assert "/jobs/bulk" not in [form.action for form in asked.forms]


def test_the_state_queued_leads_to_jobs_that_wait_and_an_unknown_one_is_named(guest: Guest, conn: Connection) -> None:
    make_job(conn, type="waits_now")
    page = guest.get("/jobs?state=queued&type=waits_now")
    assert (page.status, "waits_now" in page.text) == (200, True)
    unknown = guest.get("/jobs?state=stuck")
    assert unknown.status == 400
    assert re.search(r"There is no state `?stuck`?; there are all, waiting, later, running,", unknown.text), (
        unknown.text
    )


def test_a_schedule_that_the_database_refuses_to_change_is_one_press_away(guest: Guest, conn: Connection) -> None:
    schedule = make_schedule(conn)
    me = DaemonRecord(id="a", host="h", pid=1, version="1", concurrency=2, queues=["default"], types=["test"])
    beat(conn, me, Troubles(aside={"_ayb_job_schedules": {str(schedule): "not on Sundays"}}))
    html = guest.get("/").html
    assert re.search(rf'href="/schedules/{schedule}"[^>]*>\s*Show the schedule<', html), html


def test_an_hour_without_a_failure_is_told_as_such(guest: Guest, conn: Connection) -> None:
    make_job(conn, "completed")
    assert "No job failed in the last hour" in guest.get("/").text


def test_a_filter_that_is_wrong_is_told_at_its_field_and_does_nothing(guest: Guest, conn: Connection) -> None:
    make_job(conn, "failed")
    page = guest.get("/jobs?state=failed&since=yesterday")
    assert page.status == 400
    assert "Since is 'yesterday'; write it as 13:00" in page.text
    assert "Until is not after since" in guest.get("/jobs?since=2026-11-26&until=2026-11-25").text
    assert guest.get("/jobs/bulk?action=retry&since=yesterday").status == 400
    key = page.forms[-1].fields.get("form_key", "")
    refused = guest.send("/jobs/bulk", {"form_key": key or form_key(guest), "action": "retry", "since": "yesterday"})
    assert refused.status == 400
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("failed",)


def test_a_press_changes_what_was_counted_whatever_was_typed_or_came_since(guest: Guest, conn: Connection) -> None:
    old, counted = (make_job(conn, created_at=f"2026-03-0{day}T12:30:00Z") for day in (1, 2))
    asked = guest.get("/jobs/bulk?action=cancel&since=2026-03-02+12:00")
    assert asked.headline == "Cancel 1 job?"
    newer = make_job(conn)
    guest.client.cookies.set("ayb_jobs_zone", "Asia/Tokyo")
    assert "1 job was canceled" in guest.press(asked, "Cancel 1 job").text
    states: dict[str, str] = dict(conn.execute("SELECT id::text, state FROM _ayb_jobs").fetchall())
    assert states == {old: "queued", counted: "canceled", newer: "queued"}
    form = asked.form("Cancel 1 job").fields
    for wrong in ({"since": "2026-03-02 12:00"}, {"since": "12:00"}, {"counted": "12:00"}, {"counted": ""}):
        assert guest.send("/jobs/bulk", form | wrong).status == 400


def test_a_press_goes_on_behind_those_that_the_one_before_has_seen(
    guest: Guest, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ayb_jobs.operations.bulk.BATCH", 1)
    monkeypatch.setattr("ayb_jobs.operations.bulk.MOST_BATCHES", 1)
    conn.execute(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF old.type = 'kept' THEN RETURN NULL; END IF; RETURN new; END $$;"
        "CREATE TRIGGER keep BEFORE UPDATE ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION keep()"
    )
    make_job(conn, type="kept")
    other = make_job(conn)
    page = guest.press(guest.get("/jobs/bulk?action=cancel"), "Cancel 2 jobs")
    assert "0 jobs were canceled" in page.text
    assert "1 job was canceled" in guest.press(page, "Cancel 2 jobs").text
    assert conn.execute("SELECT id::text FROM _ayb_jobs WHERE state = 'canceled'").fetchall() == [(other,)]


def form_key(guest: Guest) -> str:
    return guest.get("/zone").form("Use it").fields["form_key"]


def test_a_schedule_is_created_previewed_edited_switched_run_and_deleted(guest: Guest, conn: Connection) -> None:
    page = guest.get("/schedules/new")
    typed = {"name": "nightly", "job_type": "send_mail", "cron": "30 2 * * *", "timezone": "Europe/Berlin"}
    seen = guest.press(page, "Preview", **typed)
    assert "Clocks skip it: fires right after." in seen.text
    assert conn.execute("SELECT count(*) FROM _ayb_job_schedules").fetchone() == (0,)
    made = guest.press(seen, "Create it", payload='{"a": 1.10}')
    assert "The schedule is created." in made.text
    assert "no fire yet" in guest.get("/schedules").text
    wrong = guest.press(made, "Save", cron="61 * * * *")
    assert (wrong.status, "aria-invalid" in wrong.html) == (400, True)
    saved = guest.press(made, "Save", cron="@hourly", expect_success_within_s="7200")
    assert "The schedule is saved." in saved.text
    row = conn.execute(
        "SELECT cron_expr, expect_success_within_s, payload::text, timezone FROM _ayb_job_schedules"
    ).fetchone()
    assert row == ("@hourly", 7200.0, '{"a": 1.10}', "Europe/Berlin")
    deeds = conn.execute("SELECT action FROM _ayb_job_audit ORDER BY id").fetchall()
    assert deeds == [("schedule.create",), ("schedule.update",)]
    assert "The schedule is disabled" in guest.press(saved, "Disable").text
    assert "The schedule is enabled" in guest.press(guest.get(saved.path), "Enable").text
    assert "The job is enqueued." in guest.press(guest.get("/schedules"), "Run now").text
    asked = guest.get(guest.get(saved.path).links["Delete …"])
    assert "The schedule is deleted" in guest.press(asked, "Delete this schedule").text
    assert conn.execute("SELECT count(*) FROM _ayb_job_schedules").fetchone() == (0,)


def test_the_page_of_a_schedule_tells_what_became_of_its_fires(guest: Guest, conn: Connection) -> None:
    made = make_schedule(conn, next_run_at=sql.SQL("now() + interval '1 hour'"))
    assert "no fire yet" in guest.get(f"/schedules/{made}").headline
    failed, forgotten = make_job(conn, "failed"), "00000000-0000-4000-8000-000000000000"
    for hours, outcome, job, reason in (
        (3, "enqueued", forgotten, None),
        (2, "skipped", None, "its last job runs still"),
        (1, "enqueued", failed, None),
    ):
        conn.execute(
            "INSERT INTO _ayb_job_fires (schedule_id, fire_at, outcome, job_id, reason)"
            " VALUES (%s, now() - %s * interval '1 hour', %s, %s, %s)",
            (made, hours, outcome, job, reason),
        )
    page = guest.get(f"/schedules/{made}")
    assert "last failed" in page.headline
    words = re.findall(r'<span class="st st-\w+">.*?</svg>(.*?)</span>', page.html.partition('id="fires"')[2])
    assert words == ["failed", "skipped", "enqueued"]  # of the last nothing is known but that
    assert "last failed" in guest.get("/schedules").text


def test_saving_a_schedule_unchanged_changes_nothing(guest: Guest, conn: Connection) -> None:
    made = make_schedule(conn, payload={"b": [1, {"c": "d"}]}, expect_success_within_s=0.5 + 1)
    before = conn.execute("SELECT * FROM _ayb_job_schedules").fetchall()
    assert guest.press(guest.get(f"/schedules/{made}"), "Save").status == 200
    assert conn.execute("SELECT * FROM _ayb_job_schedules").fetchall() == before
    assert conn.execute("SELECT count(*) FROM _ayb_job_audit").fetchone() == (0,)


def test_a_job_is_enqueued_by_a_form_and_run_again_with_another_payload(guest: Guest, conn: Connection) -> None:
    form = guest.get("/enqueue")
    wrong = guest.press(form, "Enqueue it", type="send_mail", payload="{")
    assert (wrong.status, "Payload is not JSON" in wrong.text) == (400, True)
    made = guest.press(
        wrong, "Enqueue it", payload='{"a": 1.10}', queue="mail", priority="1", idempotency_key="k", delay="2100-01-01"
    )
    assert "The job is enqueued." in made.text
    again = guest.get(made.links["Run again with another payload …"])
    assert json.loads(again.form("Enqueue it").fields["payload"]) == {"a": 1.1}
    guest.press(again, "Enqueue it", payload='{"a": 2}')
    rows = conn.execute("SELECT payload::text, queue, priority FROM _ayb_jobs ORDER BY created_at").fetchall()
    assert rows == [('{"a": 1.10}', "mail", 1), ('{"a": 2}', "mail", 1)]
    found = guest.press(guest.get("/enqueue"), "Enqueue it", type="send_mail", idempotency_key="k")
    assert "was there already" in found.text


def test_a_job_is_enqueued_by_a_form_as_the_only_one_of_its_key_and_behind_others(
    guest: Guest, conn: Connection
) -> None:
    parents = [make_job(conn), make_job(conn)]
    form = guest.get("/enqueue")
    wrong = guest.press(form, "Enqueue it", type="send_mail", depends_on="the first")
    assert (wrong.status, "Depends_on holds 'the', which is not a job's id" in wrong.text) == (400, True)
    behind = {"depends_on": ", ".join(parents), "on_parent_failure": "hold"}
    for typed, words in (
        ({"unique_key": "k" * 1001}, "at most 1000 are allowed"),
        ({"on_parent_failure": "hold"}, "On_parent_failure goes with depends_on"),
        ({"unique_key": "k", **behind}, "Give depends_on or a unique key, not both"),
    ):
        page = guest.press(form, "Enqueue it", type="send_mail", **typed)
        assert (page.status, words in page.text) == (400, True), typed
    child = guest.press(wrong, "Enqueue it", **behind)
    assert "The job is enqueued." in child.text
    assert "it depends on job" in child.text
    made = guest.press(form, "Enqueue it", type="send_mail", unique_key="invoice-7")
    assert "The job is enqueued." in made.text
    found = guest.press(guest.get("/enqueue"), "Enqueue it", type="send_mail", unique_key="invoice-7")
    assert "was there already" in found.text
    assert found.path.partition("?")[0] == made.path.partition("?")[0]
    edges = conn.execute("SELECT parent_id::text, rule FROM _ayb_job_dependencies ORDER BY parent_id").fetchall()
    assert edges == [(parent, "hold") for parent in sorted(parents)]


def test_a_queue_and_a_type_are_paused_and_resumed_and_who_has_not_heard_is_named(
    guest: Guest, conn: Connection
) -> None:
    a_daemon(conn)
    asked = guest.get(guest.get("/queues").links["Pause …"])
    assert asked.form("Pause it").fields["name"] == "default"
    wrong = guest.press(asked, "Pause it", until="soon")
    assert (wrong.status, "Until is 'soon'; write it as 13:00" in wrong.text) == (400, True)
    paused = guest.press(wrong, "Pause it", until="2100-01-01", reason="<b>the bucket is full</b>")
    assert "The queue is paused." in paused.text
    assert "by admin, " in paused.text
    assert "until 2100: “<b>the bucket is full</b>”; not yet confirmed by a" in paused.text
    assert "The queue is resumed." in guest.press(guest.get("/queues"), "Resume").text
    held = guest.press(guest.get("/queues/pause"), "Pause it", kind="type", name="send_mail")
    assert "Types and keys that are paused" in held.text
    assert "The type is resumed." in guest.press(held, "Resume").text
    again = guest.press(held, "Resume")
    assert (again.status, "is not paused. Nothing was changed." in again.text) == (409, True)
    deeds = [action for (action,) in conn.execute("SELECT action FROM _ayb_job_audit ORDER BY id")]
    assert deeds == ["queue.pause", "queue.resume", "type.pause", "type.resume"]


def test_a_limit_is_set_changed_and_removed(guest: Guest, conn: Connection) -> None:
    page = guest.get("/queues/limit")
    wrong = guest.press(page, "Set it", name="tenants", types="send_mail", rate="many")
    assert (wrong.status, "Rate is 'many'; give starts in a time" in wrong.text) == (400, True)
    for typed, words in (
        ({}, "Nothing is limited"),
        ({"max_running": "-1"}, "a whole number is needed"),
        ({"types": " "}, "Types is empty"),
    ):
        refused = guest.press(page, "Set it", **{"name": "x", "types": "send_mail"} | typed)
        assert (refused.status, words in refused.text) == (400, True), words
    made = guest.press(
        wrong, "Set it", rate="100/min", burst="5", key_max_running="3", key_field="tenant", types="send_mail\nother"
    )
    assert "The limit is set." in made.text
    assert "other, send_mail by tenant: 100/min (burst 5), 3 at once for each key" in made.text
    assert "5 of 5" in made.text
    saved = guest.press(
        guest.get(made.links["Change"]), "Set it", key_max_running="2", max_running="9", rate="", burst=""
    )
    assert "9 at once, 2 at once for each key" in saved.text
    taken = guest.press(page, "Set it", name="second", types="other", max_running="1")
    assert (taken.status, "The type other has the limit tenants already" in taken.text) == (400, True)
    asked = guest.get(saved.links["Remove …"])
    assert "The limit is removed." in guest.press(asked, "Remove this limit").text
    again = guest.press(asked, "Remove this limit")  # on a page that somebody left open
    assert (again.status, "It may have been removed meanwhile." in again.text) == (404, True)
    deeds = [action for (action,) in conn.execute("SELECT action FROM _ayb_job_audit ORDER BY id")]
    assert deeds == ["limit.set", "limit.set", "limit.remove"]


def test_what_runs_and_waits_under_a_limit_and_its_keys_is_shown(guest: Guest, conn: Connection) -> None:
    a_daemon(conn)
    new = NewLimit(name="tenants", types=["send_mail"], max_running=4, key_max_running=2)
    with conn.transaction():
        set_limit(conn, new, by="ada")
    for key, state, count in (("seven", "running", 2), ("", "running", 1), ("seven", "queued", 3)):
        for _ in range(count):
            job = make_job(conn, state, type="send_mail")
            under = "UPDATE _ayb_jobs SET limited_by = 'tenants', limited_key = %s, priority = 6 WHERE id = %s"
            conn.execute(under, (key, job))
    page = guest.get("/queues")
    assert "not yet obeyed by a (pid 1 on h, version 1)" in page.text
    assert "3 of 4 places are taken" in page.html
    keys = guest.get(page.links["tenants"].partition("#")[0])
    assert "seven" in keys.text
    assert "2 of 2 places are taken" in keys.html
    assert "without a key" in keys.text
    assert guest.get(f"/jobs/{job}").links["tenants"] == "/queues?limit=tenants"


def test_a_batch_is_shown_sealed_and_canceled(guest: Guest, conn: Connection) -> None:
    new = NewBatch(description="<b>mails", on_done=NewJob(type="report"))
    batch = run(open_batch(new), Psycopg(conn).fetch)
    waiting = make_job(conn, type="mail", batch_id=batch)
    make_job(conn, "failed", type="mail", batch_id=batch, last_error="<i>no such mailbox")
    make_job(conn, "running", type="mail", batch_id=batch)
    listed = guest.get("/batches?state=open")
    assert "to be sealed, and 2 of its 3 jobs to end" in listed.text
    page = guest.get(listed.links["<b>mails"])
    assert "<i>no such mailbox" in page.text
    assert "on done: report" in page.text
    assert f"of batch {batch}." in guest.get(page.links["1 failed"]).text
    sealed = guest.press(page, "Seal this batch")
    assert "The batch is sealed" in sealed.text
    canceled = guest.press(guest.get(sealed.links["Cancel this batch …"]), "Cancel this batch")
    assert "The batch is canceled" in canceled.text
    assert conn.execute("SELECT state FROM _ayb_jobs WHERE id = %s", (waiting,)).fetchone() == ("canceled",)
    assert guest.get(f"/jobs/{waiting}").links[batch] == f"/batches/{batch}"
    assert guest.get("/batches/x").status == 404


def test_a_daemon_is_drained_after_a_question(guest: Guest, conn: Connection) -> None:
    a_daemon(conn)
    asked = guest.get(guest.get("/daemons").links["Drain …"])
    drained = guest.press(asked, "Drain this daemon")
    assert "The daemon is asked to drain" in drained.text
    assert "Drain …" not in drained.links
    assert guest.get("/daemons/drain?id=none").status == 404


def test_a_job_shows_its_unique_key_its_steps_and_its_result(guest: Guest, conn: Connection) -> None:
    held = enqueue(conn, NewJob(type="test", unique=Unique(key="k"))).id
    assert "the only one of its key until it has ended" in guest.get(f"/jobs/{held}").text
    waiting = enqueue(conn, NewJob(type="test", unique=Unique(key="w", scope="waiting"))).id
    assert "the only one of its key that waits" in guest.get(f"/jobs/{waiting}").text
    done = make_job(conn, "completed")
    conn.execute(
        "INSERT INTO _ayb_job_steps (job_id, name, result) VALUES (%s, '<i>fetch', '{\"a\": [1, \"é\"]}')", (done,)
    )
    conn.execute(
        "INSERT INTO _ayb_job_results (job_id, result, ended_at) VALUES (%s, '{\"rows\": 1.10}', now())", (done,)
    )
    page = guest.get(f"/jobs/{done}")
    assert "<i>fetch" in page.text
    assert '{"a": [1, "é"]}' in page.text
    assert '"rows": 1.10' in page.text
    assert "only one of its key" not in page.text


def test_the_audit_tells_who_did_what(server: Server, conn: Connection) -> None:
    queued = make_job(conn)
    with visiting(server, OPERATE) as guest:
        guest.press(guest.get(f"/jobs/{queued}/cancel"), "Cancel this job")
        assert "ops" in guest.get("/audit").text
        assert "state queued → canceled" in guest.get(f"/audit?target={queued}").text


def test_the_audit_leads_to_the_page_of_what_was_changed(guest: Guest, conn: Connection) -> None:
    a_daemon(conn)
    guest.press(guest.get("/queues/pause"), "Pause it", kind="queue", name="slow")
    guest.press(guest.get("/queues/limit"), "Set it", name="few", types="send_mail", max_running="1")
    guest.press(guest.get("/daemons/drain?id=a"), "Drain this daemon")
    guest.press(guest.get("/schedules/new"), "Create it", name="n", job_type="t", cron="@hourly")
    conn.execute("INSERT INTO _ayb_job_audit (actor, action, target) VALUES ('ada', 'job.cancel', '../x?y')")
    batch = run(open_batch(NewBatch()), Psycopg(conn).fetch)
    guest.press(guest.get(f"/batches/{batch}"), "Seal this batch")
    page = guest.get("/audit")
    leads = [href for href in page.hrefs if href.startswith(("/jobs/", "/schedules/", "/batches/"))]
    assert "/jobs/..%2Fx%3Fy" in leads
    assert {guest.get(href).status for href in leads} == {200, 404}
    assert (page.links["slow"], page.links["few"], page.links["a"]) == ("/queues", "/queues", "/daemons")
    assert guest.get(page.links[f"…{batch[-12:]}"]).status == 200


def test_times_are_in_the_zone_that_a_visitor_chose(guest: Guest, conn: Connection) -> None:
    job = make_job(conn, "completed", created_at="2020-01-01T00:00:00Z")
    assert "Wed 1 Jan 2020 00:00 UTC" in guest.get(f"/jobs/{job}").text
    assert guest.press(guest.get("/zone"), "Use it", zone="Mars/Olympus").status == 400
    guest.press(guest.get("/zone"), "Use it", zone="Asia/Tokyo")
    assert "Wed 1 Jan 2020 09:00 JST" in guest.get(f"/jobs/{job}").text


def test_pages_lead_through_a_list_and_each_job_comes_once(guest: Guest, conn: Connection) -> None:
    made = {make_job(conn, "completed") for _ in range(120)}
    page, seen = guest.get("/jobs?state=completed"), []
    while True:
        seen += [each.removeprefix("job-") for each in page.ids if each.startswith("job-")]
        if "Older" not in page.links:
            break
        page = guest.get(page.links["Older"])
    assert (len(seen), set(seen)) == (120, made)


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}{% x %}&amp;\u202e`${x}`"


def test_hostile_texts_are_texts_everywhere(guest: Guest, conn: Connection) -> None:
    name = HOSTILE[:100]
    a_daemon(conn)
    ids = [
        make_job(
            conn, state, type=name, queue=name, idempotency_key=f"{name}{state}", payload={name: name},
            **({"last_error": HOSTILE} if state == "failed" else {}), **({"progress": {name: name}} if state == "running" else {}),
        )
        for state in ("queued", "running", "failed", "completed", "canceled")
    ]  # fmt: skip
    schedule = make_schedule(conn, name=name, job_type=name, payload={name: name}, last_error=HOSTILE, cron_expr="<b>")
    conn.execute("INSERT INTO _ayb_job_audit (actor, action, target, before, after) VALUES (%s, '<i>', %s, %s, %s)",
                 (name, name, json.dumps({"name": HOSTILE}), json.dumps({"name": f"{HOSTILE}2"})))  # fmt: skip
    conn.execute("INSERT INTO _ayb_job_limits (name, types, max_running, key_max_running, set_by) VALUES (%s, %s, 1, 1, %s)",
                 (name, [name], name))  # fmt: skip
    conn.execute(
        "UPDATE _ayb_jobs SET limited_by = %s, limited_key = %s, priority = 6 WHERE state IN ('queued', 'running')",
        (name, name),
    )
    conn.execute("INSERT INTO _ayb_job_pauses (kind, name, reason, paused_by) VALUES ('type', %s, %s, %s), ('queue', %s, %s, %s)",
                 (name, HOSTILE, name) * 2)  # fmt: skip
    quoted = quote(name, safe="")
    of_names = ("/queues?limit=", "/queues/limit?name=", "/queues/limit/remove?name=", "/queues/pause?kind=queue&name=")
    paths = [
        *PATHS,
        *(f"{path}{quoted}" for path in of_names),
        *(f"/jobs/{each}" for each in ids),
        f"/schedules/{schedule}",
        f"/enqueue?from={ids[0]}",
    ]
    for path in paths:
        html = guest.client.get(path).text
        assert "<script>alert" not in html, path
        assert "<img" not in html, path
        assert "49" not in html or "{{7*7}}" in html or path not in paths[len(PATHS) :], path


def test_what_nobody_would_see_stands_as_an_escape_and_is_sent_back_as_it_is(guest: Guest, conn: Connection) -> None:
    name = "\u202egnp\u200b.exe"
    a_daemon(conn)
    job = make_job(
        conn, "running", type=name, queue=name, payload={name: name}, progress={"percent": 1, "message": name}
    )
    make_job(conn, "failed", type=name, last_error=name)
    make_schedule(conn, name=name, job_type=name)
    quoted = quote(name, safe="")
    asked = f"/queues/pause?kind=queue&name={quoted}"
    for path in ("/", "/jobs", "/failures?seen=ever", "/schedules", "/daemons", f"/jobs/{job}", "/queues"):
        page = guest.get(path)
        assert not any(sign in re.sub(r'value="[^"]*"', "", page.html) for sign in name if not sign.isprintable()), path
        assert "\\u202egnp\\u200b.exe" in page.html, path
    assert guest.press(guest.get(asked), "Pause it").path.startswith("/queues")
    assert conn.execute("SELECT kind, name FROM _ayb_job_pauses").fetchall() == [("queue", name)]
    for path, button in ((f"/jobs?state=failed&type={quoted}", "Show"), (f"/enqueue?from={job}", "Enqueue it")):
        assert guest.get(path).form(button).fields["type"] == name


def test_the_value_of_each_field_is_exact() -> None:
    environment = templates()
    assert environment.loader is not None
    sources = [environment.loader.get_source(environment, name)[0] for name in environment.list_templates()]
    values = [
        each for source in sources for each in re.findall(r'\bvalue="\{\{(.*?)\}\}|([^{]*)\}\}</textarea>', source)
    ]
    assert len(values) > 10
    assert [each for each in values if "| exact" not in "".join(each)] == []


def test_addresses_put_no_words_into_a_page(guest: Guest) -> None:
    for path in (
        "/?told=<b>x", "/jobs?type=<b>x&queue=<b>x", "/jobs?told=retry&count=<b>x", "/failures?type=<b>x&error=<b>x",
        "/executions?type=<b>x", "/audit?target=<b>x", "/jobs/<b>x", "/schedules/<b>x", "/login?next=//evil.example",
        "/schedules/preview?cron=<b>x", "/queues?limit=<b>x", "/queues/pause?name=<b>x&kind=<b>x", "/queues/limit?name=<b>x",
        "/queues/limit/remove?name=<b>x", "/daemons/drain?id=<b>x",
    ):  # fmt: skip
        assert "<b>x" not in guest.client.get(path).text, path


@pytest.mark.parametrize(
    "path",
    [
        "/jobs?cursor=x", "/jobs/x", "/schedules/x", "/jobs?type=%00", "/audit?target=%00", "/jobs?state=dead",
        "/batches?state=dead", "/executions?outcome=dead", "/executions?over=century", "/failures?seen=century",
        "/executions?before=x", "/audit?before=-1", "/audit?before=1234567890123456789", "/daemons/drain?id=",
    ],
)  # fmt: skip
def test_nonsense_in_an_address_is_a_page_that_says_so(guest: Guest, path: str) -> None:
    page = guest.get(path)
    assert page.status in {400, 404}
    assert page.headline or "aria-invalid" in page.html


def test_a_long_word_of_an_error_may_be_broken_and_is_otherwise_as_it_was() -> None:
    shown = marked("<n> Bad Gateway from https://api.example.com/v1/a=1&b <end")
    assert "https://<wbr>api.<wbr>example.<wbr>com/<wbr>v1/<wbr>a=<wbr>1&amp;<wbr>b &lt;end" in shown
    assert shown.replace("<wbr>", "").startswith("<mark>n</mark> Bad Gateway from https://api.example.com/v1/a=1")


def test_a_bar_of_parts_shows_each_and_fills_no_more_than_it_has() -> None:
    drawn = re.findall(
        r'class="(\S+)" x="([\d.]+)" y="0" width="([\d.]+)"',
        portions([(0.1, "f-bad"), (0, "f-warn"), (99.9, "f-run")], ""),
    )
    assert drawn == [("f-bad", "0", "1"), ("f-run", "1", "99")]


def test_a_bar_of_a_batch_is_red_for_the_failed_part_alone(guest: Guest, conn: Connection) -> None:
    batch = run(open_batch(NewBatch(description="mails")), Psycopg(conn).fetch)
    for state in ("failed", "completed", "completed", "queued"):
        make_job(conn, state, type="mail", batch_id=batch)
    for path in ("/batches", f"/batches/{batch}"):
        drawn = re.findall(r'class="(f-\S+)" x="([\d.]+)" y="0" width="([\d.]+)"', guest.get(path).html)
        assert drawn == [("f-bad", "0", "25"), ("f-run", "25", "50")], path


def test_slots_of_a_kind_that_is_full_are_not_hidden_behind_those_of_another(guest: Guest, conn: Connection) -> None:
    daemon = DaemonRecord(
        id="a", host="h", pid=1, version="1", concurrency=2, queues=["default"], types=["send_mail"], async_slots=1000
    )
    beat(conn, daemon)
    make_job(conn, "completed")
    assert "of 1,002 slots" in guest.get("/").text
    for _ in range(2):
        make_job(conn, "running", type="send_mail", worker_id="a")
    assert "2 of 2 slots for plain handlers; 1,002 slots in all" in guest.get("/").text


def test_a_job_of_a_daemon_that_is_gone_is_listed_once(guest: Guest, conn: Connection) -> None:
    a_daemon(conn)
    conn.execute("UPDATE _ayb_job_workers SET heartbeat_at = now() - interval '1 hour'")
    here, lost = (make_job(conn, "running", type="send_mail", worker_id=name) for name in ("a", "never-heard-of"))
    page = guest.get("/daemons")
    assert [page.hrefs.count(f"/jobs/{each}") for each in (here, lost)] == [1, 1]
    assert f"send_mail …{lost[-12:]} never-heard-of" in page.text.partition("Running, and their daemon is not known")[2]


@pytest.mark.parametrize(
    ("most", "top"), [(0, 3), (1, 3), (4, 6), (7, 9), (16, 18), (763_191, 900_000), (10**15, 12 * 10**14)]
)
def test_a_scale_ends_at_a_round_figure(most: int, top: float) -> None:
    assert round_top(most) == pytest.approx(top)


def test_a_line_stands_where_it_was_measured_and_ends_at_a_gap() -> None:
    drawn = str(line([(0.5, 1), (0.5 + 1 / 60, 2), (0.75, 2), (1.0, 1)], "Waiting"))
    assert [path.partition("L")[0] for path in re.findall(r'class="l " d="M([^"]*)"', drawn)] == [
        "60 16.5",
        "90 2",
        "120 16.5",
    ]


def test_an_outage_is_a_page_with_what_the_daemon_knows(
    server: Server, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise DatabaseError("cannot connect to the database: secret.example.org")

    monkeypatch.setattr(Database, "work", refused)
    monkeypatch.setattr(Database, "connection", refused)
    page = guest.get("/jobs?state=failed")
    assert page.status == 503
    with server.client() as client:
        assert page.headline == client.get("/readyz").json()["sentence"]
    assert page.headline == "Cannot connect to the database; the log has the details."
    assert "What was answered: Cannot connect to the database: secret.example.org." in page.text
    assert "Nothing here is known until it answers." in page.text
    assert "No job is lost." in page.text
    assert "Not known" in page.text
    assert page.links["Ask again"] == "/jobs?state=failed"


def test_a_database_that_is_slow_to_answer_is_told_from_one_that_is_away(db: Database, conn: Connection) -> None:
    job = make_job(conn)
    with serving(db, read_timeout_s=0.2, write_timeout_s=0.2) as server, visiting(server) as guest:
        asked = guest.get(f"/jobs/{job}/cancel")
        with conn.transaction():
            conn.execute("LOCK TABLE _ayb_jobs IN ACCESS EXCLUSIVE MODE")
            page = guest.get(f"/jobs/{job}")
            pressed = guest.press(asked, "Cancel this job")
    for told in (page, pressed):
        assert told.status == 503
        assert told.headline == "The database took longer than 0.2 s; narrow the question or try later."
        assert "ayb-jobs doctor names who" in told.text
    assert ("Nothing was changed." in page.text, "Nothing was changed." in pressed.text) == (False, True)
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("queued",)


def test_a_disabled_daemon_says_what_to_do(db: Database) -> None:
    with serving(db, enabled=False) as server, visiting(server) as guest:
        page = guest.get("/")
    assert (page.status, "enabled = true under [jobs]" in page.text) == (503, True)


def test_the_overview_is_light(
    server: Server, guest: Guest, conn: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    a_daemon(conn)
    for number in range(200):
        make_job(conn, "failed", type=f"type_{number}", last_error=f"Error{number}: something went wrong here")
    total = 0
    for path in ("/", *(path for path in [*assets(guest)])):
        with guest.client.stream("GET", path) as answer:
            assert answer.headers["content-encoding"] == "gzip"
            total += sum(map(len, answer.iter_raw()))
    with capsys.disabled():
        print(f"\noverview with its files, as sent: {total:,} bytes")
    assert total <= 60_000


@pytest.mark.parametrize(
    ("accepted", "is_gzip"),
    [
        ("gzip, br", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("br", False),
        ("", False),
    ],
)
def test_pages_and_files_are_compressed_for_those_who_read_that(guest: Guest, accepted: str, is_gzip: bool) -> None:
    for path in ("/", *assets(guest)):
        answer = guest.client.get(path, headers={"Accept-Encoding": accepted})
        assert (answer.headers.get("content-encoding") == "gzip") is is_gzip
        assert "Accept-Encoding" in answer.headers["vary"]
        with guest.client.stream("GET", path, headers={"Accept-Encoding": accepted}) as sent:
            raw = b"".join(sent.iter_raw())
        assert raw.startswith(b"\x1f\x8b") is is_gzip
        assert len(gzip.decompress(raw) if is_gzip else raw) == len(answer.content)


def test_the_key_of_forms_is_another_text_on_each_page_and_holds_on_all(guest: Guest, conn: Connection) -> None:
    keys = {form_key(guest) for _ in range(3)}
    assert len(keys) == 3
    for key in keys:
        job = make_job(conn, "failed")
        assert guest.send(f"/jobs/{job}/retry", {"form_key": key}).status == 200
        assert guest.send(f"/jobs/{job}/cancel", {"form_key": key[:-4]}).status == 403


def assets(guest: Guest) -> list[str]:
    html = guest.client.get("/").text
    return [part.partition('"')[0] for part in html.split('"/static/')[1:] for part in [f"/static/{part}"]]


def test_files_may_be_kept_for_ever_since_their_address_changes_with_them(guest: Guest) -> None:
    for path in assets(guest):
        answer = guest.client.get(path)
        assert answer.headers["cache-control"].endswith("immutable")
        assert "?v=" in path
    assert guest.client.get("/static/../shell.py").status_code == 404


def test_without_a_token_whoever_is_on_this_machine_may_look_and_act(db: Database, conn: Connection) -> None:
    failed = make_job(conn, "failed")
    with serving(db, api=Api(port=0)) as server:
        guest = Guest(server)
        with guest.client:
            page = guest.get(f"/jobs/{failed}")
            assert "Log out" not in page.text
            assert "The job is queued again." in guest.press(page, "Retry this job").text


def test_the_pages_of_hostile_schedules_and_jobs_answer(
    guest: Guest, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "apart_s", lambda _, **__: 60.0)  # how things stand is asked once: each page tells it
    for seed, always in enumerate((SCHEDULE, SCHEDULE | {"expect_success_within_s": "1e300"})):
        write_hostile_rows(conn, "_ayb_job_schedules", always, seed)
    write_hostile_rows(conn, "_ayb_jobs", {"type": "'a'", "schedule_id": A_SCHEDULE})
    for table, page in (("_ayb_job_schedules", "schedules"), ("_ayb_jobs", "jobs")):
        for (row_id,) in conn.execute(f"SELECT id FROM {table} ORDER BY id LIMIT 25").fetchall():
            answer = guest.client.get(f"/{page}/{row_id}")
            assert answer.status_code == 200, conn.execute(f"SELECT * FROM {table} WHERE id = %s", (row_id,)).fetchone()


def test_a_queue_keeps_its_row_when_another_comes_before_it(guest: Guest, conn: Connection) -> None:
    make_job(conn, queue="mail")
    mail = [each for each in guest.get("/queues").ids if each.startswith("queue-")]
    make_job(conn, queue="aaa")
    both = [each for each in guest.get("/queues").ids if each.startswith("queue-")]
    assert len(both) == len(mail) + 1
    assert both[1:] == mail


def test_what_was_cut_is_at_least_so_much_at_every_door(guest: Guest, server: Server, conn: Connection) -> None:
    a_daemon(conn)
    make_job(conn)
    conn.execute("INSERT INTO _ayb_jobs (type, queue) SELECT 'a', 'q' || n FROM generate_series(1, 1001) AS n")
    conn.execute(
        """INSERT INTO _ayb_jobs (type, state, last_error, last_run_at, completed_at)
           SELECT 't' || n, 'failed', 'no', now(), now() FROM generate_series(1, 101) AS n"""
    )
    first = guest.get("/")
    assert "at least 1,000 due jobs wait that no live daemon can run" in first.headline.lower()
    assert "Waiting now 1,000+" in first.text.replace("Waiting now1", "Waiting now 1")
    assert "101 jobs, 101 errors, the largest below" in first.text
    waiting = guest.get("/jobs?state=waiting")
    assert "Waiting 1,000+" in waiting.text
    assert "there are more queues than are listed here" in waiting.text
    assert "These are the first 200 queues by name; there are more." in guest.get("/queues").text
    assert "101 jobs, 101 errors; the 100 largest groups are shown" in guest.get("/failures").text
    assert keep_level(conn)
    with server.client() as api:
        found = api.get("/api/admin/jobs/failures").json()
        (level,) = api.get("/api/admin/stats/levels").json()["items"]
    assert (found["count"], found["jobs"], found["groups"], found["atLeast"]) == (100, 101, 101, False)
    assert (level["waiting"], level["atLeast"]) == (1000, True)
    shown = [line.text for line in whole(glance(conn, Retention()), 100)]
    assert any(line.startswith("Waiting 1,000+") for line in shown)
    assert any(line.startswith("… at least 188 more: ayb-jobs queues list") for line in shown)


def test_a_figure_of_the_hour_is_never_less_than_that_of_now(guest: Guest, conn: Connection) -> None:
    conn.execute(
        "INSERT INTO _ayb_job_levels (at, waiting, running, oldest_wait_s) VALUES (now() - interval '1 min', 0, 0, 0)"
    )
    make_job(conn, run_at=sql.SQL("now() - interval '10 minutes'"))
    first = guest.get("/").text
    assert "most in the hour: 1" in first
    assert "longest in the hour: 10 min" in first
    assert "none in the hour" not in first
    assert "the last hour; most: 1" in guest.get("/queues").text


def test_a_daemon_is_up_since_it_started_until_it_falls_silent(guest: Guest, conn: Connection) -> None:
    a_daemon(conn)
    times = "UPDATE _ayb_job_workers SET started_at = now() - interval '1 hour', heartbeat_at = now() - %s::interval"
    conn.execute(times, ("10 seconds",))
    assert "up 1 h" in guest.get("/daemons").text
    conn.execute(times, ("30 minutes",))
    assert "was up 30 min" in guest.get("/daemons").text


def test_a_form_that_is_sent_twice_makes_one_job(guest: Guest, conn: Connection) -> None:
    old = make_job(conn, "completed", type="send_mail", payload={"to": "a"})
    schedule = make_schedule(conn, job_type="send_mail")
    for path, button, typed in (
        (f"/jobs/{old}", "Run again", {}),
        (f"/schedules/{schedule}", "Run now", {}),
        ("/enqueue", "Enqueue it", {"type": "send_mail", "payload": '{"to": "b"}'}),
    ):
        before = jobs_and_deeds(conn)
        page = guest.get(path)
        with ThreadPoolExecutor(2) as both:
            answers = list(both.map(lambda _: guest.press(page, button, **typed), range(2)))
        assert {(answer.status, answer.headline) for answer in answers} == {(200, answers[0].headline)}, path
        assert all("The job is enqueued." in answer.text for answer in answers), path
        assert jobs_and_deeds(conn) == [count + 1 for count in before], path
        guest.press(guest.get(path), button, **typed)
        assert jobs_and_deeds(conn) == [count + 2 for count in before], path


def jobs_and_deeds(conn: Connection) -> list[int]:
    return [
        count
        for (count,) in conn.execute("SELECT count(*) FROM _ayb_jobs UNION ALL SELECT count(*) FROM _ayb_job_audit")
    ]


def test_a_bulk_action_on_jobs_of_the_future_finds_none(guest: Guest, conn: Connection) -> None:
    make_job(conn, type="send_mail")
    asked = guest.get("/jobs/bulk?action=cancel&type=send_mail&since=2999-01-01")
    assert (asked.status, "No job to cancel" in asked.text) == (200, True)

"""Every page and every action in a real browser without JavaScript, and with a token that may only read."""

import re
from typing import Any

import pytest

from ayb_jobs import NewJob, enqueue
from ayb_jobs.client.batches import Batch
from ayb_jobs.client.steps import open_batch
from ayb_jobs.client.sync_drivers import Psycopg, run
from ayb_jobs.http.dashboard.words import TOLD
from ayb_jobs.model.batches import NewBatch
from tests.factories import make_job
from tests.http.conftest import READ
from tests.http.dashboard import browsing
from tests.http.dashboard.sick import PAGES, Sick, watched
from tests.http.dashboard.test_session import ACTS, POSTS

pytestmark = [pytest.mark.timeout(300), browsing.NEEDS_A_BROWSER]
DAEMON = "api-1:4001:c4ca4238a0b9"
# Pages that are asked for in order to do something: who may only read is told so there.
TO_ACT = re.compile(r"/bulk|/cancel|/new$|/pause|/queues/limit|/drain|/enqueue")


def test_every_page_is_whole_without_javascript(browser: Any, sick: Sick) -> None:
    with watched(browser, sick, java_script_enabled=False) as page:
        for path in PAGES:
            answer = page.goto(sick.at(path))
            assert answer.status < 500, path
            assert page.inner_text("h1").strip(), path
            assert page.inner_text("main").strip() != page.inner_text("h1").strip(), path
            hidden = "all => all.filter(each => each.hidden && !each.hasAttribute('data-again') && !each.id.endsWith('-more')).length"
            assert page.eval_on_selector_all("main *", hidden) == 0, path


def test_every_action_works_without_javascript(browser: Any, sick: Sick) -> None:
    conn = sick.conn
    ended, failed = make_job(conn, "completed", type="send_mail"), make_job(conn, "failed", type="send_mail")
    waits, runs = make_job(conn, type="send_mail", queue="wait_here"), make_job(conn, "running", type="send_mail")
    make_job(conn, "failed", type="once_more")
    batch = run(open_batch(NewBatch(description="one by one")), Psycopg(conn).fetch)
    Batch(conn, batch).enqueue(NewJob(type="send_mail"))
    pressed: list[str] = []

    with watched(browser, sick, java_script_enabled=False) as page:
        page.on("request", lambda asked: pressed.append(asked.url) if asked.method == "POST" else None)

        def do(path: str, button: str, told: str, **typed: str) -> None:
            page.goto(path if path.startswith("http") else sick.at(path))
            for name, value in typed.items():
                page.fill(f"#{name}", value)
            page.click(f"main button:text-is('{button}') >> nth=0")
            assert TOLD.get(told, told) in page.inner_text(".told"), (path, button)

        page.goto(sick.at("/jobs?state=failed&type=once_more"))
        page.click("text=Retry 1 that match …")
        page.click("button:has-text('Retry 1 job')")
        assert "1 job was queued again." in page.inner_text(".told")
        do(f"/jobs/{failed}", "Retry this job", "retried")
        do(f"/jobs/{waits}/cancel", "Cancel this job", "canceled")
        do(f"/jobs/{runs}/cancel", "Cancel this job", "canceling")
        do(f"/jobs/{ended}", "Run again", "enqueued")
        do(f"/enqueue?from={ended}", "Enqueue it", "enqueued", payload='{"to": "b"}')
        page.goto(sick.at("/schedules/new"))
        page.fill("#cron", "15 4 * * *")
        page.click("button:text-is('Preview')")
        assert "04:15" in page.inner_text("#preview")
        do("/schedules/new", "Create it", "created", name="by_hand", job_type="send_mail", cron="15 4 * * *")
        schedule = page.url.partition("?")[0]
        do(schedule, "Save", "saved", cron="16 4 * * *")
        do(schedule, "Disable", "disabled")
        do(schedule, "Enable", "enabled")
        do(schedule, "Run now", "enqueued")
        do(f"{schedule}/delete", "Delete this schedule", "deleted")
        do("/queues/pause", "Pause it", "paused_queue", name="wait_here", reason="to look at it")
        page.click("#queue-wait_here button:text-is('Resume')")
        assert TOLD["resumed_queue"] in page.inner_text(".told")
        do("/queues/limit", "Set it", "limit_set", name="shown", types="prune_carts", max_running="2")
        do("/queues/limit/remove?name=shown", "Remove this limit", "limit_removed")
        do(f"/daemons/drain?id={DAEMON}", "Drain this daemon", "drained")
        do(f"/batches/{batch}", "Seal this batch", "batch_sealed")
        do(f"/batches/{batch}/cancel", "Cancel this batch", "batch_canceled")
        do("/zone", "Use it", "zone", zone="Europe/Berlin")
        page.click("button:text-is('Log out') >> nth=0")
        assert page.inner_text("h1") == "Log in"
    missed = [
        path for path in POSTS if not any(re.search(re.sub(r"{\w+}", r"[^/]+", path) + "$", url) for url in pressed)
    ]
    assert missed == []


def test_a_token_to_read_sees_every_page_and_no_button(browser: Any, sick: Sick) -> None:
    enqueue(sick.conn, NewJob(type="send_mail"))
    with watched(browser, sick, READ) as page:
        assert "token anna, scope read" in page.inner_text(".top .who")
        for path in PAGES:
            answer = page.goto(sick.at(path))
            words = page.eval_on_selector_all(
                "main button, main [type=submit]", "all => all.map(each => each.innerText)"
            )
            assert set(words) <= ({"Use it"} if path == "/zone" else {"Show"}), path
            assert page.locator("main :disabled").count() == 0, path
            acts = page.eval_on_selector_all("main a", "all => all.map(each => each.innerText.trim())")
            assert [word for word in acts if ACTS.match(word)] == [], path
            if TO_ACT.search(sick.at(path)):
                assert answer.status == 403, path
                assert "is needed for this" in page.inner_text("h1"), path
            else:
                assert answer.status in {200, 404} or (answer.status, path) == (400, "/jobs?state=failed&since=x"), path

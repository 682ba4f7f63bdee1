"""The dashboard in a real browser: it keeps its own policy, loads nothing from elsewhere, and all can use it."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from psycopg import ClientCursor

from ayb_jobs.errors import DatabaseError
from ayb_jobs.http.dashboard import session
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from tests.factories import make_job, make_schedule
from tests.http.dashboard import browsing
from tests.http.dashboard.hostile import hostile_texts
from tests.http.dashboard.sick import PAGES, Sick, watched

AXE = Path(__file__).parents[3] / "node_modules" / "axe-core" / "axe.min.js"
# Pages that together show every kind of part; the slow suite looks at all pages in the dark and at every width.
PARTS_OF_ALL_KINDS = ("/", "/jobs?state=failed&type=sync_tenant", "JOB", "SCHEDULE", "/executions?over=day", "/queues?limit=mail-per-tenant", "/enqueue", "/jobs/none")  # fmt: skip
# The hostile texts are shared out, so that each part takes a minute or two.
PARTS = 5

pytestmark = [
    pytest.mark.timeout(300),
    browsing.NEEDS_A_BROWSER,
    pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: npm install --no-save axe-core@4"),
]


def grave(page: Any, scheme: str) -> list[str]:
    """Return what axe finds that keeps people from using a page; in the dark only colours differ."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())  # past the page's policy, as a tool of the browser's
    rules = {} if scheme == "light" else {"runOnly": ["color-contrast"]}
    found = page.evaluate("rules => axe.run(document, {resultTypes: ['violations'], ...rules})", rules)
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}"
        for each in found["violations"]
        if each["impact"] in {"serious", "critical"}
    ]


# What is wider than its place: the page itself, a word of the navigation, or something that reaches beyond the margin.
CROWDED = """
    (() => {
        const root = document.documentElement, main = document.querySelector('main');
        const edge = main.getBoundingClientRect().right - parseFloat(getComputedStyle(main).paddingRight) + 1;
        const beyond = each => each.offsetParent !== null && each.getBoundingClientRect().right > edge;
        return [
            ...(root.scrollWidth > root.clientWidth ? [root] : []),
            ...[...document.querySelectorAll('.top nav a')].filter(each => each.scrollWidth > each.clientWidth + 2),
            ...[...main.querySelectorAll('h1, h2, p, .st, .btn, button')].filter(beyond),
        ].map(each => each.tagName + ' ' + each.textContent.trim().slice(0, 60));
    })()
"""


def test_every_page_keeps_its_policy_fits_and_can_be_used_by_all(browser: Any, sick: Sick) -> None:
    wrong = {}
    with watched(browser, sick, color_scheme="light", viewport={"width": 320, "height": 800}) as page:
        for path in PAGES:
            page.goto(sick.at(path))
            if found := page.evaluate(CROWDED):
                wrong[path, "320 px"] = found
            page.set_viewport_size({"width": 1440, "height": 900})
            if found := page.evaluate(CROWDED):
                wrong[path, "1440 px"] = found
            for scheme in ("light", "dark") if path in PARTS_OF_ALL_KINDS else ("light",):
                page.emulate_media(color_scheme=scheme)
                if found := grave(page, scheme):
                    wrong[path, scheme] = found
            page.emulate_media(color_scheme="light")
            page.set_viewport_size({"width": 320, "height": 800})
    assert wrong == {}


def test_names_of_a_day_are_whole_and_each_deed_that_leads_on_looks_so(browser: Any, sick: Sick) -> None:
    cut = "[...document.querySelectorAll('.day .name')].filter(each => each.scrollWidth > each.clientWidth).map(each => each.title).filter(each => each.length < 40)"
    make_schedule(sick.conn, name="webhook_delivery_prune_hourly", cron_expr="@hourly")
    batch = "INSERT INTO _ayb_job_audit (actor, action, target) VALUES ('ada', 'batch.create', %s)"
    sick.conn.execute(batch, (sick.batch,))
    colours = (
        "[...new Set([...document.querySelectorAll('td.w a *')].map(each => getComputedStyle(each).color))].length"
    )
    for width in (800, 1440):
        with watched(browser, sick, color_scheme="light", viewport={"width": width, "height": 900}) as page:
            page.goto(sick.at("/schedules"))
            assert page.locator(".day .name").count() > 1
            assert page.evaluate(cut) == [], width
            page.goto(sick.at("/audit"))
            assert page.evaluate(colours) == 1


def test_places_of_a_limit_change_in_place(browser: Any, sick: Sick) -> None:
    with watched(browser, sick) as page:
        page.goto(sick.at("/queues?limit=mail-per-tenant"))
        row = page.locator("#limits tr", has_text="stripe")
        assert "6 of 6" in row.inner_text()
        page.evaluate("window.same = document.querySelector('#limits tr')")
        sick.conn.execute("UPDATE _ayb_job_limits SET max_running = 7 WHERE name = 'stripe'")
        make_job(sick.conn, type="heard_of")  # of which the page hears
        page.wait_for_selector("#limits >> text=6 of 7")
        assert page.evaluate("window.same.isConnected")
        assert "4 of 4" in page.inner_text("#keys")


def test_live_parts_change_in_place_and_rows_stay_where_they_are(browser: Any, sick: Sick) -> None:
    job = make_job(sick.conn, type="watched_one")
    with watched(browser, sick) as page:
        page.goto(sick.at("/jobs?state=all&type=watched_one"))
        assert "waits" in page.inner_text(f"#job-{job}")
        page.evaluate("window.same = document.querySelector('#rows tr')")
        make_job(sick.conn, type="watched_one")
        sick.conn.execute(
            "UPDATE _ayb_jobs SET state = 'canceled', canceled_at = now(), updated_at = now() WHERE id = %s", (job,)
        )
        page.wait_for_selector(f"#job-{job} .st-canceled")
        page.wait_for_selector("text=show 1 more")
        assert page.evaluate("window.same === document.querySelector('#rows tr') && window.same.isConnected")
        assert page.locator("#rows tr").count() == 1
        page.click("text=hold still")
        assert "held still" in page.inner_text("#asof")


def test_a_page_says_that_it_is_stale_and_what_has_the_pointer_is_kept(browser: Any, sick: Sick) -> None:
    job = make_job(sick.conn, type="pointed_at")
    with watched(browser, sick) as page:
        page.goto(sick.at("/jobs?state=all&type=pointed_at"))
        page.hover(f"#job-{job} td:nth-child(2)")
        sick.conn.execute(
            "UPDATE _ayb_jobs SET state = 'canceled', canceled_at = now(), updated_at = now() WHERE id = %s", (job,)
        )
        before = page.inner_text("#asof time")
        page.wait_for_selector("#asof.stale >> text=what you point at or have open has changed since")
        assert "waits" in page.inner_text(f"#job-{job}")
        assert page.inner_text("#asof time") == before  # what is kept is of then
        page.route("**/jobs?**", lambda route: route.abort())
        page.wait_for_selector("#asof.stale >> text=s old")
        assert "the daemon does not answer" in page.inner_text("#asof")
        page.unroute("**/jobs?**")
        page.mouse.move(0, 0)
        page.click("text=ask again")
        page.wait_for_selector(f"#job-{job} .st-canceled")


def test_a_button_that_is_pressed_twice_makes_one_job(browser: Any, sick: Sick) -> None:
    job = make_job(sick.conn, "completed", type="pressed_twice")
    with watched(browser, sick) as page:
        page.goto(sick.at(f"/jobs/{job}"))
        page.dblclick("text=/^Run again$/")
        page.wait_for_selector("text=The job is enqueued.")
        made = "SELECT count(*) FROM _ayb_jobs WHERE type = 'pressed_twice'"
        assert sick.conn.execute(made).fetchone() == (2,)
        page.goto(sick.at("/schedules"))
        once, read = page.input_value("#rows input[name=once] >> nth=0"), page.inner_text("#asof time")
        make_job(sick.conn, type="pressed_twice")
        page.wait_for_function("read => document.querySelector('#asof time').innerText !== read", arg=read)
        assert page.input_value("#rows input[name=once] >> nth=0") == once


def test_a_row_that_left_the_list_says_so_and_what_came_waits_on_every_list(browser: Any, sick: Sick) -> None:
    job = make_job(sick.conn, type="leaves")
    with watched(browser, sick) as page:
        page.goto(sick.at("/jobs?state=waiting&type=leaves"))
        page.mouse.move(0, 0)
        sick.conn.execute("UPDATE _ayb_jobs SET state = 'canceled', canceled_at = now() WHERE id = %s", (job,))
        make_job(sick.conn, type="leaves")
        page.wait_for_selector(f"#job-{job}.left >> text=no longer on this page")
        page.wait_for_selector("text=show 1 more")
        page.goto(sick.at("/queues"))
        make_job(sick.conn, queue="that_came_since")
        page.wait_for_selector("#rows-more >> text=show 1 more")


def test_a_page_that_nobody_sees_holds_no_stream(browser: Any, sick: Sick) -> None:
    become = """hidden => {
        Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    with watched(browser, sick) as page:
        page.add_init_script("""
            const Real = EventSource;
            window.streams = [];
            window.EventSource = class extends Real { constructor(url) { super(url); window.streams.push(this); } };
        """)
        page.goto(sick.at("/"))
        opened = "() => window.streams.filter(each => each.readyState !== EventSource.CLOSED).length"
        assert page.evaluate(opened) == 1
        page.evaluate(become, arg=True)
        assert page.evaluate(opened) == 0
        page.evaluate(become, arg=False)
        assert page.evaluate(opened) == 1


def test_a_page_that_is_open_says_why_it_is_stale(browser: Any, sick: Sick, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise DatabaseError("the database cannot be reached")

    with watched(browser, sick) as page:
        page.clock.install()
        page.goto(sick.at("/"))
        with monkeypatch.context() as away:
            away.setattr(Database, "work", refused)
            away.setattr(Database, "connection", refused)
            page.clock.run_for(11_000)
            page.wait_for_selector("#asof.stale >> text=old: The database cannot be reached · ask again")
            assert "Not known" in page.inner_text("#verdict")
        page.click("text=ask again")
        page.wait_for_selector("#asof:not(.stale) >> text=hold still")
        assert "Needs you" in page.inner_text("#verdict")
        over = time.time() + session.LASTS_S
        monkeypatch.setattr(session, "time", SimpleNamespace(time=lambda: over))
        page.clock.run_for(11_000)
        page.click("text=your session is over · log in")
        page.wait_for_selector("#token")


def test_the_preview_follows_what_is_typed(browser: Any, sick: Sick) -> None:
    with watched(browser, sick) as page:
        page.goto(sick.at("/schedules/new"))
        page.fill("#cron", "30 2 * * *")
        page.fill("#timezone", "Europe/Berlin")
        page.wait_for_selector("#preview >> text=Clocks skip it: fires right after.")
        page.fill("#cron", "61 * * * *")
        page.wait_for_selector("#preview .hint.bad")


HOSTILE = ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "'\"><svg onload=alert(1)>", "{{7*7}}", "javascript:alert(1)",
           "\u202e\u0001`${alert(1)}`", "</textarea><script>alert(1)</script>", "<a href=javascript:alert(1)>x")  # fmt: skip


def test_hostile_texts_run_nothing(browser: Any, sick: Sick) -> None:
    ids = []
    for number, text in enumerate(HOSTILE):
        columns: dict[str, Any] = {"type": f"{text}{number}"[:100], "queue": text[:100], "payload": {text: text}}
        ids.append(make_job(sick.conn, "failed", last_error=text, idempotency_key=f"{text}{number}", **columns))
        make_job(sick.conn, **columns)
        make_job(sick.conn, "running", progress={text: text}, **columns)
    with watched(browser, sick) as page:
        for path in (
            "/",
            "/jobs?state=failed",
            "/jobs?state=waiting",
            "/failures",
            "/daemons",
            "/queues",
            "/executions",
        ):
            page.goto(sick.at(path))
        for number, id_ in enumerate(ids):  # the slow suite shows each text in every place
            page.goto(sick.at(f"/enqueue?from={id_}" if number % 2 else f"/jobs/{id_}"))
        page.goto(sick.at("/jobs?state=failed"))
        make_job(sick.conn, "failed", type=HOSTILE[1])  # a live part takes it in
        page.wait_for_selector("text=show 1 more")
    sick.conn.execute("DELETE FROM _ayb_jobs WHERE queue = ANY (%s)", (list(HOSTILE),))


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 375, 480, 600, 768, 800, 1024, 1120, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_every_width(browser: Any, sick: Sick, width: int, scheme: str) -> None:
    wrong = {}
    with watched(browser, sick, color_scheme=scheme, viewport={"width": width, "height": 900}) as page:
        for path in PAGES:
            page.goto(sick.at(path))
            if found := [*page.evaluate(CROWDED), *grave(page, scheme)]:
                wrong[path] = found
    assert wrong == {}


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_two_hundred_hostile_texts_in_every_field_run_nothing(browser: Any, sick: Sick, part: int) -> None:
    texts = hostile_texts()[part::PARTS]
    paths = [path for text in texts for path in hostile_rows(sick.conn, text)]
    with watched(browser, sick) as page:
        for path in PAGES:
            page.goto(sick.at(path))
        for path in paths:
            page.goto(sick.url + path)
    with ClientCursor(sick.conn) as cursor:
        cursor.execute(FORGET_HOSTILE, {"texts": texts})


# Plain SQL writes any text that PostgreSQL stores, also where a door would refuse it.
HOSTILE_ROWS = """
    INSERT INTO _ayb_job_limits (name, types, max_running, set_by) VALUES (%(text)s, ARRAY[%(text)s], 1, %(text)s);
    INSERT INTO _ayb_job_pauses (kind, name, reason, paused_by) VALUES ('queue', %(text)s, %(text)s, %(text)s);
    INSERT INTO _ayb_job_audit (actor, action, target, before, after)
    VALUES (%(text)s, left(%(text)s, 50), %(text)s, jsonb_build_object('name', %(text)s), jsonb_build_object('name', %(text)s || '2'))
"""
FORGET_HOSTILE = """
    DELETE FROM _ayb_jobs WHERE queue = ANY (%(texts)s);
    DELETE FROM _ayb_job_limits WHERE name = ANY (%(texts)s);
    DELETE FROM _ayb_job_pauses WHERE name = ANY (%(texts)s);
    DELETE FROM _ayb_job_schedules WHERE name = ANY (%(texts)s)
"""


def hostile_rows(conn: Connection, text: str) -> list[str]:
    """Write a text into every field of a job, a schedule, a limit, a pause and a deed, and return their pages."""
    columns: dict[str, Any] = {
        "type": text,
        "queue": text,
        "payload": {text: text},
        "limited_by": text,
        "limited_key": text,
    }
    failed = make_job(conn, "failed", last_error=text, idempotency_key=text, **columns)
    make_job(conn, "running", progress={text: text}, worker_id=text, priority=6, **columns)
    make_job(conn, priority=6, **columns)
    schedule = make_schedule(conn, name=text, job_type=text, payload={text: text}, last_error=text, cron_expr=text)
    with ClientCursor(conn) as cursor:
        cursor.execute(HOSTILE_ROWS, {"text": text})
    return [f"/jobs/{failed}", f"/schedules/{schedule}", f"/queues?limit={quote(text, safe='')}"]


def test_every_action_can_be_reached_and_pressed_with_the_keyboard_alone(browser: Any, sick: Sick) -> None:
    job = make_job(sick.conn, "failed", type="pressed", last_error="no")
    with watched(browser, sick) as page:
        for path in ("/", f"/jobs/{job}", "/jobs?state=failed", "/schedules", "/queues", "/enqueue"):
            page.goto(sick.url + path)
            page.keyboard.press("Tab")
            assert page.evaluate("document.activeElement.textContent.trim()") == "To the content", path
            assert page.evaluate(UNREACHED) == [], path
        page.goto(f"{sick.url}/jobs/{job}")
        for _ in range(100):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent.trim()") == "Retry this job":
                break
        assert page.evaluate("[document.activeElement.tagName, getComputedStyle(document.activeElement).outlineStyle]") == [
            "BUTTON", "solid",
        ]  # fmt: skip
        page.keyboard.press("Enter")
        page.wait_for_selector(".told")
        assert "is queued again" in page.inner_text(".told")


# Whatever can be pressed or typed into and is shown, but would be passed over by Tab, or come out of its order.
UNREACHED = """
    [...document.querySelectorAll('a, button, input:not([type=hidden]), select, textarea, summary, [onclick]')]
        .filter(each => each.offsetParent !== null && (each.tabIndex !== 0 || (each.tagName === 'A' && !each.href)))
        .map(each => each.outerHTML.slice(0, 200))
"""

"""Takes docs/pictures/dashboard-*.png: the dashboard on databases that are empty, healthy, and sick.

    make screenshots
    make screenshots FOLDER=shots

The second takes every page on each of them, at 320, 800 and 1,440 px, light and dark, for people who want to look at
all. The pages are the real ones, served on an embedded database that is thrown away at the end. Chromium has to be
installed: `apt-get install chromium`.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, sync_playwright

from ayb_jobs.config import Api, Config, Dashboard, Jobs
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.events import Events
from ayb_jobs.handlers.packs import build_registry
from ayb_jobs.http import ApiServer, Services, app_factory
from ayb_jobs.metrics import Metrics
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.migrate import migrate

HERE = Path(__file__).parent
ALIVE = """
    INSERT INTO _ayb_job_workers (id, host, pid, version, concurrency, queues, types)
    VALUES ('api-1:4001:c4ca4238a0b9', 'api-1', 4001, '1.0.0', 12, '{default}', '{stale_session_cleanup}')
"""
STATES = {
    "empty": ALIVE.encode(),
    "healthy": (HERE / "healthy.sql").read_bytes(),
    "sick": files("ayb_jobs.lab.demo").joinpath("sick.sql").read_bytes(),
}
KEEP_ALIVE = "UPDATE _ayb_job_workers SET heartbeat_at = now() + interval '50 seconds' WHERE heartbeat_at > now() - interval '5 minutes'"


class Picture(NamedTuple):
    """What is on a picture: a page of a database in one state, and how wide and in which colours it is shown.

    `height` is how much of it is shown; None for all of it.
    """

    state: str
    path: str
    width: int = 1280
    scheme: str = "light"
    height: int | None = None
    link: str = ""


PICTURES = {
    "dashboard-light.png": Picture("sick", "/"),
    "dashboard-dark.png": Picture("sick", "/schedules", scheme="dark"),
    "dashboard-healthy.png": Picture("healthy", "/", height=620),
    "dashboard-empty.png": Picture("empty", "/"),
    "dashboard-narrow.png": Picture("sick", "/jobs?state=failed", width=320, height=900),
}
WIDTHS = (320, 800, 1440)
PAGES = {
    "overview": "/", "jobs": "/jobs", "failed": "/jobs?state=failed", "bulk": "/jobs/bulk?action=retry", "enqueue": "/enqueue",
    "failures": "/failures", "schedules": "/schedules", "new-schedule": "/schedules/new", "executions": "/executions?over=day",
    "batches": "/batches", "queues": "/queues", "limit": "/queues?limit=stripe", "pause": "/queues/pause", "daemons": "/daemons",
    "audit": "/audit", "none": "/jobs/none",
}  # fmt: skip
# A page that is reached by a link: where that is, and which it is there.
LINKED = {
    "job": ("/jobs?state=failed", "#rows a"),
    "schedule": ("/schedules", "main td.w a"),
    "batch": ("/batches", "main td.w a"),
}


def main(arguments: Sequence[str]) -> None:
    """Serve each database, and take its pictures."""
    folder = Path(arguments[0]) if arguments else None
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    with EmbeddedPostgres.throwaway() as server, sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        for state in STATES:
            with closing(connect(server.url())) as conn, served(conn, server.url(), state) as url:
                for file, picture in (every(folder, state) if folder else shown(state)).items():
                    conn.execute(KEEP_ALIVE)
                    take(browser, url, file, picture)
        browser.close()


def shown(state: str) -> dict[Path, Picture]:
    """Return the pictures of the documentation."""
    return {HERE / name: picture for name, picture in PICTURES.items() if picture.state == state}


def every(folder: Path, state: str) -> dict[Path, Picture]:
    """Return a picture of every page at every width, light and dark."""
    linked = {} if state == "empty" else LINKED
    pages = {**{name: (path, "") for name, path in PAGES.items()}, **linked}
    return {
        folder / f"{name}-{state}-{width}-{scheme}.png": Picture(state, path, width, scheme, link=link)
        for name, (path, link) in pages.items()
        for width in WIDTHS
        for scheme in ("light", "dark")
        if not link or state == "sick" or name == "schedule"
    }


def take(browser: Browser, url: str, file: Path, picture: Picture) -> None:
    """Take a picture of a page, or of the first that a link leads to from there."""
    size = {"width": picture.width, "height": picture.height or 800}
    page = browser.new_page(viewport=size, color_scheme=picture.scheme)
    page.goto(url + picture.path)
    if picture.link:
        page.click(f"{picture.link} >> nth=0")
    if page.locator("#asof").count():
        page.wait_for_selector("#asof >> text=hold still")
    page.screenshot(path=file, full_page=picture.height is None)
    page.close()


@contextmanager
def served(conn: Connection, url: str, state: str) -> Iterator[str]:
    """Serve the dashboard on a database in such a state, and give its address."""
    config = Config(
        jobs=Jobs(enabled=True),
        api=Api(port=0),
        dashboard=Dashboard(environment="production", environment_color="plum"),
    )
    conn.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    migrate(conn)
    conn.execute(STATES[state])
    with closing(Database(url, work_connections=4)) as database:
        services = Services(
            database=database, config=config, registry=build_registry(config), events=Events(), metrics=Metrics()
        )
        api = ApiServer(app_factory(services), config.api.host, 0, stopping=services.stopping, on_failure=raise_again)
        api.start()
        try:
            yield api.url
        finally:
            api.stop()


def raise_again(error: BaseException) -> None:
    """Let the command fail with the error of its server."""
    raise error


if __name__ == "__main__":
    main(sys.argv[1:])

"""Takes docs/pictures/dashboard-*.png: pages of the dashboard on a database in which much is wrong.

    .venv/bin/python docs/pictures/dashboard.py
    .venv/bin/python docs/pictures/dashboard.py FOLDER

The second takes every page, light and dark, for people who want to look at all of them. The pages are the real ones,
served on an embedded database that is thrown away at the end. Chromium has to be installed: `apt-get install chromium`.
"""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from ayb_jobs.config import Api, Config, Dashboard, Jobs
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.events import Events
from ayb_jobs.handlers.packs import build_registry
from ayb_jobs.http import ApiServer, Services, app_factory
from ayb_jobs.metrics import Metrics
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import connect
from ayb_jobs.storage.migrate import migrate

HERE = Path(__file__).parent
WIDTH = 1280
# Each picture: its page, and the browser's colour scheme.
PICTURES = {
    "dashboard-light.png": ("/", "light"),
    "dashboard-dark.png": ("/schedules", "dark"),
}
# A page that is reached by a link: where that is, and which it is there.
LINKED = {
    "job": ("/jobs?state=failed", "#rows a"),
    "schedule": ("/schedules", "main td.w a"),
    "batch": ("/batches", "main td.w a"),
}
PAGES = {
    "overview": "/", "jobs": "/jobs", "failed": "/jobs?state=failed", "bulk": "/jobs/bulk?action=retry", "enqueue": "/enqueue",
    "failures": "/failures", "schedules": "/schedules", "new-schedule": "/schedules/new", "executions": "/executions?over=day",
    "batches": "/batches", "queues": "/queues", "limit": "/queues?limit=stripe", "pause": "/queues/pause", "daemons": "/daemons",
    "audit": "/audit", "none": "/jobs/none",
}  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Serve the pages and take each picture."""
    with served() as url, sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        if arguments:
            take_all(browser, url, Path(arguments[0]))
        else:
            for name, (path, scheme) in PICTURES.items():
                take(browser, url + path, HERE / name, scheme)
        browser.close()


def take_all(browser: Browser, url: str, folder: Path) -> None:
    """Take a picture of every page, light and dark."""
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        for name, path in PAGES.items():
            take(browser, url + path, folder / f"{name}-{scheme}.png", scheme)
        for name, (path, link) in LINKED.items():
            take(browser, url + path, folder / f"{name}-{scheme}.png", scheme, link)


def take(browser: Browser, address: str, file: Path, scheme: str, link: str = "") -> None:
    """Take a picture of a page, or of the first that a link leads to from there."""
    page = browser.new_page(viewport={"width": WIDTH, "height": 800}, color_scheme=scheme)
    page.goto(address)
    if link:
        page.click(f"{link} >> nth=0")
    if page.locator("#asof").count():
        page.wait_for_selector("#asof >> text=hold still")
    page.screenshot(path=file, full_page=True)
    page.close()


@contextmanager
def served() -> Iterator[str]:
    """Serve the dashboard on such a database, and give its address."""
    config = Config(
        jobs=Jobs(enabled=True),
        api=Api(port=0),
        dashboard=Dashboard(environment="production", environment_color="plum"),
    )
    with EmbeddedPostgres.throwaway() as server:
        with closing(connect(server.url())) as conn:
            migrate(conn)
            conn.execute(files("ayb_jobs.lab.demo").joinpath("sick.sql").read_bytes())
        with closing(Database(server.url(), work_connections=4)) as database:
            services = Services(
                database=database, config=config, registry=build_registry(config), events=Events(), metrics=Metrics()
            )
            api = ApiServer(
                app_factory(services), config.api.host, 0, stopping=services.stopping, on_failure=raise_again
            )
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

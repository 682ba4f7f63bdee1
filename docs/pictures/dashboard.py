"""Takes docs/pictures/dashboard-*.png: pages of the dashboard on a database in which much is wrong.

    .venv/bin/python docs/pictures/dashboard.py

The pages are the real ones, served on an embedded database that is thrown away at the end. Chromium has to be
installed: `apt-get install chromium`.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path

from playwright.sync_api import sync_playwright

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


def main() -> None:
    """Serve the pages and take each picture."""
    with served() as url, sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        for name, (path, scheme) in PICTURES.items():
            page = browser.new_page(viewport={"width": WIDTH, "height": 800}, color_scheme=scheme)
            page.goto(url + path)
            page.wait_for_selector("#asof >> text=hold still")
            page.screenshot(path=HERE / name, full_page=True)
        browser.close()


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
    main()

"""A daemon whose database is away from its first second on: pages say so, and come by themselves once it is there."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.acceptance.processes import daemon
from tests.http.dashboard import browsing

pytestmark = [browsing.NEEDS_A_BROWSER, pytest.mark.outer]


def test_a_daemon_whose_database_is_away_from_its_first_second_says_so_in_a_browser(
    browser: Any, tmp_path: Path, empty_database_url: str
) -> None:
    there = conninfo_to_dict(empty_database_url)
    door = tmp_path / "door"  # where the server's socket will be
    url = f"postgresql://postgres@/{there['dbname']}?host={quote(str(door), safe='')}&port={there['port']}"
    with daemon(tmp_path, url, api_enabled="true", api_port="0") as running:
        address = running.await_event("api.started")["url"]
        with browsing.watched(browser, address) as page:
            page.clock.install()
            assert page.goto(f"{address}/jobs").status == 503
            assert page.inner_text("h1").startswith("No connection to the database within 5 s: it is down, or ")
            assert "No job is lost." in page.inner_text("main")
            assert "Not known" in page.inner_text("#verdict")
            assert "This daemon has not started: it waits for its database" in page.inner_text("main")
            assert "goes on" not in page.inner_text("main")
            assert "This page asks every 5 s." in page.inner_text("main")
            door.symlink_to(str(there["host"]))
            running.await_event("daemon.started")
            page.clock.run_for(5_000)
            page.wait_for_selector("text=No job.")
            assert "Ready" in page.inner_text("#verdict")

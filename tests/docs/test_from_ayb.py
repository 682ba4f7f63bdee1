"""`docs/from-ayb.md`, walked line by line on a database that AYB's migrations made."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ayb_jobs.storage.database import Connection, connect
from tests.ayb_database import make_ayb_database
from tests.docs.reading import ROOT, blocks, our_commands, shell_lines
from tests.eventually import eventually
from tests.factories import make_job

PAGE = ROOT / "docs" / "from-ayb.md"
THEIR_URL = "postgresql://ayb@db.example.com/ayb"
AN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
DELIVERIES = """
    INSERT INTO _ayb_webhook_deliveries (delivered_at)
    SELECT now() - n * interval '1 day' FROM generate_series(1, 40) AS n
"""
# What AYB does by itself an hour after it was started with `jobs.enabled = false`.
AYBS_PRUNING = "DELETE FROM _ayb_webhook_deliveries WHERE delivered_at < now() - interval '7 days'"
COUNT_DELIVERIES = "SELECT count(*) FROM _ayb_webhook_deliveries"


class Operator:
    """Someone with AYB's database, the page, and a terminal."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.typed: list[str] = []
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AYB_")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environ = inherited | {"PATH": path, "AYB_JOBS_API_PORT": "0", "AYB_JOBS_LOG_FORMAT": "json"}

    def type(self, line: str, job_id: str = "", **environ: str) -> "subprocess.CompletedProcess[str]":
        """Type a line of the page, with this database in place of the page's."""
        self.typed.append(line)
        command = AN_ID.sub(job_id, line.replace(THEIR_URL, f"'{self.url}'"))
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.folder,
            env=self.environ | environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, line: str) -> "subprocess.Popen[bytes]":
        """Type a line of the page that runs on."""
        self.typed.append(line)
        command = "exec env " + line.replace(THEIR_URL, f"'{self.url}'")
        with (self.folder / "daemon.log").open("wb") as log:
            return subprocess.Popen(
                ["/bin/sh", "-c", command], cwd=self.folder, env=self.environ, stdout=log, stderr=log
            )


def lines_of(page: Path) -> list[str]:
    """Return the lines of the page that call our program."""
    return [line for block in blocks(page, "console", "bash") for line in shell_lines(block) if [*our_commands(line)]]


@pytest.fixture
def ayb(empty_database_url: str) -> Iterator[Connection]:
    """A connection to AYB's database, with rows of every kind."""
    make_ayb_database(empty_database_url)
    with closing(connect(empty_database_url)) as conn:
        conn.execute(DELIVERIES)
        conn.execute(
            "INSERT INTO _ayb_sessions (expires_at) SELECT now() - interval '1 day' FROM generate_series(1, 10)"
        )
        conn.execute("INSERT INTO _ayb_jobs (type) VALUES ('stale_session_cleanup')")
        conn.execute(
            "INSERT INTO _ayb_jobs (type, state, last_error) VALUES ('stale_session_cleanup', 'failed', 'once')"
        )
        conn.execute(
            "INSERT INTO _ayb_jobs (type, state, attempts, lease_until, worker_id)"
            " VALUES ('stale_session_cleanup', 'running', 1, now() - interval '1 minute', 'aybs-runner')"
        )
        yield conn


def states(conn: Connection) -> set[str]:
    return {state for (state,) in conn.execute("SELECT state FROM _ayb_jobs")}


@pytest.mark.timeout(240)
def test_the_page_is_walked_line_by_line(ayb: Connection, empty_database_url: str, tmp_path: Path) -> None:
    operator = Operator(empty_database_url, tmp_path)
    plan, run, *commands = lines_of(PAGE)

    # 1. The guard of webhook deliveries holds against AYB's own pruning.
    (guard,) = (block.text for block in blocks(PAGE, "sql"))
    ayb.execute(guard.encode())
    ayb.execute(AYBS_PRUNING)
    assert ayb.execute(COUNT_DELIVERIES).fetchone() == (29,)  # of the last 30 days

    # 2. The plan changes nothing.
    planned = operator.type(plan)
    assert planned.returncode == 0, planned.stderr
    assert "would apply 0001_jobs" in planned.stdout
    assert "decide:" not in planned.stdout
    assert ayb.execute("SELECT to_regclass('_ayb_jobs_migrations')").fetchone() == (None,)
    assert operator.type(plan.replace("--plan", "--adopt-check")).returncode == 0

    # 4. The daemon migrates, runs what is queued, and takes back what AYB's runner left.
    daemon = operator.start(run)
    try:
        eventually(lambda: states(ayb) == {"completed", "failed"} or has_ended(tmp_path, daemon), within_s=60)
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(60) == 0, (tmp_path / "daemon.log").read_text()
    assert ayb.execute("SELECT count(*) FROM _ayb_sessions").fetchone() == (0,)
    assert ayb.execute(COUNT_DELIVERIES).fetchone() == (29,)
    assert ayb.execute("SELECT count(*) FROM _ayb_job_schedules").fetchone() == (4,)

    # 5. And everything that AYB's scripts call.
    looked = re.search(r"(?m)^5\. Look: (.+)$", PAGE.read_text())
    assert looked is not None
    commands = [*re.findall(r"`(ayb [^`]+)`", looked[1]), *commands]
    for line in commands:
        wanted = {"retry": "failed", "cancel": "queued"}.get(line.split()[2])
        done = operator.type(line, make_job(ayb, wanted) if wanted else "", AYB_JOBS_DATABASE_URL=empty_database_url)
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert len(operator.typed) >= 12


def has_ended(folder: Path, daemon: "subprocess.Popen[bytes]") -> bool:
    assert daemon.poll() is None, (folder / "daemon.log").read_text()
    return False

"""Four daemons under one limit share it evenly, and never exceed it, by what their handlers wrote down themselves."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ayb_jobs.client.enqueueing import enqueue_many
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet import limits, pauses
from tests.acceptance.processes import daemon
from tests.eventually import eventually

DAEMONS, JOBS, MOST = 4, 2000, 20
HANDLERS = """
import os, time
from ayb_jobs import JobContext, Registry

registry = Registry()
log = os.open("ran", os.O_APPEND | os.O_CREAT | os.O_WRONLY)

@registry.handler("test")
def run(ctx: JobContext) -> None:
    began = time.monotonic()
    time.sleep(0.01)
    os.write(log, f"{began} {time.monotonic()}\\n".encode())
"""
LIVE = "SELECT count(*) FROM _ayb_job_workers WHERE limits_confirmed > 0"
LEFT = "SELECT count(*) FROM _ayb_jobs WHERE state IN ('queued', 'running')"


@contextmanager
def fleet(folder: Path, url: str) -> Iterator[list[Path]]:
    """Run the daemons; give the files that their handlers write."""
    homes = [folder / f"daemon {number}" for number in range(DAEMONS)]
    with ExitStack() as stack:
        for home in homes:
            home.mkdir()
            (home / "noting.py").write_text(HANDLERS)
            stack.enter_context(daemon(home, url, handlers_modules="noting", worker_concurrency=MOST))
        yield [home / "ran" for home in homes]


def runs(file: Path) -> list[tuple[float, float]]:
    """Return when each handler began and ended."""
    return [(float(began), float(ended)) for began, ended in map(str.split, file.read_text().splitlines())]


def most_at_once(spans: list[tuple[float, float]]) -> int:
    """Return how many ran at once, at most; one that begins as another ends does not run beside it."""
    running = most = 0
    for _, step in sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans]):
        running += step
        most = max(most, running)
    return most


@pytest.mark.timeout(120)
def test_four_daemons_share_a_limit(database_url: str, conn: Connection, tmp_path: Path) -> None:
    with conn.transaction():
        limits.set_limit(conn, NewLimit(name="few", types=["test"], max_running=MOST), by="ada")
        pauses.pause(conn, NewPause(kind=PauseKind.QUEUE, name="default"), by="ada")
    enqueue_many(conn, [NewJob(type="test") for _ in range(JOBS)])
    with fleet(tmp_path, database_url) as files:
        eventually(lambda: conn.execute(LIVE).fetchone() == (DAEMONS,), within_s=60)
        with conn.transaction():
            pauses.resume(conn, PauseKind.QUEUE, "default")
        eventually(lambda: conn.execute(LEFT).fetchone() == (0,), within_s=60)
    shares = [runs(file) for file in files]
    assert sum(map(len, shares)) == JOBS
    assert min(map(len, shares)) >= JOBS / DAEMONS / 2, sorted(map(len, shares))
    assert most_at_once([span for share in shares for span in share]) <= MOST

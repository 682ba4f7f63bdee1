"""The worker in Node of docs/workers.md, as it stands, beside a daemon that has none of its types."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ayb_jobs.model.job import Job
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.jobs import get_job
from tests.acceptance.processes import daemon
from tests.docs.reading import ROOT, blocks
from tests.docs.walking import NODE_MODULES
from tests.eventually import eventually

WORKER, SHOWN = (block.text for block in blocks(ROOT / "docs" / "workers.md", "js"))
# What the worker's handlers do is in the file `log` beside them.
HANDLERS = """
const { appendFileSync } = require("node:fs");
const note = (...words) => appendFileSync("log", words.join(" ") + "\\n");
const sleep = (ms, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, ms);
  signal?.addEventListener("abort", () => { clearTimeout(timer); reject(new Error(signal.reason)); });
});
module.exports = {
  async double({ n }) { return { doubled: 2 * n }; },
  async flaky(_, { job }) { if (job.attempt === 1) throw new Error("it broke"); },
  async slow({ ms }, { job }) { note("began", job.id, job.attempt); await sleep(ms); note("ended", job.id, job.attempt); return job.attempt; },
  async patient(_, { job, signal }) {
    note("began", job.id, job.attempt);
    await sleep(60000, signal).catch((error) => { note("told", job.id, error.message); throw error; });
  },
};
"""
ENQUEUE = "SELECT ayb_jobs.ayb_jobs_enqueue(%s, %s)::text"
pytestmark = pytest.mark.skipif(not (NODE_MODULES / "pg").exists(), reason="npm install --no-save pg@8")


class Fleet:
    """Workers in Node that share a folder, and a daemon."""

    def __init__(self, folder: Path, url: str, conn: Connection) -> None:
        self.folder = folder
        self.conn = conn
        self.url = url
        (folder / "worker.js").write_text(WORKER)
        (folder / "handlers.js").write_text(HANDLERS)
        self._stack = ExitStack()

    @contextmanager
    def worker(self, name: str = "worker", **environ: str) -> Iterator[subprocess.Popen[bytes]]:
        environ = {
            "DATABASE_URL": self.url,
            "NODE_PATH": str(NODE_MODULES),
            "PATH": os.environ["PATH"],
            "LEASE_S": "2",
        } | environ
        with (self.folder / f"{name}.out").open("wb") as said:
            process = subprocess.Popen(["node", "worker.js"], cwd=self.folder, env=environ, stdout=said, stderr=said)
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def enqueue(self, job_type: str, **payload: object) -> str:
        row = self.conn.execute(ENQUEUE.encode(), (job_type, json.dumps(payload))).fetchone()
        assert row is not None
        return str(row[0])

    def log(self) -> list[str]:
        file = self.folder / "log"
        return file.read_text().splitlines() if file.exists() else []

    def said(self, name: str = "worker") -> str:
        return (self.folder / f"{name}.out").read_text()

    def await_state(self, job_id: str, state: str, within_s: float = 20) -> Job:
        eventually(lambda: get_job(self.conn, job_id).state == state, within_s=within_s)
        return get_job(self.conn, job_id)

    def await_line(self, line: str) -> None:
        eventually(lambda: line in self.log(), within_s=20)

    def executions(self, job_id: str) -> list[str]:
        query = "SELECT outcome FROM _ayb_job_executions WHERE job_id = %s ORDER BY id"
        return [outcome for (outcome,) in self.conn.execute(query.encode(), (job_id,))]


@pytest.fixture
def fleet(tmp_path: Path, database_url: str, conn: Connection) -> Fleet:
    return Fleet(tmp_path, database_url, conn)


def test_the_handlers_of_the_page_run(fleet: Fleet) -> None:
    (fleet.folder / "handlers.js").write_text(SHOWN)
    with fleet.worker():
        job = fleet.await_state(fleet.enqueue("resize", image="a.png", width=200), "completed")
    assert "a.png to 200 pixels, attempt 1" in fleet.said()
    assert job.result_text == '{"width": 200}'


def test_jobs_complete_with_results_and_fail_with_backoff_and_each_attempt_is_logged(fleet: Fleet) -> None:
    with fleet.worker():
        done = fleet.await_state(fleet.enqueue("double", n=21), "completed")
        assert done.result_text == '{"doubled": 42}'
        flaky = fleet.enqueue("flaky")
        eventually(lambda: get_job(fleet.conn, flaky).attempts == 1 and get_job(fleet.conn, flaky).state == "queued")
        failed = get_job(fleet.conn, flaky)
        assert 5 <= (failed.run_at - failed.updated_at).total_seconds() <= 6
        assert "Error: it broke" in (failed.last_error or "")
        fleet.conn.execute("UPDATE _ayb_jobs SET run_at = now() WHERE id = %s", (flaky,))
        fleet.await_state(flaky, "completed")
    assert (fleet.executions(done.id), fleet.executions(flaky)) == (["completed"], ["failed", "completed"])


def test_a_job_longer_than_its_lease_runs_once(fleet: Fleet) -> None:
    with fleet.worker("one", LEASE_S="1"), fleet.worker("another"), daemon(fleet.folder / "daemon", fleet.url):
        job = fleet.await_state(fleet.enqueue("slow", ms=2500), "completed")
    assert fleet.log() == [f"began {job.id} 1", f"ended {job.id} 1"]


def test_a_job_that_is_canceled_while_it_runs_is_told_and_ends_canceled(fleet: Fleet) -> None:
    with fleet.worker():
        job_id = fleet.enqueue("patient")
        fleet.await_line(f"began {job_id} 1")
        fleet.conn.execute("SELECT ayb_jobs.ayb_jobs_cancel(%s, running => true)", (job_id,))
        job = fleet.await_state(job_id, "canceled")
    assert fleet.log()[-1] == f"told {job_id} canceling"
    assert job.cancel_heard_at is not None
    assert fleet.executions(job_id) == ["canceled"]


def test_a_killed_workers_job_is_recovered_by_a_daemon_and_runs_on_another(fleet: Fleet) -> None:
    with fleet.worker("one") as killed:
        job_id = fleet.enqueue("slow", ms=60_000)
        fleet.await_line(f"began {job_id} 1")
        fleet.conn.execute("""UPDATE _ayb_jobs SET payload = '{"ms": 1}'""")
        killed.kill()
        with daemon(fleet.folder / "daemon", fleet.url):
            recovered = fleet.await_state(job_id, "queued")
            assert (recovered.attempts, recovered.crashes) == (1, 1)
            assert "lease lost by worker" in (recovered.last_error or "")
            fleet.conn.execute("UPDATE _ayb_jobs SET run_at = now()")
            with fleet.worker("another"):
                job = fleet.await_state(job_id, "completed")
    assert (job.attempts, job.result_text, fleet.executions(job_id)) == (2, "2", ["lost", "completed"])


def test_a_worker_that_was_stopped_beyond_its_lease_overwrites_nothing(fleet: Fleet) -> None:
    with fleet.worker("one", PLACES="1") as stopped:
        job_id = fleet.enqueue("slow", ms=1500)
        fleet.await_line(f"began {job_id} 1")
        stopped.send_signal(signal.SIGSTOP)
        with daemon(fleet.folder / "daemon", fleet.url):
            fleet.await_state(job_id, "queued")
            fleet.conn.execute("UPDATE _ayb_jobs SET run_at = now()")
            with fleet.worker("another"):
                fleet.await_state(job_id, "completed")
                stopped.send_signal(signal.SIGCONT)
                eventually(lambda: "is lost: throw away" in fleet.said("one"), within_s=20)
    assert get_job(fleet.conn, job_id).result_text == "2"
    assert fleet.executions(job_id) == ["lost", "completed"]


def test_a_worker_that_is_told_to_end_gives_its_jobs_back_with_their_attempts(fleet: Fleet) -> None:
    with fleet.worker() as process:
        job_id = fleet.enqueue("patient")
        fleet.await_line(f"began {job_id} 1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    job = get_job(fleet.conn, job_id)
    assert (job.state, job.attempts, fleet.executions(job_id)) == ("queued", 0, [])


def test_two_workers_keep_a_limit_and_a_pause(fleet: Fleet) -> None:
    fleet.conn.execute(
        "INSERT INTO _ayb_job_limits (name, types, max_running, set_by) VALUES ('one', '{slow}', 1, 'ada')"
    )
    with fleet.worker("one"), fleet.worker("another"):
        jobs = [fleet.enqueue("slow", ms=20) for _ in range(6)]
        for job_id in jobs:
            fleet.await_state(job_id, "completed")
        lines = [line.split()[0] for line in fleet.log()]
        assert lines == ["began", "ended"] * 6
        fleet.conn.execute("INSERT INTO _ayb_job_pauses (kind, name, paused_by) VALUES ('type', 'slow', 'ada')")
        paused = fleet.enqueue("slow", ms=1)
        fleet.await_state(fleet.enqueue("double", n=1), "completed")
        assert get_job(fleet.conn, paused).state == "queued"
        fleet.conn.execute("DELETE FROM _ayb_job_pauses")
        fleet.await_state(paused, "completed")

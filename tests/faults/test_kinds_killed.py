"""A daemon killed at any step of a job of any kind: a peer completes the job, and nothing of the dead one lives on."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ayb_jobs import failpoints
from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection
from tests.acceptance.processes import daemon
from tests.acceptance.test_commands import lives
from tests.eventually import eventually
from tests.faults.test_failpoints import hurried

KINDS = ("thread", "async", "process", "sql", "http", "exec")
RUNNING = "running"
# How often a job is run in all whose first daemon dies at a step.
RUNS = {
    failpoints.LEASED: 1,
    failpoints.BEGUN: 1,
    RUNNING: 2,
    failpoints.ENDED: 2,
    failpoints.SETTLING: 2,
    failpoints.SETTLED: 1,
}
WITH_STEPS = {"thread", "async", "process", "exec"}
WITH_RESULTS = {"thread", "async", "process", "http"}
# In each change's tests stand these; `make test-slow` runs all.
QUICK = {("process", RUNNING), ("http", failpoints.ENDED), ("exec", RUNNING)}

# Each run of a handler writes a line, and so does each run of its step. While there is a file `hang`, none ends.
HANDLERS = """
import asyncio, os, time
from pathlib import Path
from ayb_jobs import AsyncJobContext, JobContext, Registry

registry = Registry()

def note(what: str) -> None:
    with open("notes", "a") as notes:
        notes.write(what + "\\n")

def run(ctx: JobContext) -> dict[str, str]:
    note("run")
    Path("pids").open("a").write(f"{os.getpid()}\\n")
    ctx.step("once", lambda: note("step"))
    while Path("hang").exists():
        time.sleep(0.02)
    return {"done": ctx.job.type}

registry.handler("thread")(run)
registry.handler("process", isolation="process")(run)

@registry.handler("async")
async def run_async(ctx: AsyncJobContext) -> dict[str, str]:
    note("run")

    async def step() -> None:
        note("step")

    await ctx.step("once", step)
    while Path("hang").exists():
        await asyncio.sleep(0.02)
    return {"done": ctx.job.type}
"""
COMMAND = """
echo run >> notes
echo $$ >> pids
case "$AYB_JOB_STEPS" in
    *once*) ;;
    *) echo step >> notes; echo '{"step": "once", "result": 1}' >&3 ;;
esac
while [ -e hang ]; do sleep 0.1; done
"""
TYPES = f"""
[job_types.exec]
exec = ["/bin/sh", "-c", {json.dumps(COMMAND)}]
steps = true

[job_types.sql]
statements = ["INSERT INTO effects VALUES (1)", "SELECT pg_sleep(30) FROM hang"]

[job_types.http]
http = "http://127.0.0.1:{{port}}/"
allow_private = true
"""


class Receiver:
    """Takes the requests of the kind `http`, and keeps their `webhook-id`."""

    def __init__(self, hang: Path) -> None:
        self.ids: list[str] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                receiver.ids.append(self.headers["webhook-id"])
                while hang.exists():
                    receiver.ended.wait(0.02)
                body = b'{"done": "http"}'
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None: ...

        self.ended = threading.Event()
        self.server = Server(("127.0.0.1", 0), Handler)

    @contextmanager
    def serving(self) -> Iterator[int]:
        """Serve for the time of the block, and give the port."""
        thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self.server.server_address[1]
        finally:
            self.ended.set()
            self.server.shutdown()
            self.server.server_close()
            thread.join()


class Scene:
    """One job of one kind, the folder of its daemons, and what can be seen of its runs."""

    def __init__(self, kind: str, folder: Path, url: str, conn: Connection) -> None:
        self.kind, self.folder, self.url, self.conn = kind, folder, url, conn
        self.hang = folder / "hang"
        self.receiver = Receiver(self.hang)
        (folder / "kinds_killed.py").write_text(HANDLERS)
        conn.execute("CREATE TABLE effects (n int); CREATE TABLE hang (n int)")
        self.job_id = enqueue(conn, NewJob(type=kind, payload={}, max_attempts=20)).id

    def lines(self, name: str) -> list[str]:
        """Return the lines of a file."""
        file = self.folder / name
        return file.read_text().split() if file.exists() else []

    def count(self, statement: str) -> int:
        """Return what a statement counts."""
        found = self.conn.execute(f"SELECT count(*) FROM {statement}").fetchone()
        return int(found[0]) if found else 0

    def runs(self) -> bool:
        """Tell whether the handler runs, and has done its step."""
        match self.kind:
            case "http":
                return bool(self.receiver.ids)
            case "sql":
                return self.count("pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(30)%' AND state = 'active'") > 0
            case _:
                return self.count("_ayb_job_steps") > 0

    def kill_a_daemon(self, step: str) -> None:
        """Have a daemon run the job, and die at this step."""
        armed = {} if step == RUNNING else {"failpoint": step}
        if step == RUNNING:
            self.hang.touch()
            self.conn.execute("INSERT INTO hang VALUES (1)")
        with daemon(self.folder, self.url, handlers_modules="kinds_killed", process_concurrency=1, **armed) as victim:
            if step == RUNNING:
                eventually(self.runs, within_s=40)
                victim.send(signal.SIGKILL)
            assert victim.wait(60) == -signal.SIGKILL
        if self.kind in ("process", "exec"):
            eventually(lambda: not any(lives(int(pid)) for pid in self.lines("pids")))
        self.hang.unlink(missing_ok=True)
        self.conn.execute("DELETE FROM hang")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("kind", "step"),
    [
        pytest.param(*each, marks=[] if each in QUICK else [pytest.mark.slow], id=f"{each[0]}-{each[1]}")
        for each in product(KINDS, RUNS)
    ],
)
def test_a_job_outlives_its_daemon_at_any_step(
    kind: str, step: str, tmp_path: Path, database_url: str, conn: Connection
) -> None:
    scene = Scene(kind, tmp_path, database_url, conn)
    with scene.receiver.serving() as port:
        (tmp_path / "ayb-jobs.toml").write_text(TYPES.replace("{port}", str(port)))
        scene.kill_a_daemon(step)
        with daemon(tmp_path, database_url, handlers_modules="kinds_killed", process_concurrency=1):
            eventually(lambda: hurried(conn) == (0,), within_s=60)
    assert scene.count("_ayb_job_executions WHERE outcome = 'completed'") == 1
    assert scene.count("_ayb_jobs WHERE state = 'completed'") == 1
    assert scene.count(
        """_ayb_job_results WHERE result = jsonb_build_object('done', (SELECT type FROM _ayb_jobs))"""
    ) == (kind in WITH_RESULTS)
    assert scene.lines("notes").count("step") == (kind in WITH_STEPS)
    match kind:
        case "http":
            assert scene.receiver.ids == [scene.job_id] * RUNS[step]
        case "sql":  # what had not been committed is undone
            assert scene.count("effects") == RUNS[step] - (step == RUNNING)
        case _:
            assert scene.lines("notes").count("run") == RUNS[step]

"""Measures commands and posted jobs beside bare loops that do the same: `python benchmarks/kinds.py`.

`--url` names an empty database; without it an embedded one is used. The figures are for the machine at hand only.
"""

import argparse
import asyncio
import json
import multiprocessing
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
from aiohttp import web

from ayb_jobs import NewJob, Registry, enqueue_many
from ayb_jobs.config import load_config
from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.handlers.kinds.table import KINDS
from ayb_jobs.handlers.packs import build_registry
from ayb_jobs.process.inside import running_daemon
from ayb_jobs.storage.database import connect

BODY = b'{"type": "post", "data": {}}'
# As many commands at once; more only wait for a processor.
COMMANDS = 4
REQUESTS = 100


def serve(told: Connection) -> None:
    """Answer every request at once, in a process of its own."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        told.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


@contextmanager
def server() -> Iterator[str]:
    """Run the server for the time of the block, and give its address."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/"
    finally:
        process.kill()
        process.join()


def registry_of(address: str) -> Registry:
    """Return both job types."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "ayb-jobs.toml")
        file.write_text(
            f'[job_types.post]\nhttp = "{address}"\nallow_private = true\n[job_types.run]\nexec = ["/bin/true"]\n'
        )
        return build_registry(load_config(file, kinds=KINDS))


def drained(url: str, registry: Registry, job_type: str, jobs: int, **settings: int) -> float:
    """Return the seconds from the first job's start to the last one's end, by the database's clock."""
    with closing(connect(url)) as conn:
        with running_daemon(registry, url=url, poll_interval_ms=100, **settings):
            enqueue_many(conn, [NewJob(type=job_type) for _ in range(jobs)])
            done = "SELECT count(*) FROM _ayb_jobs WHERE type = %s AND state = 'completed'"
            while (conn.execute(done, (job_type,)).fetchone() or (0,))[0] < jobs:
                time.sleep(0.05)
        took = "SELECT extract(epoch FROM max(ended_at) - min(started_at)) FROM _ayb_job_executions WHERE job_type = %s"
        return float((conn.execute(took, (job_type,)).fetchone() or (0,))[0])


def bare_commands(jobs: int, at_once: int) -> float:
    """Return the seconds that a bare loop of `subprocess` takes, in as many threads."""

    def one(_: int) -> None:
        subprocess.run(["/bin/true"], input=b"{}\n", capture_output=True, start_new_session=True, check=True)

    with ThreadPoolExecutor(at_once) as threads:
        return timed(lambda: list(threads.map(one, range(jobs))))


def bare_requests(address: str, jobs: int, at_once: int) -> float:
    """Return the seconds that a bare loop of aiohttp takes, with as many requests at once."""

    async def all_of_them() -> None:
        left = iter(range(jobs))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def some() -> None:
                for _ in left:
                    async with session.post(address, data=BODY) as response:
                        await response.read()

            await asyncio.gather(*(some() for _ in range(at_once)))

    return timed(lambda: asyncio.run(all_of_them()))


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def measure(url: str, scale: float) -> None:
    """Print one line of JSON for each figure."""
    commands, requests = int(5000 * scale), int(30_000 * scale)
    with server() as address:
        registry = registry_of(address)
        rows = (
            (
                "commands (/bin/true)",
                drained(url, registry, "run", commands, worker_concurrency=COMMANDS),
                bare_commands(commands, COMMANDS),
            ),
            (
                "requests answered at once",
                drained(url, registry, "post", requests, async_concurrency=REQUESTS),
                bare_requests(address, requests, REQUESTS),
            ),
        )
    for name, ours, bare in rows:
        print(
            json.dumps(
                {"what": name, "seconds": round(ours, 2), "bare": round(bare, 2), "share": round(bare / ours, 2)}
            )
        )


def main() -> None:
    """Measure on the database that is named, or on an embedded one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="an empty database")
    parser.add_argument("--scale", type=float, default=1.0, help="how much of the work to do")
    given = parser.parse_args()
    if given.url:
        measure(given.url, given.scale)
        return
    with EmbeddedPostgres.throwaway() as embedded:
        measure(embedded.url(), given.scale)


if __name__ == "__main__":
    main()

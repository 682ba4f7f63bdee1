"""What is measured: each workload takes one contender once through a database of its own."""

import json
import os
import secrets
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import psycopg
from contenders import Contender, Queue
from install import command
from psycopg import sql
from psycopg.conninfo import make_conninfo

IDLE_S = 3.0
PARTS = 5
# Workers tell each time when they have begun so many.
COUNTED = 1000
# Worker processes that keep to one limit together.
WORKERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many jobs, whether the backlog is vacuumed and analyzed, and the longest that all of them may take."""

    jobs: int
    longest_s: float
    analyzed: bool = False


class Failed(Exception):
    """A contender did not do what was asked of it."""


class Place:
    """A database for one contender's turn."""

    def __init__(self, server_url: str, name: str, queue: Queue, limit: int) -> None:
        self.limit = limit
        info = psycopg.conninfo.conninfo_to_dict(server_url)
        self.conninfo = make_conninfo(server_url, dbname=name)
        # Every client takes this form.
        self.url = f"postgresql://{info.get('user', 'postgres')}@{info['host']}:{info.get('port', 5432)}/{name}"
        self.queue = queue

    def call(self, *arguments: str) -> float:
        """Run a command of the worker script; return the seconds it says it took."""
        said = subprocess.run(
            [*command(self.queue), *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if said.returncode:
            raise Failed(f"{self.queue.name} {arguments[0]}: {said.stderr.strip()[-500:]}")
        took = [json.loads(line)[1] for line in said.stdout.splitlines() if line.startswith('["took"')]
        return float(took[0]) if took else 0.0

    @contextmanager
    def worker(
        self, count: int, preset: str, told: "SimpleQueue[tuple[str, Any]] | None" = None
    ) -> Iterator["SimpleQueue[tuple[str, Any]]"]:
        """Run a worker for the time of the block; give what it tells, in `told` if that is given."""
        told = SimpleQueue() if told is None else told
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                [*command(self.queue), "work", str(count), preset],
                env=self.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            Thread(target=read, args=(process, told), daemon=True).start()
            try:
                yield told
            finally:
                process.stdin.close()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def unfinished(self) -> int:
        """Return how many jobs the database shows as not finished."""
        return self._number(self.queue.unfinished)

    def rows_read(self) -> int:
        """Return how many rows and index entries the server has read in this database, its dead ones included."""
        return self._number("SELECT tup_returned FROM pg_stat_database WHERE datname = current_database()")

    def dead_rows(self) -> int:
        """Return how many dead rows the tables hold, as far as the server knows."""
        return self._number("SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_user_tables")

    def run(self, statement: str) -> None:
        """Run a statement that gives nothing."""
        with psycopg.connect(self.conninfo, autocommit=True) as conn:
            conn.execute(statement)

    def _number(self, question: str) -> int:
        with psycopg.connect(self.conninfo, autocommit=True) as conn:
            return int(conn.execute(question).fetchone()[0])

    def environment(self) -> dict[str, str]:
        """Return the environment of a worker script."""
        limit = {"LIMIT": str(self.limit)} if self.limit else {}
        return {**os.environ, "DATABASE_URL": self.url, "PYTHONPATH": str(Path.cwd()), **limit}


def read(process: "subprocess.Popen[str]", told: "SimpleQueue[tuple[str, Any]]") -> None:
    """Pass on what a worker tells."""
    for line in process.stdout:
        if line.startswith('["'):
            told.put(tuple(json.loads(line)))
    told.put(("ended", None))


@contextmanager
def place(server_url: str, queue: Queue, *, limit: int = 0) -> Iterator[Place]:
    """Make a database with the queue's tables, and drop it after the block. Without a `limit` any number may run."""
    name = f"peers_{secrets.token_hex(6)}"
    with psycopg.connect(server_url, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            its_place = Place(server_url, name, queue, limit)
            its_place.call("setup")
            yield its_place
        finally:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def until(told: "SimpleQueue[tuple[str, Any]]", event: str, within_s: float) -> list[tuple[str, Any]]:
    """Return what is told up to an event, that one included."""
    heard: list[tuple[str, Any]] = []
    give_up = time.monotonic() + within_s
    while not heard or heard[-1][0] != event:
        try:
            heard.append(told.get(timeout=max(0.1, give_up - time.monotonic())))
        except Empty:
            raise Failed(f"not done within {within_s:g} s") from None
        if heard[-1][0] == "ended":
            raise Failed("the worker ended by itself")
    return heard


def drain(server_url: str, contender: Contender, size: Size) -> dict[str, float]:
    """Drain a backlog: jobs a second from the first handler's start until the database shows all finished.

    And what may explain it: how many rows the server read for each job, and how many dead ones it left for each.
    """
    count = max(10, int(size.jobs * contender.share))
    with place(server_url, contender.queue) as its_place:
        its_place.call("bulk", str(count))
        if size.analyzed:
            its_place.run("VACUUM (ANALYZE)")
        before = its_place.rows_read()
        with its_place.worker(count, contender.preset) as told:
            began = dict(until(told, "done", size.longest_s))["began"]
            give_up = time.time() + size.longest_s
            while its_place.unfinished():
                if time.time() > give_up:
                    raise Failed("handlers are done, but the database does not show it")
                time.sleep(0.01)
            took_s = time.time() - began
        # Sessions tell the server's counters all that they did as they end.
        read, dead = its_place.rows_read() - before, its_place.dead_rows()
    return {"jobs/s": count / took_s, "rows read for a job": read / count, "dead rows left for a job": dead / count}


def enqueue(server_url: str, contender: Contender, size: Size) -> dict[str, float]:
    """Enqueue on one connection: one by one, and in bulk by 1,000 a call."""
    single = max(10, size.jobs // 20)
    with place(server_url, contender.queue) as its_place:
        return {
            "one by one, jobs/s": single / its_place.call("single", str(single)),
            "in bulk, jobs/s": size.jobs / its_place.call("bulk", str(size.jobs)),
        }


def latency(server_url: str, contender: Contender, size: Size) -> dict[str, float]:
    """Wake an idle worker every 20 ms: from before the insert to the handler's start."""
    with place(server_url, contender.queue) as its_place, its_place.worker(size.jobs, contender.preset) as told:
        time.sleep(IDLE_S)
        its_place.call("paced", str(size.jobs))
        waits = sorted(dict(until(told, "done", size.longest_s))["latencies"])
    return {
        "p50, ms": statistics.median(waits),
        "p95, ms": waits[int(len(waits) * 0.95)],
        "p99, ms": waits[int(len(waits) * 0.99)],
    }


def pinned(server_url: str, contender: Contender, size: Size) -> dict[str, float]:
    """Drain an analyzed backlog while a transaction older than all of it stays open: jobs a second in each fifth."""
    if size.jobs < PARTS * COUNTED:
        raise Failed(f"at least {PARTS * COUNTED:,} jobs are needed to tell the fifths apart")
    with place(server_url, contender.queue) as its_place, psycopg.connect(its_place.conninfo) as old:
        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT txid_current()")
        its_place.call("bulk", str(size.jobs))
        its_place.run("ANALYZE")
        with its_place.worker(size.jobs, contender.preset) as told:
            heard = until(told, "done", size.longest_s)
    jobs = size.jobs
    counts = [(0, dict(heard)["began"]), *(value for event, value in heard if event == "count")]
    times = dict(counts)
    ends = [times[max(count for count in times if count <= jobs * part / PARTS)] for part in range(PARTS + 1)]
    return {f"fifth {part}, jobs/s": jobs / PARTS / (ends[part] - ends[part - 1]) for part in range(1, PARTS + 1)}


def limited(limit: int) -> Callable[[str, Contender, Size], dict[str, float]]:
    """Return what drains jobs of 5 ms by four worker processes, of which so many may run at once, over all of them."""

    def measure(server_url: str, contender: Contender, size: Size) -> dict[str, float]:
        told: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        with place(server_url, contender.queue, limit=limit) as its_place, ExitStack() as workers:
            its_place.call("bulk", str(size.jobs))
            for _ in range(WORKERS):
                workers.enter_context(its_place.worker(size.jobs, contender.preset, told))
            runs = runs_told(told, size)
        beyond, most = overlaps(runs, limit)
        took_s = max(end for _, end in runs) - min(begin for begin, _ in runs)
        return {"jobs/s": size.jobs / took_s, "starts beyond the limit": beyond, "most at once": most}

    return measure


def runs_told(told: "SimpleQueue[tuple[str, Any]]", size: Size) -> list[tuple[float, float]]:
    """Return when each job began and ended, by its handler's clock."""
    runs: list[tuple[float, float]] = []
    give_up = time.monotonic() + size.longest_s
    while len(runs) < size.jobs:
        try:
            event, value = told.get(timeout=max(0.1, give_up - time.monotonic()))
        except Empty:
            raise Failed(f"{len(runs)} of {size.jobs} jobs are done within {size.longest_s:g} s") from None
        if event == "ended":
            raise Failed("a worker ended by itself")
        if event == "ran":
            runs.append((value[0], value[1]))
    return runs


def overlaps(runs: Sequence[tuple[float, float]], limit: int) -> tuple[int, int]:
    """Return how many runs began although the limit was reached, and how many there were at once, at most."""
    running = beyond = most = 0
    for _, step in sorted(each for begin, end in runs for each in ((begin, 1), (end, -1))):
        running += step
        most = max(most, running)
        beyond += step > 0 and running > limit
    return beyond, most

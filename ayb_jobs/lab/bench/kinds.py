"""Kinds: jobs of each kind beside the same work with no queue around it, by time and by processor time.

Both sides run at the same time and work in turn, some jobs each, so that whatever disturbs the machine disturbs both.
The time of the jobs begins once they are enqueued: how long that takes is measured by itself. The processor time is
that of the daemon and of all its processes, without the database server's.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from ayb_jobs.client.enqueueing import enqueue, enqueue_many
from ayb_jobs.config.section import has_http
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.services import ContextServices
from ayb_jobs.lab.bench import kinds_handlers as handlers
from ayb_jobs.lab.bench import kinds_isolated as isolated_handlers
from ayb_jobs.lab.bench.figures import Figure, Pair, figure
from ayb_jobs.lab.bench.kinds_bare import WARM
from ayb_jobs.lab.bench.processes import Measured, measured
from ayb_jobs.lab.bench.scratch import Bench
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import connect
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leasing import lease_jobs

TICKS = os.sysconf("SC_CLK_TCK")
REQUESTS_AT_ONCE, COMMANDS_AT_ONCE = 100, 4
STEP_CALLS = 50


class Work(NamedTuple):
    """Jobs of one type, how many of a round's jobs, and the settings; and what does the same bare.

    A round has so many `turns`.
    """

    name: str
    job_type: str
    share: float
    settings: Mapping[str, int]
    bare: str
    options: Mapping[str, Any]
    turns: int = 10


@dataclass(slots=True, kw_only=True)
class Spent:
    """What the turns of one side have taken, in seconds."""

    jobs: int = 0
    took_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def rate(self) -> float:
        """Jobs in a second."""
        return self.jobs / max(self.took_s, 1e-9)

    @property
    def cpu_us(self) -> float:
        """Processor time of a job, in microseconds."""
        return self.cpu_s / self.jobs * 1e6


def measure(bench: Bench) -> Iterator[Figure]:
    """Measure each kind in turn, and a step beside an insert."""
    if has_http():
        with measured("receiving", "") as receiver:
            address = f"http://127.0.0.1:{receiver.wait_for('port')}/"
            yield from compare(bench, works(bench, address), address)
    else:
        bench.tell("kinds: requests are left out, which need the extra http")
        yield from compare(bench, works(bench, None), None)
    bench.tell("kinds: steps")
    with bench.database() as url:
        yield figure("kinds", "a step", "1/s", steps(url, bench.rounds), against="bare insert")


def works(bench: Bench, address: str | None) -> Iterator[Work]:
    """Yield what is compared."""
    many = max(1, bench.jobs // 4)
    asynchronous = {"async_concurrency": many}
    yield Work("empty async handlers", "empty_async", 1, {}, "tasks", {"at_once": 1000})
    yield Work(
        f"{many:,} async handlers of 1 s at once", "second", 1, asynchronous, "tasks", {"at_once": many, "seconds": 1},
        turns=1,
    )  # fmt: skip
    if address:
        at_once = {"async_concurrency": REQUESTS_AT_ONCE}
        yield Work(
            "requests answered at once", "request", 0.5, at_once, "requests",
            {"at_once": REQUESTS_AT_ONCE, "address": address},
        )  # fmt: skip
    places = {"worker_concurrency": COMMANDS_AT_ONCE}
    yield Work("commands, /bin/true", "command", 0.1, places, "commands", {"at_once": COMMANDS_AT_ONCE})
    yield Work("empty isolated handlers", "empty_isolated", 1, {}, "children", {})
    if find_spec("pebble"):
        yield Work("empty isolated handlers", "empty_isolated", 1, {}, "Pebble", {})
    else:
        bench.tell("kinds: Pebble is left out, which is not installed")
    yield Work("isolated handlers that compute", "computing", 0.02, {}, "computed", {}, turns=4)


def compare(bench: Bench, compared: Iterator[Work], address: str | None) -> Iterator[Figure]:
    """Do each work as jobs and bare, in turn, and return the figures."""
    for work in compared:
        rounds = []
        for _ in range(bench.rounds):
            bench.tell(f"kinds: {work.name}")
            rounds.append(in_turns(bench, work, address))
        against = f"bare {work.bare}"
        rates = [Pair(ours.rate, theirs.rate) for ours, theirs in rounds]
        yield figure("kinds", work.name, "jobs/s", rates, against=against)
        cpu = [Pair(ours.cpu_us, theirs.cpu_us) for ours, theirs in rounds]
        yield figure("kinds", f"{work.name}: CPU", "µs", cpu, against=against)


def in_turns(bench: Bench, work: Work, address: str | None) -> tuple[Spent, Spent]:
    """Return what a round takes as jobs of a daemon, and with nothing around it, a turn here and a turn there."""
    jobs = max(10, int(bench.jobs * work.share))
    options: dict[str, Any] = {"module": module_of(work), "job_type": work.job_type, "address": address}
    with (
        bench.database() as url,
        closing(connect(url)) as conn,
        measured("kinds", url, settings=dict(work.settings), **options) as daemon,
        measured(work.bare, "", **work.options) as bare,
    ):
        daemon.wait_for("ready")
        bare.wait_for("ready")

        def as_jobs(count: int) -> float:
            enqueue_many(conn, [NewJob(type=work.job_type) for _ in range(count)])
            began = ended = time.monotonic()
            while count > 0:
                ended, done = daemon.wait_for("settled")
                count -= done
            return ended - began

        def as_bare_work(count: int) -> float:
            began = time.monotonic()
            return bare.take_turn(count) - began

        as_jobs(WARM)
        ours, theirs = Spent(), Spent()
        for turn in range(work.turns):
            count = jobs * (turn + 1) // work.turns - jobs * turn // work.turns
            take_turn(ours, daemon, count, as_jobs)
            take_turn(theirs, bare, count, as_bare_work)
    return ours, theirs


def module_of(work: Work) -> str:
    """Return the module that has the work's handlers."""
    isolated = work.job_type in isolated_handlers.registry.names()
    return isolated_handlers.__name__ if isolated else handlers.__name__


def take_turn(spent: Spent, process: Measured, jobs: int, action: Callable[[int], float]) -> None:
    """Have a process do some jobs, and add what that takes. The action returns how long."""
    before_s = cpu_s(process.pid)
    spent.took_s += action(jobs)
    spent.cpu_s += cpu_s(process.pid) - before_s
    spent.jobs += jobs


def cpu_s(pid: int) -> float:
    """Return the processor time of a process and of all its descendants, also of those that it has waited for."""
    children: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            children.setdefault(int(fields[1]), []).append(int(folder.name))
            used[int(folder.name)] = sum(map(int, fields[11:15])) / TICKS
    found, left = 0.0, [pid]
    while left:
        one = left.pop()
        found += used.get(one, 0.0)
        left += children.get(one, ())
    return found


def steps(url: str, rounds: int) -> list[Pair]:
    """Return how many steps, and how many inserts of such a row, are done in a second, in turn."""
    with closing(Database(url, name="bench-steps")) as database:
        with database.connection() as conn:
            enqueue(conn, NewJob(type="bench_steps"))
            (job, *_) = lease_jobs(
                conn, worker_id="bench", lanes=[Lane("default", 2)], types=["bench_steps"], limit=1, lease_s=3600
            )
            conn.execute("CREATE TABLE bench_steps (LIKE _ayb_job_steps INCLUDING ALL)")
        context = JobContext(job, ContextServices(database=database, lease_s=3600, logger=structlog.get_logger()))

        def insert(name: str) -> None:
            with database.connection() as conn:
                conn.execute("INSERT INTO bench_steps (job_id, name, result) VALUES (%s, %s, '1')", (job.id, name))

        def step(name: str) -> None:
            context.step(name, lambda: 1)

        context.step("first", lambda: 1)
        return [in_turn(step, insert, number) for number in range(max(3, rounds * 3))]


def in_turn(ours: Callable[[str], object], bare: Callable[[str], object], number: int) -> Pair:
    """Return how many of each are done in a second, call by call in turn, since the time of a commit keeps changing."""
    took_s = {ours: 0.0, bare: 0.0}
    for call in range(STEP_CALLS):
        for action in took_s:
            began = time.perf_counter()
            action(f"{number}-{call}")
            took_s[action] += time.perf_counter() - began
    return Pair(STEP_CALLS / took_s[ours], STEP_CALLS / took_s[bare])

"""Measures limits, pauses, keys and dependencies beside plain jobs: `.venv/bin/python benchmarks/flow.py [WORK]…`.

One server that is thrown away, a database for each measurement. The jobs are loaded while their queue is paused, and
measured from its resume until all have ended: CPU of the daemon and of the server for each job, and jobs a second.
Beside each case stands plain work of the same round. `--jobs` and `--waiting` make it smaller or larger.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psycopg
from batches import until_idle
from beside import Place, Tree, until
from flow_statements import measure_enqueue, measure_full

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.lab.bench.idle import cpu_seconds
from ayb_jobs.lab.bench.pinned import old_transaction
from ayb_jobs.lab.bench.scratch import DURABLE
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet import limits, pauses

LOAD = """
    INSERT INTO _ayb_jobs (type, limit_key, unique_key)
    SELECT %(type)s, CASE WHEN %(keys)s > 0 THEN 'key ' || number %% greatest(%(keys)s, 1) END,
        CASE WHEN %(unique)s THEN sha256(convert_to(number::text, 'UTF8')) END
    FROM generate_series(1, %(jobs)s) AS number
"""
CHAIN = """
    WITH made AS (
        INSERT INTO _ayb_jobs (type, run_at, blocked_run_at)
        SELECT 'beside_noop', CASE WHEN number = 1 THEN now() ELSE '9999-12-31 00:00:00+00' END,
            CASE WHEN number > 1 THEN now() END
        FROM generate_series(1, %(jobs)s) AS number
        RETURNING id
    )
    INSERT INTO _ayb_job_dependencies (child_id, parent_id, rule)
    SELECT id, parent, 'run' FROM (SELECT id, lag(id) OVER (ORDER BY id) AS parent FROM made) AS linked WHERE parent IS NOT NULL
"""
FAN = """
    WITH made AS MATERIALIZED (
        SELECT number, _ayb_job_id() AS id FROM generate_series(0, %(jobs)s + 1) AS number
    ), inserted AS (
        INSERT INTO _ayb_jobs (id, type, run_at, blocked_run_at)
        SELECT id, 'beside_noop', CASE WHEN number = 0 THEN now() ELSE '9999-12-31 00:00:00+00' END,
            CASE WHEN number > 0 THEN now() END
        FROM made
    )
    INSERT INTO _ayb_job_dependencies (child_id, parent_id, rule)
    SELECT child.id, parent.id, 'run'
    FROM made AS child JOIN made AS parent ON child.number BETWEEN 1 AND %(jobs)s AND parent.number = 0
        OR child.number = %(jobs)s + 1 AND parent.number BETWEEN 1 AND %(jobs)s
"""
LEFT = """
    SELECT NOT EXISTS (SELECT FROM _ayb_jobs WHERE state IN ('queued', 'running') AND type = 'beside_noop')
"""


UNDER = """
    SELECT _ayb_job_put_under(ARRAY(SELECT id FROM _ayb_jobs WHERE type = 'beside_limited' AND limited_by IS NULL LIMIT 50000))
"""
UNDER_LEFT = "SELECT EXISTS (SELECT FROM _ayb_jobs WHERE type = 'beside_limited' AND limited_by IS NULL)"
RAN_AT_ONCE = """
    SELECT max(running)
    FROM (
        SELECT sum(step) OVER (ORDER BY at, step) AS running
        FROM _ayb_job_executions CROSS JOIN LATERAL (VALUES (started_at, 1), (ended_at, -1)) AS moment (at, step)
    ) AS steps
"""
SHARES = "SELECT count(*) * 100 / sum(count(*)) OVER () FROM _ayb_job_executions GROUP BY worker_id"
# What was started within any time beyond its burst of 10 and its 1,000 a second: nothing if it is not above 0.
BEYOND_RATE = """
    SELECT max(1 + number - allowed - lowest) - 10
    FROM (
        SELECT number, allowed, min(number - allowed) OVER (ORDER BY number) AS lowest
        FROM (
            SELECT row_number() OVER (ORDER BY last_run_at) AS number,
                1000 * extract(epoch FROM last_run_at - min(last_run_at) OVER ()) AS allowed
            FROM _ayb_jobs
        ) AS starts
    ) AS starts
"""
# The same by the handlers' clock. They begin some time after their lease: it is beyond by that time's share at most.
BEYOND_BY_HANDLERS = BEYOND_RATE.replace("last_run_at", "started_at").replace("_ayb_jobs", "_ayb_job_executions")
SHARE_OF_DELAY = """
    SELECT 1000 * max(extract(epoch FROM run.started_at - job.last_run_at))
    FROM _ayb_jobs AS job JOIN _ayb_job_executions AS run ON run.job_id = job.id
"""
# How long the slowest statement took since the jobs were loaded.
SLOWEST = """
    SELECT max(max_exec_time) FROM pg_stat_statements
    WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
OF_RATE = "SELECT count(*) / extract(epoch FROM max(last_run_at) - min(last_run_at)) / 1000 FROM _ayb_jobs"
FIFTHS = """
    SELECT count(*) / extract(epoch FROM max(ended_at) - min(ended_at))
    FROM (SELECT ended_at, ntile(5) OVER (ORDER BY ended_at) AS fifth FROM _ayb_job_executions) AS ended
    GROUP BY fifth ORDER BY fifth
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is measured: how jobs are loaded and held back. So many others are `waiting` under a limit that is full."""

    limit: Mapping[str, Any] = field(default_factory=dict)
    keys: int = 0
    unique: bool = False
    pauses: int = 0
    waiting: int = 0
    waiting_keys: int = 0
    waiting_limit: Mapping[str, Any] = field(default_factory=lambda: {"max_running": 0})
    concurrency: int = 4
    daemons: int = 1
    pinned: bool = False
    load: str = LOAD
    jobs: int | None = None
    checks: Mapping[str, str] = field(default_factory=dict)


def set_limit(conn: Connection, name: str, job_type: str, **given: Any) -> None:
    """Set a limit of one type."""
    with conn.transaction():
        limits.set_limit(conn, NewLimit(name=name, types=[job_type], **given), by="benchmark")


def prepare(conn: Connection, case: Case, jobs: int) -> None:
    """Load the jobs, which the pause of their queue keeps from starting."""
    conn.execute("SET statement_timeout = 0")
    with conn.transaction():
        for name in ["default", *(f"other {number}" for number in range(case.pauses))]:
            pauses.pause(conn, NewPause(kind=PauseKind.QUEUE, name=name), by="benchmark")
    if case.limit:
        set_limit(conn, "measured", "beside_noop", **case.limit)
    if case.waiting:
        set_limit(conn, "full", "beside_limited", **case.waiting_limit)
        values = {"type": "beside_limited", "keys": case.waiting_keys, "unique": False, "jobs": case.waiting}
        conn.execute(LOAD, values)
        while conn.execute(UNDER_LEFT).fetchone() == (True,):
            conn.execute(UNDER)
    values = {"type": "beside_noop", "keys": case.keys, "unique": case.unique, "jobs": jobs}
    conn.execute(case.load.encode(), values)
    conn.execute("CHECKPOINT")
    if SLOWEST in case.checks.values():
        conn.execute("CREATE EXTENSION pg_stat_statements")
        conn.execute("SELECT pg_stat_statements_reset()")


@contextmanager
def fleet(tree: Tree, url: str, case: Case) -> Iterator[list[int]]:
    """Run the daemons of a case, idle, and give their process ids."""
    with ExitStack() as stack:
        pids = [stack.enter_context(tree.daemon(url, worker_concurrency=case.concurrency)) for _ in range(case.daemons)]
        for pid in pids:
            until_idle(pid)
        yield pids


def measure(place: Place, tree: Tree, case: Case) -> dict[str, float]:
    """Return what a case costs, and print what its checks say."""
    jobs = case.jobs or place.jobs
    with place.database(tree, 0) as url, closing(connect(url)) as conn, old_transaction(url, pin=case.pinned):
        prepare(conn, case, jobs)
        with fleet(tree, url, case) as pids, closing(psycopg.connect(url, autocommit=True)) as watcher:
            began = (time.monotonic(), sum(map(cpu_seconds, pids)), place.server_cpu_s())
            with conn.transaction():
                pauses.resume(conn, PauseKind.QUEUE, "default")
            until(watcher, LEFT, pause_s=0.1)
            ended = (time.monotonic(), sum(map(cpu_seconds, pids)), place.server_cpu_s())
        for name, text in case.checks.items():
            print(f"  {name}: {', '.join(f'{row[0]:.2f}' for row in conn.execute(text.encode()))}", flush=True)
    took_s, *cpu_s = (end - begin for begin, end in zip(began, ended, strict=True))
    return {"µs of CPU a job": sum(cpu_s) / jobs * 1e6, "jobs/s": jobs / took_s}


def measure_idle(place: Place, tree: Tree, case: Case) -> dict[str, float]:
    """Return the CPU time, in milliseconds a second, of a daemon that has nothing to do."""
    with place.database(tree, 0) as url, closing(connect(url)) as conn:
        prepare(conn, case, 0)
        with conn.transaction():
            pauses.resume(conn, PauseKind.QUEUE, "default")
        with fleet(tree, url, case) as pids:
            began = (time.monotonic(), sum(map(cpu_seconds, pids)) + place.server_cpu_s())
            time.sleep(IDLE_S)
            ended = (time.monotonic(), sum(map(cpu_seconds, pids)) + place.server_cpu_s())
    return {"ms of CPU a second": (ended[1] - began[1]) / (ended[0] - began[0]) * 1000}


NEVER = 1_000_000
IDLE_S = 20.0
MANY = -1  # as many as the command line says
PLAIN, FIFTY, FIVE_HUNDRED = Case(), Case(concurrency=50), Case(concurrency=500)
QUICK = {"max_running": NEVER, "rate": "1000000/s", "burst": NEVER}
CONTENDED = Case(
    limit={"max_running": 50}, concurrency=50, daemons=4,
    checks={"ran at once, at most": RAN_AT_ONCE, "share of each daemon, %": SHARES},
)  # fmt: skip
RATED = Case(
    limit={"rate": "1000/s", "burst": 10}, concurrency=50, jobs=60_000,
    checks={
        "started beyond the rate, at most": BEYOND_RATE, "of the rate": OF_RATE,
        "beyond it by the handlers' clock, at most": BEYOND_BY_HANDLERS, "the rate's share of their delay": SHARE_OF_DELAY,
    },
)  # fmt: skip
PINNED = Case(
    limit={"key_max_running": 4}, keys=1000, concurrency=50, pinned=True, checks={"jobs/s, by fifths": FIFTHS}
)
SLOWEST_STATEMENT = {"slowest statement, ms": SLOWEST}
# Each case with the plain one that it stands beside.
WORKS: Mapping[str, Sequence[tuple[str, Case, Case]]] = {
    "plain": [
        ("plain while limited ones wait", Case(waiting=MANY), PLAIN),
        ("plain while 1,000 keys are full", Case(waiting=MANY, waiting_keys=1000), PLAIN),
    ],
    "limits": [
        ("a limit, 50 slots", Case(limit={"max_running": NEVER}, concurrency=50), FIFTY),
        ("a limit, 500 slots", Case(limit={"max_running": NEVER}, concurrency=500), FIVE_HUNDRED),
        ("a limit and a rate, 50 slots", Case(limit=QUICK, concurrency=50), FIFTY),
        ("a limit and a rate, 500 slots", Case(limit=QUICK, concurrency=500), FIVE_HUNDRED),
    ],
    "keys": [
        (f"{keys:,} keys{told}", Case(limit={"key_max_running": 4, **more}, keys=keys, concurrency=50), FIFTY)
        for keys in (10, 1000, 10_000)
        for told, more in (
            ("", {}),
            (", 50 each", {"key_max_running": 50}),
            (", a rate each", {"key_rate": "1000000/s", "key_burst": NEVER}),
        )
    ],
    "contended": [("one limit of 50, four daemons", CONTENDED, Case(concurrency=50, daemons=4))],
    "rate": [("a rate of 1,000/s", RATED, FIFTY)],
    "pauses": [("ten pauses of other queues", Case(pauses=10), PLAIN)],
    "pinned": [("1,000 keys under a pinned snapshot", PINNED, Case(concurrency=50, pinned=True))],
    "full": [
        (f"a look that finds {keys:,} keys full", Case(waiting=100_000, waiting_keys=keys), Case(waiting=100_000))
        for keys in (10, 1000, 10_000)
    ],
    "unique": [("unique keys, all different", Case(unique=True), PLAIN)],
    "enqueue": [("unique keys, enqueued", Case(unique=True), PLAIN)],
    "chain": [("a chain", Case(load=CHAIN, jobs=1000, checks=SLOWEST_STATEMENT), Case(jobs=1000))],
    "fan": [("fan-out and fan-in", Case(load=FAN, jobs=9998, checks=SLOWEST_STATEMENT), Case(jobs=10_000))],
    "idle": [
        ("idle, 10,000 wait for a limit", Case(waiting=10_000), Case()),
        ("idle, 10,000 wait for a token", Case(waiting=10_000, waiting_limit={"rate": "1/h"}), Case()),
    ],
}
# What the ratio to plain work is meant to be, by the beginning of a case's name; the first that fits.
AIMS = {
    "plain while": "CPU ≤ 1.05", "a limit": "CPU ≤ 1.5", "one limit": "jobs/s ≥ 0.4", "a rate": "0.98 to 1.00 of the rate",
    "ten pauses": "CPU ≤ 1.15", "1,000 keys under": "last fifth ≥ 0.8 of the first", "a look": "≤ 1.5 ms up to 1,000 keys",
    "unique": "≥ 0.8 of plain: CPU ≤ 1.25", "a chain": "CPU ≤ 2.5", "fan": "no statement above 50 ms", "idle": "1.0",
}  # fmt: skip
MEASURES = {"idle": measure_idle, "full": measure_full, "enqueue": measure_enqueue}
# What a server is started with, if its slowest statement is asked for.
STATEMENTS = {"shared_preload_libraries": "pg_stat_statements"}


def server_settings(work: str) -> dict[str, str]:
    """Return what the server of a work is started with."""
    return DURABLE | (STATEMENTS if any(SLOWEST in case.checks.values() for _, case, _ in WORKS[work]) else {})


def aim_of(name: str) -> str:
    """Return what the case of a name is meant to reach."""
    of_keys = "CPU ≤ 3" if "a rate each" in name else "CPU ≤ 2.5"
    return next((aim for start, aim in AIMS.items() if name.startswith(start)), of_keys)


def rows(name: str, cost: Sequence[Mapping[str, float]], beside: Sequence[Mapping[str, float]]) -> Iterator[str]:
    """Yield the rows of a Markdown table for a case."""
    for unit in cost[0]:
        mine, other = statistics.median(one[unit] for one in cost), statistics.median(one[unit] for one in beside)
        ratio = statistics.median(one[unit] / two[unit] for one, two in zip(cost, beside, strict=True))
        yield f"| {name} | {unit} | {mine:,.1f} | {other:,.1f} | {ratio:.2f} | {aim_of(name)} |"


def tell(cost: Sequence[Mapping[str, float]], beside: Sequence[Mapping[str, float]]) -> None:
    """Print the medians of a case, and their ratio to those of plain jobs."""
    for unit in cost[0]:
        mine, other = statistics.median(one[unit] for one in cost), statistics.median(one[unit] for one in beside)
        ratio = statistics.median(one[unit] / two[unit] for one, two in zip(cost, beside, strict=True))
        print(f"  {mine:10,.1f} {unit}, beside {other:,.1f} of plain jobs: {ratio:.2f}", flush=True)


def main() -> None:
    """Measure each work in each round, the case and the plain one in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", nargs="*", help=f"any of: {', '.join(WORKS)}; without one, all")
    parser.add_argument("--jobs", type=int, default=40_000)
    parser.add_argument("--waiting", type=int, default=1_000_000, help="how many wait under a limit beside plain jobs")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if unknown := set(options.works) - set(WORKS):
        parser.error(f"no such work: {', '.join(unknown)}")
    tree = Tree(name="this", root=Path(__file__).parent.parent)
    table = ["| work | unit | limited | plain | ratio | aim |", "|---|---|---|---|---|---|"]
    for work in options.works or WORKS:
        with EmbeddedPostgres.throwaway(settings=server_settings(work)) as server:
            place = Place(server, options.jobs)
            for name, case, plain in WORKS[work]:
                print(name, flush=True)
                wanted = replace(case, waiting=options.waiting) if case.waiting == MANY else case
                costs = in_turn(place, tree, MEASURES.get(work, measure), (wanted, plain), options.rounds)
                tell(*costs)
                table += rows(name, *costs)
    print("\n".join(table))


def in_turn(
    place: Place, tree: Tree, measured: Callable[..., dict[str, float]], sides: tuple[Case, Case], rounds: int
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Measure the case and the plain one so often, the one that begins changing from round to round."""
    costs: tuple[list[dict[str, float]], list[dict[str, float]]] = [], []
    for number in range(rounds):
        for side in (0, 1) if number % 2 else (1, 0):
            costs[side].append(measured(place, tree, sides[side]))
    return costs


if __name__ == "__main__":
    main()

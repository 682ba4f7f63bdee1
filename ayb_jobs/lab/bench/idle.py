"""Idle: what `ayb-jobs run` costs without work, alone and with others, and how soon it works."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from ayb_jobs.lab.bench.figures import Figure, Pair, figure
from ayb_jobs.lab.bench.processes import Stuck, measured
from ayb_jobs.lab.bench.scratch import Bench, load_jobs
from ayb_jobs.storage.database import Connection, connect

# What the start itself has done is counted late: an idle connection tells the server's counters within 10 s.
WARM_UP_S = 12.0
# A turn of everything that is done once a minute.
WATCHED_S = 60.0
START_LIMIT_S = 30.0
MANY = 8
CONNECT_AND_COUNT = "import psycopg, sys; print(psycopg.connect(sys.argv[1]).execute('SELECT 1').fetchone())"


class Cost(NamedTuple):
    """What idle processes cost: transactions in a second, CPU in percent of one core, memory in MB."""

    transactions: float
    cpu_percent: float
    memory_mb: float


def measure(bench: Bench) -> Iterator[Figure]:
    """Watch an idle daemon beside an idle bare loop; start both; list jobs beside a bare query."""
    with bench.database() as url, closing(connect(url)) as conn:
        conn.execute("VACUUM (ANALYZE)")  # else autovacuum finds a new database's catalogs, and its work is counted too
        bench.tell(f"idle: the daemon, {WATCHED_S:g} s")
        with daemon(url) as pid:
            ours = cost(conn, pid)
        bench.tell(f"idle: {MANY} daemons, {WATCHED_S:g} s")
        with ExitStack() as stack:
            many = cost(conn, *[stack.enter_context(daemon(url)) for _ in range(MANY)])
        bench.tell(f"idle: a bare loop, {WATCHED_S:g} s")
        with measured("listening", url) as process:
            process.wait_for("ready")
            bare = cost(conn, process.pid)
    for number, (name, unit) in enumerate({"transactions": "1/s", "CPU": "%", "memory": "MB"}.items()):
        yield figure("idle", name, unit, [Pair(ours[number], bare[number])])
    for number, (name, unit) in enumerate({"transactions": "1/s", "CPU": "%"}.items()):
        each = [Pair(many[number] / MANY, ours[number])]
        yield figure("idle", f"{name}, each of {MANY} daemons", unit, each, against="one daemon")
    bench.tell("idle: start")
    starts = [Pair(start_s(bench), bare_start_s(bench)) for _ in range(bench.rounds)]
    yield figure("idle", "start to first lease", "s", starts, against="Python's start and one query")
    bench.tell("idle: jobs list")
    with bench.database() as url:
        load_jobs(url, 100)
        lists = [Pair(list_s(url), query_s(url)) for _ in range(bench.rounds)]
    yield figure("idle", "jobs list", "s", lists, against="Python's start and one query")


def environment(url: str) -> Mapping[str, str]:
    """Return the environment of a daemon on one database, at its defaults but for a free port."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("AYB_JOBS_")}
    return {
        **ours,
        "AYB_JOBS_DATABASE_URL": url,
        "AYB_JOBS_ENABLED": "true",
        "AYB_JOBS_API_PORT": "0",
        "AYB_JOBS_HANDLERS_MODULES": "ayb_jobs.lab.bench.handlers",
    }


@contextmanager
def daemon(url: str) -> Iterator[int]:
    """Run `ayb-jobs run`; give its process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ayb_jobs", "run"],
        env=environment(url),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def cost(conn: Connection, *pids: int) -> Cost:
    """Watch processes together, and the database they work on, which is otherwise idle."""
    time.sleep(WARM_UP_S)
    transactions, cpu_s = transactions_of(conn), sum(map(cpu_seconds, pids))
    began = time.monotonic()
    time.sleep(WATCHED_S)
    took_s = time.monotonic() - began
    # The second look at the counters is a transaction too.
    return Cost(
        (transactions_of(conn) - transactions - 1) / took_s,
        (sum(map(cpu_seconds, pids)) - cpu_s) / took_s * 100,
        sum(map(memory_mb, pids)),
    )


def transactions_of(conn: Connection) -> int:
    """Return how many transactions the database has seen."""
    conn.execute("SELECT pg_stat_force_next_flush()")
    row = conn.execute(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    ).fetchone()
    return row[0] if row else 0


def cpu_seconds(pid: int) -> float:
    """Return how much CPU time a process has used."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def memory_mb(pid: int) -> float:
    """Return how much memory of its own and shared a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def start_s(bench: Bench) -> float:
    """Return how long it takes from a daemon's start to its first lease, by the database's clock."""
    with bench.database() as url, closing(connect(url)) as conn:
        load_jobs(url, 1)
        began = conn.execute("SELECT clock_timestamp()").fetchone()
        with daemon(url):
            give_up = time.monotonic() + START_LIMIT_S
            while time.monotonic() < give_up:
                leased = conn.execute("SELECT last_run_at FROM _ayb_jobs WHERE last_run_at IS NOT NULL").fetchone()
                if leased and began:
                    took: float = (leased[0] - began[0]).total_seconds()
                    return took
                time.sleep(0.02)
    raise Stuck(f"the daemon leased nothing within {START_LIMIT_S:g} s")


def bare_start_s(bench: Bench) -> float:
    """Return how long Python takes to start, connect and query."""
    with bench.database() as url:
        return query_s(url)


def query_s(url: str) -> float:
    """Return how long a program takes that only connects and queries."""
    return run_s([sys.executable, "-c", CONNECT_AND_COUNT, url], os.environ)


def list_s(url: str) -> float:
    """Return how long `ayb jobs list` takes."""
    return run_s([sys.executable, "-m", "ayb_jobs", "jobs", "list"], environment(url))


def run_s(command: list[str], env: Mapping[str, str]) -> float:
    """Return how long a program takes."""
    began = time.monotonic()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began

"""Measures this tree beside another checkout of it, in turn in one run: `.venv/bin/python benchmarks/beside.py PATH`.

PATH is the other checkout, such as a worktree of an earlier commit, with an environment of its own in `.venv` (`make
install` there). Run it from the root of this tree, on a machine that does nothing else:

    .venv/bin/python benchmarks/beside.py ../earlier --rounds 5
    .venv/bin/python benchmarks/beside.py ../earlier drain list --rounds 21

Both work on one server that is thrown away, each in databases of its own. In each round both have their turn, and the
one that begins changes from round to round. For `at-once` the daemons of both benches drain at the same time, each on a
server of its own: whatever else the machine does slows both alike. The rate is that of the time in which both worked,
the CPU that of each one's whole drain. The figures are medians of the rounds. The ratio is the median of the rounds'
own ratios, turned so that above 1 this tree is the better one, whatever the unit.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.lab.bench.idle import cpu_seconds
from ayb_jobs.lab.bench.scratch import DURABLE

HERE = Path(__file__).parent
LIMIT_S = 300.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

LOAD = """
    INSERT INTO _ayb_jobs (type, payload, run_at) SELECT %s, '{}', now() FROM generate_series(1, %s)
"""
LEFT = "SELECT EXISTS (SELECT FROM _ayb_jobs WHERE state IN ('queued', 'running'))"
STARTED = "SELECT min(last_run_at) FROM _ayb_jobs WHERE last_run_at IS NOT NULL"
# Where the bench's measured processes are, now and in earlier trees.
MEASURED = ("ayb_jobs.lab.bench.measured", "ayb_jobs.bench.measured")
ENQUEUE = "import ayb_jobs; ayb_jobs.enqueue"
# Runs of a command in each turn.
COMMANDS = 3

# The figures of one turn, by name and unit.
Figures = Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A checkout with its environment."""

    name: str
    root: Path

    @property
    def measured(self) -> str:
        """The module of this tree's measured processes."""
        return next(name for name in MEASURED if (self.root / f"{name.replace('.', '/')}.py").exists())

    def command(self, *words: str) -> list[str]:
        """Return the words that run this tree's Python."""
        return [str(self.root / ".venv/bin/python"), *words]

    def environment(self, url: str, **settings: object) -> dict[str, str]:
        """Return the environment of a daemon on one database, at its defaults but for settings of `[jobs]`."""
        left_out = ("AYB_", "PYTHONDONTWRITEBYTECODE")  # else each start compiles the whole tree
        others = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        return others | {
            "PYTHONPATH": f"{self.root}{os.pathsep}{HERE}",
            "AYB_JOBS_DATABASE_URL": url,
            "AYB_JOBS_ENABLED": "true",
            "AYB_JOBS_API_PORT": "0",
            "AYB_JOBS_LOG_FORMAT": "json",
            "AYB_JOBS_HANDLERS_MODULES": "beside_handlers",
            **{f"AYB_JOBS_{name.upper()}": str(value) for name, value in settings.items()},
        }

    def run(self, url: str, *words: str) -> str:
        """Run a command of this tree to its end; return what it printed."""
        done = subprocess.run(
            self.command(*words), env=self.environment(url), cwd=self.root, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{self.name}: {' '.join(words)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout

    @contextmanager
    def daemon(self, url: str, **settings: object) -> Iterator[int]:
        """Run this tree's daemon; give its process id."""
        words = self.command("-m", "ayb_jobs", "run")
        process = subprocess.Popen(
            words, env=self.environment(url, **settings), cwd=self.root, stderr=subprocess.DEVNULL
        )
        try:
            yield process.pid
        finally:
            process.terminate()
            process.wait()


class Place:
    """The server, and how much is measured."""

    def __init__(self, server: EmbeddedPostgres, jobs: int) -> None:
        self.server = server
        self.jobs = jobs

    @contextmanager
    def database(self, tree: Tree, jobs: int, job_type: str = "beside_noop") -> Iterator[str]:
        """Make a database with this tree's schema and so many jobs, and drop it in the end."""
        with closing(psycopg.connect(self.server.url(), autocommit=True)) as conn:
            conn.execute("DROP DATABASE IF EXISTS beside")
            conn.execute("CREATE DATABASE beside")
            url = self.server.url("beside")
            try:
                tree.run(url, "-m", "ayb_jobs", "migrate")
                with closing(psycopg.connect(url, autocommit=True)) as inside:
                    inside.execute(LOAD, (job_type, jobs))
                conn.execute("CHECKPOINT")
                yield url
            finally:
                conn.execute("DROP DATABASE beside WITH (FORCE)")

    def server_cpu_s(self) -> float:
        """Return the CPU time of the server: of its processes, and of those that have ended."""
        parent = self.server.pid
        stats = [stat for file in Path("/proc").glob("[0-9]*/stat") if (stat := read_stat(file)) is not None]
        ours = [stat for pid, stat in stats if parent in (pid, int(stat[1]))]
        ended = [int(ticks) for pid, stat in stats if pid == parent for ticks in stat[13:15]]
        return (sum(int(ticks) for stat in ours for ticks in stat[11:13]) + sum(ended)) / TICKS_PER_S


def read_stat(file: Path) -> tuple[int, list[str]] | None:
    """Return a process's id and the fields behind its name; None if it is gone."""
    try:
        number, _, rest = file.read_text().partition(" (")
    except OSError:
        return None
    return int(number), rest.rpartition(") ")[2].split()


def bench(work: str) -> Callable[[Place, Tree], Figures]:
    """Return what measures by the tree's own `ayb-jobs bench`."""

    def measure(place: Place, tree: Tree) -> Figures:
        url = place.server.url()
        words = ["-m", "ayb_jobs", "bench", work, "--json", "--rounds", "1", "--jobs", str(place.jobs)]
        printed = tree.run(url, *words, "--database-url", url)
        found = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        return {(f"bench {work}: {one['name']}", one["unit"]): one["value"] for one in found}

    return measure


def cpu(place: Place, tree: Tree) -> Figures:
    """Measure what a job costs, of the daemon's CPU and of the server's, from the first lease to the last ending."""
    with (
        place.database(tree, place.jobs) as url,
        closing(psycopg.connect(url, autocommit=True)) as conn,
        tree.daemon(url) as pid,
    ):
        until(conn, f"SELECT ({STARTED}) IS NOT NULL", pause_s=0.005)
        began = (time.monotonic(), cpu_seconds(pid), place.server_cpu_s())
        until(conn, f"SELECT NOT ({LEFT})", pause_s=0.1)
        ended = (time.monotonic(), cpu_seconds(pid), place.server_cpu_s())
    took_s, daemon_s, server_s = (end - begin for begin, end in zip(began, ended, strict=True))
    return {
        ("drain", "jobs/s"): place.jobs / took_s,
        ("CPU of the daemon for each job", "µs"): daemon_s / place.jobs * 1e6,
        ("CPU of the server for each job", "µs"): server_s / place.jobs * 1e6,
    }


def start(place: Place, tree: Tree) -> Figures:
    """Measure from the start of `ayb-jobs run` to its first lease, by the database's clock, and its CPU until then."""
    with place.database(tree, 1) as url, closing(psycopg.connect(url, autocommit=True)) as conn:
        began = conn.execute("SELECT clock_timestamp()").fetchone()[0]
        with tree.daemon(url) as pid:
            until(conn, f"SELECT ({STARTED}) IS NOT NULL", pause_s=0.005)
            used_s = cpu_seconds(pid)
            leased = conn.execute(STARTED).fetchone()[0]
    name = "start to first lease"
    return {(name, "s"): (leased - began).total_seconds(), (f"{name}: CPU", "s"): used_s}


def listing(place: Place, tree: Tree) -> Figures:
    """Measure what `ayb-jobs jobs list` takes."""
    with place.database(tree, 100) as url:
        return command("ayb-jobs jobs list", tree, url, "-m", "ayb_jobs", "jobs", "list")


def importing(place: Place, tree: Tree) -> Figures:
    """Measure what a program takes that imports the package, and one that enqueues, Python's own start included."""
    figures: dict[tuple[str, str], float] = {}
    for code in ("import ayb_jobs", ENQUEUE):
        figures |= command(code, tree, place.server.url(), "-c", code)
    return figures


def command(name: str, tree: Tree, url: str, *words: str) -> Figures:
    """Measure how long a command takes, and its CPU, the least of a few runs."""
    tree.run(url, *words)  # files that are read for the first time
    runs = []
    for _ in range(COMMANDS):
        began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        tree.run(url, *words)
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = ended.ru_utime - used.ru_utime + ended.ru_stime - used.ru_stime
        runs.append((time.perf_counter() - began, cpu_s))
    return {(name, "s"): min(took for took, _ in runs), (f"{name}: CPU", "s"): min(cpu_s for _, cpu_s in runs)}


def until(conn: psycopg.Connection, question: str, *, pause_s: float) -> None:
    """Ask the database until it says yes."""
    give_up = time.monotonic() + LIMIT_S
    while not conn.execute(question).fetchone()[0]:
        if time.monotonic() > give_up:
            sys.exit(f"not so within {LIMIT_S:g} s: {question}")
        time.sleep(pause_s)


@dataclass(frozen=True, slots=True)
class Used:
    """The CPU time that a daemon and its server have used until now, in seconds."""

    daemon_s: float
    server_s: float


class Side:
    """One of two trees that drain at the same time: its daemon, which is its bench's, on a server of its own."""

    def __init__(self, tree: Tree, jobs: int, completed_h: int, stack: ExitStack) -> None:
        place = Place(stack.enter_context(EmbeddedPostgres.throwaway(settings=DURABLE)), jobs)
        self._place, self._tree, self._jobs, self._completed_h = place, tree, jobs, completed_h
        self._url = stack.enter_context(place.database(tree, jobs, job_type="noop"))
        self._began = math.nan
        self._marks: list[tuple[float, int]] = []
        self._used: list[Used] = []

    def begin(self, stack: ExitStack) -> None:
        """Start the daemon, and read what it tells until it has settled all."""
        options = json.dumps({"url": self._url, "completed_h": self._completed_h})
        self._process = subprocess.Popen(
            self._tree.command("-m", self._tree.measured, "daemon", options),
            env=self._tree.environment(self._url),
            cwd=self._tree.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(self._process.wait)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            event, value = json.loads(line)
            if event == "began":
                self._began = value
                self._used.append(self._use())
            elif event == "settled":
                at, count = value
                self._marks.append((at, count + self._settled))
                if self._settled >= self._jobs:
                    self._used.append(self._use())
                    break
        self._process.stdin.close()

    @property
    def _settled(self) -> int:
        return self._marks[-1][1] if self._marks else 0

    def _use(self) -> Used:
        return Used(cpu_seconds(self._process.pid), self._place.server_cpu_s())

    def window(self) -> tuple[float, float]:
        """Wait until all is settled; return when the first handler began, and the last settling."""
        self._reader.join(LIMIT_S)
        if self._settled < self._jobs:
            self._process.kill()
            sys.exit(f"the daemon of {self._tree.name} has not settled {self._jobs} jobs within {LIMIT_S:g} s")
        return self._began, self._marks[-1][0]

    def figures(self, name: str, began: float, ended: float) -> Figures:
        """Return its rate in a time in which both worked, and what each job has cost in all."""
        before, after = self._used
        daemon_us = (after.daemon_s - before.daemon_s) / self._jobs * 1e6
        server_us = (after.server_s - before.server_s) / self._jobs * 1e6
        return {
            (f"at once, {name}: drain", "jobs/s"): (self._settled_at(ended) - self._settled_at(began))
            / (ended - began),
            (f"at once, {name}: CPU of the daemon", "µs"): daemon_us,
            (f"at once, {name}: CPU of the server", "µs"): server_us,
            (f"at once, {name}: CPU of both", "µs"): daemon_us + server_us,
        }

    def _settled_at(self, when: float) -> float:
        """Return how many were settled by then, as if each batch had been settled job by job."""
        earlier, before = self._began, 0
        for at, settled in self._marks:
            if at >= when:
                return before + (settled - before) * (when - earlier) / (at - earlier)
            earlier, before = at, settled
        return before


def at_once(trees: tuple[Tree, Tree], jobs: int, rounds: int) -> dict[tuple[str, str], list[list[float]]]:
    """Have both trees drain at the same time; return what `in_turn` returns."""
    found: dict[tuple[str, str], list[list[float]]] = defaultdict(lambda: [[], []])
    for name, completed_h in HISTORY.items():
        for number in range(rounds):
            print(f"{AT_ONCE}, {name}, round {number + 1} of {rounds}", file=sys.stderr)
            with ExitStack() as stack:
                sides = [Side(tree, jobs, completed_h, stack) for tree in trees]
                for side in sides if number % 2 == 0 else reversed(sides):
                    side.begin(stack)
                begins, ends = zip(*(side.window() for side in sides), strict=True)
                began, ended = max(begins), min(ends)
                if began >= ended:
                    sys.exit(f"{jobs} jobs are too few: one tree had ended before the other began")
                for place, side in enumerate(sides):
                    for figure, value in side.figures(name, began, ended).items():
                        found[figure][place].append(value)
    return found


HISTORY: Mapping[str, int] = {"history kept": 720, "removed": 0}
AT_ONCE = "at-once"
WORKS: Mapping[str, Callable[[Place, Tree], Figures]] = {
    "drain": bench("drain"),
    "cpu": cpu,
    "latency": bench("latency"),
    "idle": bench("idle"),
    "start": start,
    "list": listing,
    "import": importing,
}


def main() -> None:
    """Measure both trees, and print each figure as soon as its rounds are over."""
    options = arguments()
    trees = Tree(name="this", root=HERE.parent), Tree(name="other", root=options.other.resolve())
    print(f"{'FIGURE':44} {'UNIT':>7} {'THIS':>10} {'OTHER':>10} {'RATIO':>6}")
    with EmbeddedPostgres.throwaway(settings=DURABLE) as server:
        place = Place(server, options.jobs)
        for work in options.works or [*WORKS, AT_ONCE]:
            if work == AT_ONCE:
                tell(at_once(trees, options.jobs, options.rounds))
            else:
                tell(in_turn(place, trees, work, options.rounds))


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="the other checkout, with its own .venv")
    parser.add_argument("works", nargs="*", help=f"any of: {', '.join([*WORKS, AT_ONCE])}; without one, all")
    parser.add_argument("--rounds", type=int, default=5, help="how often both have their turn")
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs in a round")
    options = parser.parse_args()
    if unknown := set(options.works) - {*WORKS, AT_ONCE}:
        parser.error(f"no such work: {', '.join(unknown)}")
    if not (options.other / ".venv/bin/python").exists():
        parser.error(f"{options.other} has no .venv; run make install there")
    return options


def in_turn(place: Place, trees: tuple[Tree, Tree], work: str, rounds: int) -> dict[tuple[str, str], list[list[float]]]:
    """Give both trees their turn in each round; return each figure's values: this tree's and the other's."""
    found: dict[tuple[str, str], list[list[float]]] = defaultdict(lambda: [[], []])
    for number in range(rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            print(f"{work}, round {number + 1} of {rounds}: {trees[side].name}", file=sys.stderr)
            for name, value in WORKS[work](place, trees[side]).items():
                found[name][side].append(value)
    return found


def tell(found: Mapping[tuple[str, str], list[list[float]]]) -> None:
    """Print a line for each figure that both trees have."""
    for (name, unit), (this, other) in found.items():
        if len(this) != len(other):
            print(f"{name:44} is measured in one of the trees alone")
            continue
        more_is_better = unit.endswith("/s") and "jobs" in unit
        pairs = zip(this, other, strict=True) if more_is_better else zip(other, this, strict=True)
        ratio = statistics.median(good / base for good, base in pairs if base) if all(this + other) else float("nan")
        print(f"{name:44} {unit:>7} {statistics.median(this):10.4g} {statistics.median(other):10.4g} {ratio:6.2f}")


if __name__ == "__main__":
    main()

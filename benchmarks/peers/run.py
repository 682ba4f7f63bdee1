"""Measures job queues side by side, in turn, and writes docs/benchmarks.md: `python benchmarks/peers/run.py`.

Run it from the project's root, with the project's own Python. The queues are installed below `installed/` the first
time. Results are kept in `results.json`, so that workloads can be measured one after another; `--report` writes the
document anew from what is there.
"""

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import contenders
import psycopg
import report
import workloads
from contenders import Contender, Queue, Runtime
from install import INSTALLED, NODE, install, output, version
from workloads import Size

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.lab.bench.scratch import DURABLE

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PORT = 54871

# A slow queue has ten minutes for its backlog.
PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What is measured of whom, with how many jobs, and in how many rounds."""

    who: Sequence[Contender]
    measure: Callable[[str, Contender, Size], dict[str, float]]
    size: Size
    rounds: int = 5


def drain(jobs: int, *, analyzed: bool = False, **options: Any) -> Workload:
    """Return the drain of a backlog of so many jobs by tuned queues."""
    size = Size(jobs=jobs, longest_s=PATIENCE_S, analyzed=analyzed)
    return Workload(**{"who": contenders.TUNED, "measure": workloads.drain, "size": size, **options})


A_MILLION = {"who": contenders.OF_A_MILLION, "rounds": 2}
WORKLOADS = {
    "drain 20,000": drain(20_000),
    "drain 20,000 analyzed": drain(20_000, analyzed=True),
    "drain 100,000": drain(100_000),
    "drain 100,000 analyzed": drain(100_000, analyzed=True),
    "drain 1,000,000": drain(1_000_000, **A_MILLION),
    "drain 1,000,000 analyzed": drain(1_000_000, analyzed=True, **A_MILLION),
    "drain at defaults": Workload(
        who=contenders.DEFAULTS, measure=workloads.drain, size=Size(jobs=20_000, longest_s=120), rounds=2
    ),
    "latency": Workload(who=contenders.LATENCY, measure=workloads.latency, size=Size(jobs=300, longest_s=120)),
    "enqueue": Workload(who=contenders.DEFAULTS, measure=workloads.enqueue, size=Size(jobs=20_000, longest_s=120)),
    "limit of 4": Workload(
        who=contenders.LIMITED, measure=workloads.limited(4), size=Size(jobs=5_000, longest_s=120), rounds=3
    ),
    "one at a time": Workload(
        who=contenders.ONE_AT_A_TIME, measure=workloads.limited(1), size=Size(jobs=1_000, longest_s=120), rounds=3
    ),
    "pinned": Workload(who=contenders.PINNED, measure=workloads.pinned, size=Size(jobs=300_000, longest_s=PATIENCE_S)),
}


def main() -> None:
    """Install, measure, write."""
    options = arguments()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not options.report:
        wanted = [queue for queue in contenders.QUEUES if not options.only or queue.name in options.only]
        missing = dict(installed(wanted))
        present = [queue for queue in wanted if queue not in missing]
        with server(options.database_url) as url:
            results["machine"] = machine(url, present)
            for name in options.workloads or WORKLOADS:
                results.setdefault("runs", {})[name] = today()
                results[name] = measure(url, name, present, options)
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    if options.bench:
        lines = [line for file in options.bench for line in file.read_text().splitlines()]
        results["bench"] = [json.loads(line) for line in lines if line.startswith("{")]
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    report.write(results)


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", help=f"any of: {'; '.join(WORKLOADS)}. Without one, all")
    parser.add_argument("--only", action="append", metavar="QUEUE", help="measure only this queue; may come often")
    parser.add_argument(
        "--rounds", type=int, help="how often each has its turn, in place of each workload's own number"
    )
    parser.add_argument("--jobs", type=int, help="jobs in a round, in place of each workload's own number")
    parser.add_argument("--database-url", help="a server to measure on, in place of an embedded one: host, port, user")
    parser.add_argument(
        "--bench", action="append", type=Path, metavar="FILE", help="put in the figures of `ayb-jobs bench --json`"
    )
    parser.add_argument("--report", action="store_true", help="only write the document from what was measured")
    options = parser.parse_args()
    if unknown := set(options.workloads) - set(WORKLOADS):
        parser.error(f"no such workload: {', '.join(unknown)}")
    return options


def installed(queues: Sequence[Queue]) -> Iterator[tuple[Queue, str]]:
    """Install the queues; yield those that cannot be, and why."""
    for queue in queues:
        print(f"installing {queue.name}", file=sys.stderr)
        try:
            install(queue)
        except (subprocess.CalledProcessError, SystemExit, OSError) as error:  # such as no npm
            print(f"{queue.name} is left out: {error}", file=sys.stderr)
            yield queue, str(error)


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """Give a server to measure on."""
    if url:
        yield url
        return
    with EmbeddedPostgres.throwaway(tcp_port=PORT, settings=DURABLE):
        yield f"postgresql://postgres@127.0.0.1:{PORT}/postgres"


def measure(url: str, name: str, present: Sequence[Queue], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Give each contender its turn, round by round; return what each round measured."""
    workload = WORKLOADS[name]
    size = replace(workload.size, jobs=options.jobs or workload.size.jobs)
    running = [contender for contender in workload.who if contender.queue in present]
    rounds: dict[Contender, list[dict[str, float]]] = {contender: [] for contender in running}
    errors: dict[Contender, str] = {}
    for number in range(options.rounds or workload.rounds):
        for contender in running:
            if contender in errors:
                continue
            try:
                rounds[contender].append(workload.measure(url, contender, size))
            except (workloads.Failed, psycopg.Error, subprocess.TimeoutExpired) as error:
                errors[contender] = str(error).strip().splitlines()[0]
            said = errors.get(contender) or rounds[contender][-1]
            print(f"{name}, round {number + 1}: {contender.label}: {said}", file=sys.stderr)
    return [
        {
            "queue": contender.queue.name,
            "preset": contender.preset,
            "jobs": int(size.jobs * contender.share),
            "rounds": rounds[contender],
            **({"error": errors[contender]} if contender in errors else {}),
        }
        for contender in running
    ]


def today() -> dict[str, Any]:
    """Return when a workload is measured, and how busy the machine is as it begins."""
    return {"date": dt.datetime.now(dt.UTC).date().isoformat(), "load": round(os.getloadavg()[0], 1)}


def machine(url: str, present: Sequence[Queue]) -> dict[str, Any]:
    """Return what the figures were measured on."""
    with psycopg.connect(url) as conn:
        postgres = conn.execute("SHOW server_version").fetchone()[0]
    nodes = list(INSTALLED.glob("*/node_modules/.bin/node"))
    return {
        "cores": len(os.sched_getaffinity(0)),
        "processor": processor(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "postgres": postgres,
        "python": platform.python_version(),
        "node": output([str(nodes[0]), "--version"]) if nodes else NODE,
        "versions": {queue.name: version(queue) for queue in present if queue.runtime is not Runtime.OURS},
    }


def processor() -> str:
    """Return the processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()

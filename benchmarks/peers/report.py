"""Writes docs/benchmarks.md and its chart from what was measured."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from chart import bars

HERE = Path(__file__).parent
DOCS = HERE.parent.parent / "docs"
Results = Mapping[str, Any]

MEANINGS = {
    "drain": "A backlog just loaded by the queue's own bulk call, never analyzed; one worker process, each queue tuned for"
    " throughput as its own documentation says, ours at its defaults. Jobs a second, from the first handler's start until"
    " the database shows every job finished.",
    "drain at defaults": "The same, every queue at its defaults.",
    "latency": "An idle worker at its defaults (pg-boss tuned: at its defaults it takes one job each poll), a job every"
    " 20 ms: from before the insert, its commit included, to the handler's start.",
    "enqueue": "One connection: one by one, each with its commit, and by the bulk call with 1,000 jobs a call.",
    "pinned": "300,000 jobs, analyzed, while a transaction older than all of them stays open, so that nothing dead can be"
    " removed. Jobs a second in each fifth.",
}

# What `--bench` was given the output of.
BENCHES = """\
    ayb-jobs bench waiting enqueue latency deep reads idle cleanup schedules
    ayb-jobs bench drain --jobs 100000 --rounds 5
    ayb-jobs bench daemons --jobs 100000
    ayb-jobs bench deep --rows 1000000 --jobs 50000 --rounds 1
    ayb-jobs bench deep --rows 10000000 --jobs 100000 --rounds 1
    ayb-jobs bench reads --rows 10000000
    ayb-jobs bench pinned --jobs 1000000 --rounds 1
    ayb-jobs bench cleanup --rows 6000000 --rounds 1
"""


def write(results: Results) -> None:
    """Write the document and the chart."""
    DOCS.mkdir(exist_ok=True)
    text = (HERE / "introduction.md").read_text() + environment(results.get("machine"))
    if "drain" in results:
        (DOCS / "benchmarks.svg").write_text(bars("Drain, jobs a second", drain_rates(results["drain"])))
        text += "\n![Drain, jobs a second](benchmarks.svg)\n"
    for name, meaning in MEANINGS.items():
        if name in results:
            command = f"python benchmarks/peers/run.py '{name}'"
            rounds = max(len(entry["rounds"]) for entry in results[name])
            words = f"{meaning} {rounds} round{'s' * (rounds > 1)}."
            text += f"\n## {name.capitalize()}\n\n{prose(words)}\n\n    {command}\n\n{table(results[name])}"
    if "bench" in results:
        text += bench(results["bench"])
    (DOCS / "benchmarks.md").write_text(text + "\n" + (HERE / "notes.md").read_text())


def prose(text: str) -> str:
    """Return a paragraph, wrapped."""
    return fill(text, 120, break_long_words=False, break_on_hyphens=False)


def environment(machine: Results | None) -> str:
    """Say what the figures were measured on."""
    if not machine:
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    measured = prose(
        f"Measured on {machine['date']}: {machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB;"
        f" PostgreSQL {machine['postgres']} on the same machine, over TCP, as durable as it is by default; Python"
        f" {machine['python']}, Node {machine['node'].lstrip('v')}. Medians of rounds, in each of which every queue"
        f" had its turn. The machine was shared: its load was {machine['load']} when the run began."
    )
    return f"\n{measured}\n\n{versions}.\n"


def table(entries: Sequence[Results]) -> str:
    """Return a table of medians, with each first column's ratio to ours."""
    columns = next(list(entry["rounds"][0]) for entry in entries if entry["rounds"])
    lines = [f"| queue | preset | {' | '.join(columns)} | ours to it |", "| --- " * (len(columns) + 3) + "|"]
    ours = next((entry for entry in entries if entry["queue"] == "ayb-jobs" and entry["rounds"]), None)
    for entry in entries:
        cells = [number(median(entry, column)) for column in columns] if entry["rounds"] else [""] * len(columns)
        ratio = f"{ratio_of(ours, entry, columns[0]):.2f}" if ours and entry["rounds"] else entry.get("error", "")
        lines.append(f"| {entry['queue']} | {entry['preset']} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines) + "\n"


def median(entry: Results, column: str) -> float:
    """Return the median over the rounds."""
    return statistics.median(one[column] for one in entry["rounds"])


def ratio_of(ours: Results, entry: Results, column: str) -> float:
    """Return the median over the rounds of our figure to another's in the same round."""
    pairs = zip(ours["rounds"], entry["rounds"], strict=False)
    return statistics.median(one[column] / max(other[column], 1e-9) for one, other in pairs)


def drain_rates(entries: Sequence[Results]) -> dict[str, float]:
    """Return what the chart shows: the fastest first."""
    rates = {f"{entry['queue']}, {entry['preset']}": median(entry, "jobs/s") for entry in entries if entry["rounds"]}
    return dict(sorted(rates.items(), key=lambda pair: -pair[1]))


def bench(figures: Sequence[Results]) -> str:
    """Return the table of `ayb-jobs bench`."""
    lines = ["| work | figure | value | beside | ratio | of |", "| --- " * 6 + "|"]
    lines += [
        f"| {one['work']} | {one['name']} | {number(one['value'])} {one['unit']} | {number(one['bare'])} | {one['ratio']:.2f} | {one['against']} |"
        for one in figures
    ]
    meaning = "The daemon beside the same SQL with nothing around it, in the same run. The ratio is what survives a slow machine."
    return f"\n## Beside a bare loop\n\n{meaning}\n\n{BENCHES}\n" + "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Return a number with as many digits as mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits

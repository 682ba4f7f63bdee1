"""Writes docs/benchmarks.md and its charts from what was measured."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from chart import bars, number
from words import WORDS

HERE = Path(__file__).parent
DOCS = HERE.parent.parent / "docs"
Results = Mapping[str, Any]

DRAIN = (
    "A backlog{state}; one worker process, each queue tuned for throughput as its own documentation says, ours at its"
    " defaults. Jobs a second, from the first handler's start until the database shows every job finished. Rows read are"
    " what the server read for each job, index entries and dead rows included: a queue that reads more of them, the more"
    " jobs wait, has a plan that walks the backlog."
)
LOADED = " just loaded by the queue's own bulk call, never analyzed"
ANALYZED = " loaded by the queue's own bulk call, then vacuumed and analyzed"
LIMITED = (
    "Jobs of 5 ms that four worker processes drain; {most} may run at once over all of them, by the queue's own means"
    " (ours a limit, pg-boss's the concurrency of a group, PgQueuer's that of an entrypoint): {ideal} a second at most."
    " By the handlers' clocks: how many began although so many ran already, and how many ran at once. None of the"
    " others limits how many jobs start in a time."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """How the document tells of a workload. `charted` is the unit of what its chart shows."""

    title: str
    meaning: str
    charted: str = "jobs/s"


SECTIONS = {
    **{
        f"drain {jobs}{' analyzed' * analyzed}": Section(
            title=f"Drain of {jobs}{', analyzed' * analyzed}",
            meaning=DRAIN.format(state=ANALYZED if analyzed else LOADED),
        )
        for jobs in ("20,000", "100,000", "1,000,000")
        for analyzed in (False, True)
    },
    "drain at defaults": Section(
        title="Drain at defaults", meaning="A backlog just loaded, never analyzed, every queue at its defaults."
    ),
    "latency": Section(
        title="Latency",
        meaning="An idle worker at its defaults (pg-boss tuned: at its defaults it takes one job each poll), a job every"
        " 20 ms: from before the insert, its commit included, to the handler's start.",
        charted="ms",
    ),
    "enqueue": Section(
        title="Enqueue",
        meaning="One connection: one by one, each with its commit, and by the bulk call with 1,000 jobs a call.",
    ),
    "limit of 4": Section(title="A limit of 4", meaning=LIMITED.format(most="four", ideal="800")),
    "one at a time": Section(
        title="One at a time",
        meaning=LIMITED.format(most="one", ideal="200") + " Procrastinate has a lock, which lets one job run.",
    ),
    "pinned": Section(
        title="Pinned",
        meaning="300,000 jobs, analyzed, while a transaction older than all of them stays open, so that nothing dead can"
        " be removed: what PlanetScale describes in [Keeping a Postgres queue"
        " healthy](https://planetscale.com/blog/keeping-a-postgres-queue-healthy). Jobs a second in each fifth. A queue"
        " that looks for its next job from the start of an index walks all that it has finished meanwhile.",
    ),
}
SPEEDS = ("jobs/s", "ms")

# What `--bench` was given the output of.
BENCHES = """\
    ayb-jobs bench waiting enqueue latency deep reads idle cleanup schedules
    ayb-jobs bench drain --jobs 100000 --rounds 5
    ayb-jobs bench daemons --jobs 100000
    ayb-jobs bench queues --jobs 100000 --rows 1000000 --rounds 5
    ayb-jobs bench deep --rows 1000000 --jobs 50000 --rounds 3
    ayb-jobs bench deep --rows 10000000 --jobs 100000 --rounds 3
    ayb-jobs bench reads --rows 10000000
    ayb-jobs bench pinned --jobs 1000000 --rounds 3
    ayb-jobs bench cleanup --rows 6000000 --rounds 3
    ayb-jobs bench retention --rows 10000000 --rounds 1
"""


def write(results: Results) -> None:
    """Write the document and its charts."""
    text = (HERE / "introduction.md").read_text() + environment(results.get("machine"))
    for name, section in SECTIONS.items():
        if name in results:
            text += told(name, section, results[name], results.get("runs", {}).get(name))
    text += their_words()
    if "bench" in results:
        text += bench(results["bench"])
    (DOCS / "benchmarks.md").write_text(text + "\n" + (HERE / "notes.md").read_text())


def told(name: str, section: Section, entries: Sequence[Results], run: Results | None) -> str:
    """Return a section: what was measured, the command, the chart, the table. Writes the chart."""
    rounds = max(len(entry["rounds"]) for entry in entries)
    when = f" on {run['date']}; the machine's load was {run['load']} as they began" if run else ""
    words = prose(f"{section.meaning} {rounds} round{'s' * (rounds > 1)}{when}.")
    text = f"\n## {section.title}\n\n{words}\n"
    text += f"\n    python benchmarks/peers/run.py '{name}'\n"
    values = charted(entries, section.charted)
    if values:
        file = f"benchmarks-{name.replace(' ', '-').replace(',', '')}.svg"
        title = f"{section.title}, {'milliseconds' if section.charted == 'ms' else 'jobs a second'}"
        (DOCS / file).write_text(bars(title, values))
        text += f"\n![{title}]({file})\n"
    return f"{text}\n{table(entries)}"


def prose(text: str) -> str:
    """Return a paragraph, wrapped."""
    return fill(text, 120, break_long_words=False, break_on_hyphens=False)


def environment(machine: Results | None) -> str:
    """Say what the figures were measured on."""
    if not machine:
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    measured = prose(
        f"Measured on {machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB; PostgreSQL"
        f" {machine['postgres']} on the same machine, over TCP, as durable as it is by default; Python"
        f" {machine['python']}, Node {machine['node'].lstrip('v')}. Medians of rounds, in each of which every queue"
        " had its turn, and in brackets the least and the most."
    )
    return f"\n{measured}\n\n{versions}.\n"


def table(entries: Sequence[Results]) -> str:
    """Return a table of medians, with each first column's ratio to ours."""
    columns = next((list(entry["rounds"][0]) for entry in entries if entry["rounds"]), ["jobs/s"])
    lines = [f"| queue | preset | jobs | {' | '.join(columns)} | ours to it |", "| --- " * (len(columns) + 4) + "|"]
    ours = next((entry for entry in entries if entry["queue"] == "ayb-jobs" and entry["rounds"]), None)
    for entry in entries:
        cells = [cell(entry, column) for column in columns] if entry["rounds"] else [""] * len(columns)
        ratio = f"{ratio_of(ours, entry, columns[0]):.2f}" if ours and entry["rounds"] else entry.get("error", "")
        lines.append(f"| {entry['queue']} | {entry['preset']} | {entry['jobs']:,} | {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines) + "\n"


def cell(entry: Results, column: str) -> str:
    """Return the median over the rounds; of a speed, the least and the most as well."""
    values = [one[column] for one in entry["rounds"] if column in one]
    if not values:
        return ""
    middle = number(statistics.median(values))
    if len(values) == 1 or not column.endswith(SPEEDS):
        return middle
    return f"{middle} [{number(min(values))} to {number(max(values))}]"


def median(entry: Results, column: str) -> float:
    """Return the median over the rounds."""
    return statistics.median(one[column] for one in entry["rounds"])


def ratio_of(ours: Results, entry: Results, column: str) -> float:
    """Return the median over the rounds of our figure to another's in the same round."""
    pairs = zip(ours["rounds"], entry["rounds"], strict=False)
    return statistics.median(one[column] / max(other[column], 1e-9) for one, other in pairs)


def charted(entries: Sequence[Results], unit: str) -> dict[str, dict[str, float]]:
    """Return what the chart shows of each queue: its speeds, by column."""
    return {
        f"{entry['queue']}, {entry['preset']}": {
            column.removesuffix(unit).removesuffix(", "): median(entry, column)
            for column in entry["rounds"][0]
            if column.endswith(unit)
        }
        for entry in entries
        if entry["rounds"]
    }


def their_words() -> str:
    """Return the table of what others say of their own speed."""
    lines = ["| queue | says | where and how |", "| --- | --- | --- |"]
    lines += [f"| [{one.queue}]({one.source}) | {one.said} | {one.where} |" for one in WORDS]
    meaning = "Each on a machine and under conditions of its own, so that the figures compare with no other here."
    return f"\n## What others say of their own speed\n\n{meaning}\n\n" + "\n".join(lines) + "\n"


def bench(figures: Sequence[Results]) -> str:
    """Return the table of `ayb-jobs bench`."""
    lines = ["| work | figure | value | beside | ratio | of |", "| --- " * 6 + "|"]
    lines += [
        f"| {one['work']} | {one['name']} | {number(one['value'])} {one['unit']} | {number(one['bare'])} | {one['ratio']:.2f} | {one['against']} |"
        for one in figures
    ]
    meaning = "The daemon beside the same SQL with nothing around it, in the same run. The ratio is what survives a slow machine."
    return f"\n## Beside a bare loop\n\n{meaning}\n\n{BENCHES}\n" + "\n".join(lines) + "\n"

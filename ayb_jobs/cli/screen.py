"""What `top` shows: lines of text for a terminal of a given size, each with how it looks."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import click

from ayb_jobs.checks.finding import Severity
from ayb_jobs.checks.glance import Details, Glance, QueueView
from ayb_jobs.checks.schedules import words_of
from ayb_jobs.checks.verdict import Mood, Verdict
from ayb_jobs.cli.output import GAP, Column, fitted, one_line, widths_that_fit
from ayb_jobs.cli.widths import cut
from ayb_jobs.model.daemons import SeenDaemon
from ayb_jobs.model.words import as_sentence, count_words, counted, span_words

# Rows of one table; below it a line tells how many more there are, and which command lists them.
MOST_ROWS = 12
SENTENCE_LINES = 3
BARS = "▁▂▃▄▅▆▇█"
STYLES: Mapping[str, Mapping[str, Any]] = {
    "": {},
    "title": {"bold": True},
    "soft": {"dim": True},
    "good": {"fg": "green"},
    "warn": {"fg": "yellow"},
    "bad": {"fg": "red"},
}
MOODS = {Mood.WELL: "good", Mood.READY: "good", Mood.NEEDED: "warn", Mood.UNKNOWN: "bad"}


class Line(NamedTuple):
    """A line of the screen, with the name of its style."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A terminal's size."""

    columns: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The lines of a screen, the first of the body that it shows, and the last that may be the first."""

    lines: Sequence[Line]
    first: int
    last_first: int
    page: int


def draw(seen: Glance, size: Size, *, first: int = 0, fault: str = "", held: bool = False) -> Drawn:
    """Return the screen. If the last look failed with a `fault`, say so, and of when the rest is."""
    top, body = head(seen, size.columns, fault), sections(seen, size.columns)
    page = max(0, size.rows - len(top) - 1)
    last_first = max(0, len(body) - page)
    first = max(0, min(first, last_first))
    below = len(body) - first - page
    lines = [*top, *body[first : first + page]][: size.rows - 1]
    lines += [Line("")] * (size.rows - 1 - len(lines))
    lines.append(foot(seen, below, held=held))
    return Drawn(lines=cut_to(lines, size.columns), first=first, last_first=last_first, page=page)


def whole(seen: Glance, columns: int) -> Sequence[Line]:
    """Return all lines, however many, without the keys."""
    return cut_to([*head(seen, columns, ""), *sections(seen, columns)], columns)


def cut_to(lines: Sequence[Line], columns: int) -> Sequence[Line]:
    """Return lines that are no wider than the terminal, without control characters."""
    return [Line(cut(one_line(line.text), columns).rstrip(), line.style) for line in lines]


def painted(line: Line, *, colour: bool) -> str:
    """Return a line as a terminal gets it."""
    return click.style(line.text, **STYLES[line.style]) if colour and line.style and line.text else line.text


def head(seen: Glance, columns: int, fault: str) -> list[Line]:
    """Return the sentence, what to do if something is wrong, and the figures."""
    verdict = seen.verdict
    if fault:
        lines = wrapped(f"{as_sentence(fault)} It is asked again and again.", columns, "bad")
        lines.append(Line(f"At {clock(seen.at)} it was: {verdict.sentence}", "soft"))
    else:
        lines = wrapped(verdict.sentence, columns, mood_style(verdict))
        if verdict.findings:
            lines += wrapped(f"Do: {verdict.findings[0].remedy}", columns)
    told = wrapped(figures(seen.verdict, seen.details), columns) if seen.details else []
    return [*lines, Line(""), *told]


def wrapped(text: str, columns: int, style: str = "") -> list[Line]:
    """Return a text in up to three lines."""
    parts = textwrap.wrap(one_line(text), max(1, columns), max_lines=SENTENCE_LINES, placeholder="…")
    return [Line(part, style) for part in parts]


def mood_style(verdict: Verdict) -> str:
    """Return how the sentence looks."""
    grave = any(each.severity is Severity.FAILING for each in verdict.findings)
    return "bad" if grave else MOODS[verdict.mood]


def figures(verdict: Verdict, details: Details) -> str:
    """Return the four figures of the dashboard's first page, in a line."""
    counts, measured = details.counts, verdict.figures
    failed = sum(each.jobs for each in details.failures)
    later = f" (later {counted(counts.later)})" if counts.later else ""
    slots = f" of {measured.slots:,}" if measured else ""
    oldest = span_words(measured.level.oldest_wait_s) if measured and counts.waiting else "–"
    return (
        f"Waiting {counted(counts.waiting)}{later} · running {counted(counts.running)}{slots} · "
        f"failed in the hour {failed:,} · oldest wait {oldest}"
    )


def foot(seen: Glance, below: int, *, held: bool) -> Line:
    """Return the last line: the time of what is shown, whether there is more below, and the keys."""
    still = "HELD STILL, " if held else ""
    more = f" · {count_words(below, 'more line')} below" if below > 0 else ""
    keys = f"q quits · p {'goes on' if held else 'holds still'} · j k scroll"
    return Line(f"{still}{clock(seen.at)}{more} · {keys}", "soft")


def clock(at: datetime) -> str:
    """Return a time of the day."""
    return f"{at.astimezone(UTC):%T} UTC"


def sections(seen: Glance, columns: int) -> list[Line]:
    """Return what stands below the head, each section with its title."""
    return [
        *findings(seen.verdict, columns),
        *(details_of(seen.details, seen.at, columns) if seen.details else []),
    ]


def findings(verdict: Verdict, columns: int) -> list[Line]:
    """Return what else was found, each with what to do."""
    lines: list[Line] = []
    for each in verdict.findings[1:]:
        style = "bad" if each.severity is Severity.FAILING else "warn"
        lines += wrapped(f"! {as_sentence(each.told)}", columns, style)
        lines += wrapped(f"  Do: {each.remedy}", columns)
    return lines


def details_of(details: Details, at: datetime, columns: int) -> list[Line]:
    """Return rates and tables."""
    return [
        *rates(details),
        *queues(details, columns),
        *daemons(details, columns),
        *running(details, columns),
        *failures(details, at, columns),
        *schedules(details, at, columns),
    ]


def rates(details: Details) -> list[Line]:
    """Return what ended in the last full minute, and the completed jobs of each before it."""
    last = details.minutes[-1]
    ended = f"{last.completed:,} completed, {last.failed:,} failed, {last.retried:,} tried again"
    return [Line(f"Last minute: {ended}  {bars([each.completed for each in details.minutes])}")]


def bars(values: Sequence[int]) -> str:
    """Return figures as bars as high as the letters of a line; a point for none."""
    most = max(values, default=0)
    return "".join(BARS[min(len(BARS) - 1, value * len(BARS) // most)] if value else "·" for value in values)


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], styles: Sequence[str], room: int, *, more: str
) -> list[Line]:
    """Return a table below an empty line, as wide as there is room for; nothing if it has no row."""
    if not rows:
        return []
    shown = [[one_line(cell) for cell in row] for row in rows[:MOST_ROWS]]
    widths = widths_that_fit(columns, shown, room)
    titles = GAP.join(fitted(columns[index].title, width, columns[index]) for index, width in widths.items())
    lines = [Line(""), Line(titles, "title")]
    for row, style in zip(shown, styles, strict=False):
        lines.append(
            Line(GAP.join(fitted(row[index], width, columns[index]) for index, width in widths.items()), style)
        )
    if len(rows) > len(shown):
        lines.append(Line(f"… {len(rows) - len(shown)} more: {more}", "soft"))
    return lines


def queues(details: Details, room: int) -> list[Line]:
    """Return the queues, those first that need somebody."""
    order = {"late": 0, "unknown": 1, "paused": 2, "alive": 3}
    found = sorted(details.queues, key=lambda each: (order[each.kind], -each.state.waiting, each.state.queue))
    columns = [
        Column(title="QUEUE", key=True, flexible=True),
        Column(title="STATE", key=True),
        Column(title="WAITING", right=True),
        Column(title="OLDEST", right=True),
        Column(title="RUNNING", right=True),
        Column(title="SLOTS", right=True),
        Column(title="DAEMONS", right=True),
    ]
    return table(
        columns,
        [queue_row(each) for each in found],
        ["" if each.kind == "alive" else "warn" for each in found],
        room,
        more="ayb-jobs queues list",
    )


def queue_row(view: QueueView) -> list[str]:
    """Return a queue's row."""
    state = view.state
    oldest = "–" if state.oldest_wait_s is None else span_words(state.oldest_wait_s)
    return [
        state.queue, view.word, counted(state.waiting), oldest, counted(state.running), f"{view.slots:,}",
        f"{view.daemons:,}",
    ]  # fmt: skip


def daemons(details: Details, room: int) -> list[Line]:
    """Return the daemons that are alive, with their slots."""
    columns = [
        Column(title="DAEMON", key=True, flexible=True),
        Column(title="STATE", key=True),
        Column(title="BUSY", key=True, right=True),
        Column(title="HEARD OF", right=True),
        Column(title="UP", right=True),
        Column(title="SERVES", flexible=True),
    ]
    rows = [daemon_row(each) for each in details.daemons]
    styles = ["warn" if each.drain_requested_at else "" for each in details.daemons]
    return table(columns, rows, styles, room, more="see the dashboard's page of daemons")


def daemon_row(seen: SeenDaemon) -> list[str]:
    """Return a daemon's row."""
    daemon = seen.daemon
    return [
        f"{daemon.host} {daemon.pid}",
        "drains" if seen.drain_requested_at else "alive",
        f"{len(seen.running):,} of {daemon.concurrency:,}",
        f"{span_words(seen.silent_s)} ago",
        span_words((seen.heartbeat_at - seen.started_at).total_seconds()),
        ", ".join(daemon.queues),
    ]


def running(details: Details, room: int) -> list[Line]:
    """Return the jobs that run, those that have run longest first."""
    columns = [
        Column(title="RUNNING", key=True, flexible=True),
        Column(title="FOR", key=True, right=True),
        Column(title="JOB"),
    ]
    rows = [[each.type, "–" if each.ran_s is None else span_words(each.ran_s), each.id] for each in details.running]
    return table(columns, rows, [""] * len(rows), room, more="ayb-jobs jobs list --state running")


def failures(details: Details, at: datetime, room: int) -> list[Line]:
    """Return what failed within the hour, grouped by type and error."""
    columns = [
        Column(title="FAILED", key=True, flexible=True),
        Column(title="JOBS", key=True, right=True),
        Column(title="LAST", right=True),
        Column(title="ERROR", flexible=True),
    ]
    rows = [
        [each.type, f"{each.jobs:,}", f"{span_words((at - each.last_at).total_seconds())} ago", each.error]
        for each in details.failures
    ]
    return table(columns, rows, ["bad"] * len(rows), room, more="ayb-jobs jobs list --state failed")


def schedules(details: Details, at: datetime, room: int) -> list[Line]:
    """Return the schedules that are overdue, then those that fire next."""
    columns = [
        Column(title="SCHEDULE", key=True, flexible=True),
        Column(title="FIRES", key=True, right=True),
        Column(title="WHAT", flexible=True),
    ]
    rows = [[each.name, "overdue", as_sentence(words_of(each, at))] for each in details.overdue]
    coming = [
        [each.name, f"in {span_words((each.next_run_at - at).total_seconds())}", each.job_type]
        for each in details.coming
        if each.name not in {late.name for late in details.overdue}
    ]
    styles = ["warn"] * len(rows) + [""] * len(coming)
    return table(columns, [*rows, *coming], styles, room, more="ayb-jobs schedules list")

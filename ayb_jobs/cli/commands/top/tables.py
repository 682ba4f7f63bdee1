"""The tables of `top`. Rows that can be acted on say what they are."""

from collections.abc import Sequence
from datetime import datetime
from itertools import zip_longest

from ayb_jobs.checks.glance import MOST, Details, QueueView
from ayb_jobs.cli.commands.top.lines import Failures, Line, Queue, Running, Target
from ayb_jobs.cli.output import GAP, Column, fitted, one_line, widths_that_fit
from ayb_jobs.model.daemons import SeenDaemon
from ayb_jobs.model.words import as_sentence, counted, span_words

# Rows of one table; below it a line tells how many more there are, and which command lists them.
MOST_ROWS = 12
BARS = "▁▂▃▄▅▆▇█"


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
    return [Line(f"Last full minute: {ended}  {bars([each.completed for each in details.minutes])}")]


def bars(values: Sequence[int]) -> str:
    """Return figures as bars as high as the letters of a line; a point for none."""
    most = max(values, default=0)
    return "".join(BARS[min(len(BARS) - 1, value * len(BARS) // most)] if value else "·" for value in values)


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    styles: Sequence[str],
    room: int,
    *,
    more: str,
    targets: Sequence[Target] = (),
    cut: bool = False,
) -> list[Line]:
    """Return a table below an empty line, as wide as there is room for; nothing if it has no row.

    If it is `cut`, there are more rows than were read.
    """
    if not rows:
        return []
    shown = [[one_line(cell) for cell in row] for row in rows[:MOST_ROWS]]
    widths = widths_that_fit(columns, shown, room)
    titles = GAP.join(fitted(columns[index].title, width, columns[index]) for index, width in widths.items())
    lines = [Line(""), Line(titles, "title")]
    for row, style, target in zip_longest(shown, styles[: len(shown)], targets[: len(shown)]):
        text = GAP.join(fitted(row[index], width, columns[index]) for index, width in widths.items())
        lines.append(Line(text, style, target))
    if len(rows) > len(shown):
        least = "at least " if cut else ""
        lines.append(Line(f"… {least}{len(rows) - len(shown)} more: {more}", "soft"))
    return lines


def queues(details: Details, room: int) -> list[Line]:
    """Return the queues, those first that need somebody."""
    order = {"late": 0, "unknown": 1, "paused": 2, "alive": 3}
    found = sorted(details.queues.first, key=lambda each: (order[each.kind], -each.state.waiting, each.state.queue))
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
        targets=[Queue(each.state.queue, each.pause is not None) for each in found],
        cut=details.queues.more,
    )


def queue_row(view: QueueView) -> list[str]:
    """Return a queue's row."""
    state = view.state
    oldest = "–" if state.oldest_wait_s is None else span_words(state.oldest_wait_s)
    return [
        state.queue, view.word, counted(state.waiting), oldest, counted(state.running, cut=state.cut), f"{view.slots:,}",
        f"{view.daemons:,}",
    ]  # fmt: skip


def daemons(details: Details, room: int) -> list[Line]:
    """Return the daemons that were heard of within a minute, with their slots."""
    columns = [
        Column(title="DAEMON", key=True, flexible=True),
        Column(title="STATE", key=True),
        Column(title="BUSY", key=True, right=True),
        Column(title="HEARD OF", right=True),
        Column(title="UP", right=True),
        Column(title="SERVES", flexible=True),
    ]
    words = [daemon_word(each, details) for each in details.daemons]
    rows = [daemon_row(each, word) for each, word in zip(details.daemons, words, strict=True)]
    styles = [{"gone": "bad", "stuck": "bad", "drains": "warn", "alive": ""}[word] for word in words]
    return table(columns, rows, styles, room, more="see the dashboard's page of daemons")


def daemon_word(seen: SeenDaemon, details: Details) -> str:
    """Return how a daemon stands, in a word."""
    if seen.daemon.id in details.gone:
        return "gone"
    return "stuck" if seen.stuck_loops else "drains" if seen.drain_requested_at else "alive"


def daemon_row(seen: SeenDaemon, word: str) -> list[str]:
    """Return a daemon's row, with how it stands."""
    daemon = seen.daemon
    return [
        f"{daemon.host} {daemon.pid}",
        word,
        f"{counted(len(seen.running), most=None, cut=seen.cut)} of {daemon.slots:,}",
        f"{span_words(seen.silent_s)} ago",
        span_words(seen.up_s),
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
    targets = [Running(each.id, each.type) for each in details.running]
    return table(
        columns, rows, [""] * len(rows), room, more="ayb-jobs jobs list --state running", targets=targets,
        cut=len(rows) >= MOST,
    )  # fmt: skip


def failures(details: Details, at: datetime, room: int) -> list[Line]:
    """Return what failed within the hour, grouped by type and error."""
    columns = [
        Column(title="FAILED", key=True, flexible=True),
        Column(title="JOBS", key=True, right=True),
        Column(title="LAST", right=True),
        Column(title="ERROR", flexible=True),
    ]
    rows = [
        [
            each.type,
            counted(each.jobs, most=None, cut=details.failures.cut),
            f"{span_words((at - each.last_at).total_seconds())} ago",
            each.error,
        ]
        for each in details.failures.groups
    ]
    targets = [Failures(each.type, each.error) for each in details.failures.groups]
    return table(
        columns, rows, ["bad"] * len(rows), room, more="ayb-jobs jobs list --state failed", targets=targets,
        cut=details.failures.cut or details.failures.group_count > len(rows),
    )  # fmt: skip


def schedules(details: Details, at: datetime, room: int) -> list[Line]:
    """Return the schedules that are overdue, then those that fire next."""
    columns = [
        Column(title="SCHEDULE", key=True, flexible=True),
        Column(title="FIRES", key=True, right=True),
        Column(title="WHAT", flexible=True),
    ]
    rows = [[each.name, "overdue", as_sentence(each.told)] for each in details.overdue]
    coming = [
        [each.name, f"in {span_words((each.next_run_at - at).total_seconds())}", each.job_type]
        for each in details.coming
        if each.name not in {late.name for late in details.overdue}
    ]
    styles = ["warn"] * len(rows) + [""] * len(coming)
    cut = MOST in (len(details.overdue), len(details.coming))
    return table(columns, [*rows, *coming], styles, room, more="ayb-jobs schedules list", cut=cut)

"""Whether jobs run in time, and end well."""

import shlex
from datetime import timedelta

from ayb_jobs.checks.finding import Finding, Severity
from ayb_jobs.model.pauses import resume_command
from ayb_jobs.model.waiting import all_slots
from ayb_jobs.model.words import count_words, one_line, quoted, span_words
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.failing import list_failing, list_retrying
from ayb_jobs.storage.queue.held import MOST_HELD, list_held
from ayb_jobs.storage.queue.lateness import MOST_PAUSES, count_abandoned, find_longest, list_paused_jobs
from ayb_jobs.storage.queue.minutes import Level

# A job that a daemon could run and that has been due for so long is late.
LATE_S = 60.0
HOUR = timedelta(hours=1)
WHILE = timedelta(minutes=10)
# So many jobs of a type that failed in an hour are worth a look, if they are more than a tenth of what ended.
MANY_FAILED = 5
TENTH = 9


def late(conn: Connection, level: Level, *, counted: int) -> Finding | None:
    """Find that due jobs wait for over a minute although a live daemon knows their type and serves their queue."""
    longest = find_longest(conn) if level.waiting else None
    if longest is None or longest.waited_s < LATE_S:
        return None
    queue = quoted(longest.queue)
    if longest.busy >= longest.slots:
        serving = f"that serves queue {queue}" if longest.slots == 1 else f"that serve queue {queue}"
        cause = f"{all_slots(longest.slots, longest.kind, serving)} busy"
    else:
        cause = f"{longest.busy:,} of the {longest.slots:,} slots that serve queue {queue} are busy"
    are = "is" if level.waiting == 1 else "are"
    due = count_words(level.waiting, "job", most=counted, cut=level.cut)
    return Finding(
        name="jobs.late",
        severity=Severity.WARNING,
        fact=f"jobs wait {span_words(longest.waited_s)} although a daemon could run them; {due} {are} due",
        named=f"{quoted(longest.type)} jobs wait {span_words(longest.waited_s)}: {cause}; {due} {are} due",
        meaning="They run as slots become free, the first by priority and by when they were due.",
        remedy="ayb-jobs why",
        evidence={**longest._asdict(), "due": level.waiting, "atLeast": level.cut or level.waiting >= counted},
    )


def paused(conn: Connection) -> Finding | None:
    """Find that due jobs have waited over a minute for the end of a pause."""
    waiting = [each for each in list_paused_jobs(conn) if each.waited_s >= LATE_S]
    if not waiting:
        return None
    first = waiting[0]
    what = first.kind
    jobs = count_words(first.jobs, "due job waits", "due jobs wait", cut=first.cut)
    others = (
        f", and {count_words(len(waiting) - 1, 'other pause', most=MOST_PAUSES - 1, cut=first.cut)} with due jobs"
        if len(waiting) > 1
        else ""
    )
    said = f" ({one_line(first.reason)})" if first.reason else ""
    return Finding(
        name="jobs.paused",
        severity=Severity.WARNING,
        fact=f"a {what} has been paused for {span_words(first.since_s)}; {jobs} for its end{others}",
        named=f"{what} {quoted(first.name)} has been paused for {span_words(first.since_s)} by "
        f"{one_line(first.paused_by)}{said}; {jobs} for its end{others}",
        meaning="They are not late: somebody wants them to wait. Nothing of what is paused starts.",
        remedy=resume_command(what, first.name),
        evidence={"pauses": [each._asdict() for each in waiting]},
    )


def held(conn: Connection) -> Finding | None:
    """Find that a limit is full of jobs that have run for over a minute, while others have waited for as long."""
    found = list_held(conn, since_s=LATE_S)
    if not found:
        return None
    first = found[0]
    what = (
        f"limit {quoted(first.name)}" if first.key is None else f"key {quoted(first.key)} of limit {quoted(first.name)}"
    )
    full = f"is at {first.running:,} of {first.most:,}, and none of these started within {span_words(LATE_S)}"
    wait = count_words(first.waiting, "due job waits", "due jobs wait", most=10_000)
    behind = f"{wait} behind it, the first for {span_words(first.waited_s)}"
    others = (
        f"; {count_words(len(found) - 1, 'other is', 'others are', most=MOST_HELD - 1)} as full"
        if len(found) > 1
        else ""
    )
    return Finding(
        name="jobs.limited",
        severity=Severity.WARNING,
        fact=f"a limit {full}; {behind}{others}",
        named=f"{what} {full}; {behind}{others}",
        meaning="A job starts there when one of those that run has ended.",
        remedy="ayb-jobs limits list, and: ayb-jobs jobs list --state running",
        evidence={"limits": [each._asdict() for each in found]},
    )


def failing(conn: Connection) -> Finding | None:
    """Find a type of which at least 5 jobs failed within the hour and are failed still, a tenth of what ended."""
    many = [each for each in list_failing(conn, span=HOUR) if each.failed >= max(MANY_FAILED, each.completed / TENTH)]
    if not many:
        return None
    worst = many[0]
    others = f", and jobs of {count_words(len(many) - 1, 'other type', cut=worst.cut)}" if len(many) > 1 else ""
    completed = f"{worst.completed:,}" if worst.completed else "none"
    return Finding(
        name="jobs.failing",
        severity=Severity.WARNING,
        fact=f"{count_words(worst.failed, 'job', cut=worst.cut)} of one type failed in the last hour, while {completed} completed{others}",
        named=f"{count_words(worst.failed, f'{quoted(worst.type)} job', cut=worst.cut)} failed in the last hour, while "
        f"{completed} completed{others}",
        meaning="They have used up their attempts. Nothing runs them again by itself.",
        remedy=f"ayb-jobs jobs list --state failed --type {shlex.quote(worst.type)}",
        evidence={"type": worst.type, "byType": {each.type: each.failed for each in many}},
    )


def retrying(conn: Connection) -> Finding | None:
    """Find a type of which no attempt completed for some minutes, and at least 5 failed that are made again."""
    found = list_retrying(conn, span=WHILE, many=MANY_FAILED)
    if not found:
        return None
    worst = found[0]
    others = f", and those of {count_words(len(found) - 1, 'other type')}" if found[1:] else ""
    minutes = span_words(WHILE.total_seconds())
    return Finding(
        name="jobs.retrying",
        severity=Severity.WARNING,
        fact=f"all {worst.attempts:,} attempts at jobs of one type failed in the last {minutes}{others}",
        named=f"all {worst.attempts:,} attempts at {quoted(worst.type)} jobs failed in the last {minutes}{others}",
        meaning="They are made again, later each time, until none is left.",
        remedy=f"ayb-jobs why, or: ayb-jobs jobs list --type {shlex.quote(worst.type)}",
        evidence={"type": worst.type, "byType": {each.type: each.attempts for each in found}},
    )


def abandoned(conn: Connection) -> Finding | None:
    """Find running jobs that have lost their daemon, and that no other has taken over."""
    found = count_abandoned(conn)
    if not found.jobs:
        return None
    has, its, it = ("has", "its", "it") if found.jobs == 1 else ("have", "their", "them")
    return Finding(
        name="jobs.abandoned",
        severity=Severity.WARNING,
        fact=f"{count_words(found.jobs, 'running job', most=10_000)} {has} lost {its} daemon, and no daemon has taken {it} over for "
        f"{span_words(found.since_s)}",
        meaning="A daemon that is alive takes them over within 2 s, so that none works, or somebody holds their rows.",
        remedy="Look for `loop.failed` of the recoverer in the daemons' logs, and for locks on the rows.",
        evidence=found._asdict(),
    )

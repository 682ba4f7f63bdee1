"""The words of `migrate --plan` and `--adopt-check`."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from ayb_jobs.storage.preflight import Locked, Preflight, Rows

MANY = 10


class Matter(NamedTuple):
    """A sentence about the rows; `decide` tells that an operator has to decide something before a daemon starts."""

    words: str
    decide: bool


def plan_lines(plan: Preflight) -> Iterator[str]:
    """Yield what `migrate` would do to the database."""
    if not plan.migrations:
        yield "Nothing to do: the schema is up to date."
        return
    for migration in plan.migrations:
        yield f"would apply {migration.name}"
    for kind, names in plan.made.items():
        if names:
            yield f"It makes {_counted(len(names), kind)}: {_listed(names)}."
    yield from (_lock_line(locked) for locked in plan.locked)
    yield "All of it is one transaction: either the whole, or nothing. Locks are waited for in turns of two seconds."


def _lock_line(locked: Locked) -> str:
    changes = [_counted(len(locked.columns), "column")] if locked.columns else []
    changes += [_counted(locked.indexes, "index")] if locked.indexes else []
    about = f"about {locked.rows:,} rows, {math.ceil(locked.size / 2**20):,} MB"
    return (
        f"{locked.table} ({about}) gets {' and '.join(changes) or 'other defaults'}; nobody else can use it meanwhile,"
        f" for {math.ceil(locked.seconds)} s or less."
    )


def matters(rows: Rows, known: Collection[str], retention_h: Mapping[str, int], *, adopted: bool) -> Iterator[Matter]:
    """Yield what the rows will mean to a daemon that knows these job types."""
    if rows.leased:
        yield Matter(
            f"jobs that run under a lease that lives: {rows.leased}. Another runner is at work: stop it first, AYB's own"
            " with jobs.enabled = false.",
            decide=True,
        )
    if rows.expired:
        yield Matter(f"jobs left running whose lease is over: {rows.expired}. They will run again.", decide=False)
    if rows.due:
        yield Matter(f"jobs due now: {rows.due}. They start as soon as a daemon does.", decide=False)
    for name, count in rows.unknown(known).items():
        users = sorted(schedule for schedule, job_type in rows.schedules.items() if job_type == name)
        by = f"; schedules that make more: {_listed(users)}" if users else ""
        yield Matter(
            f"the job type {name} is not known here (waiting jobs: {count}{by}). Add a handler, or cancel and disable them.",
            decide=True,
        )
    for schedule, fault in rows.unread.items():
        yield Matter(
            f"the schedule {schedule} cannot be read and will not fire: {fault}. Edit or disable it.", decide=True
        )
    for state, count in rows.old.items():
        notice = " after a day's notice" if adopted else ""
        yield Matter(
            f"{state} jobs that ended more than {retention_h[state]} h ago: {count}. Retention removes them{notice}:"
            f" set retention.{state}_h to decide (-1 keeps them).",
            decide=adopted,
        )


def _counted(number: int, kind: str) -> str:
    return f"{number} {kind if number == 1 else {'index': 'indexes'}.get(kind, f'{kind}s')}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return ", ".join(names[:MANY]) + more

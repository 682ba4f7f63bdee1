"""What the database refuses: endings of jobs that it does not store, and rows that it does not change."""

from collections.abc import Mapping

from ayb_jobs.checks.database import disk_full
from ayb_jobs.checks.finding import Finding, Severity
from ayb_jobs.model.daemons import ENDINGS
from ayb_jobs.model.refusals import Refusals
from ayb_jobs.model.waiting import first_line
from ayb_jobs.model.words import one_line

# Of fewer jobs nobody can tell whether the database refuses them or everything.
MANY = 3


def refused(told: Refusals, *, ended: int) -> Finding | None:
    """Find what live daemons have set aside.

    It is grave if it is endings, and nothing `ended` within a minute, or if a disk is full.
    """
    if not told.tables:
        return None
    if told.no_room:
        return disk_full(f"it refuses {told.words}")
    nothing_ends = len(told.tables.get(ENDINGS, ())) >= MANY and not ended
    fact = f"{'no job ends: ' if nothing_ends else ''}the database refuses {told.words}"
    return Finding(
        name="rows.refused",
        severity=Severity.FAILING if nothing_ends else Severity.WARNING,
        fact=fact,
        named=f"{fact}: {one_line(first_line(told.first_error))}",
        meaning="A daemon keeps what it has to write, and tries again after a minute at most. "
        "A job whose ending is not stored goes on counting as running.",
        remedy="See to what the database says, such as a trigger, a right or a full disk; "
        "settlement.refused and row.set_aside in the log name the rows.",
        evidence={
            "rows": {table: len(rows) for table, rows in told.tables.items()},
            "atLeast": bool(told.cut),
            "first": _first(told.tables),
        },
    )


def _first(tables: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    """Return one row of each table, with the error."""
    return {f"{table} {row_id}": error for table, rows in tables.items() for row_id, error in list(rows.items())[:1]}

"""What the database refuses: endings of jobs that it does not store, and rows that it does not change."""

from collections.abc import Iterable, Mapping, Sequence

from ayb_jobs.checks.database import disk_full
from ayb_jobs.checks.finding import Finding, Severity
from ayb_jobs.model.daemons import ENDINGS, MOST_ASIDE, OLD_ROWS
from ayb_jobs.model.waiting import first_line
from ayb_jobs.model.words import count_words, one_line
from ayb_jobs.storage.faults import NO_ROOM
from ayb_jobs.storage.fleet.lifelines import HeardDaemon

# Of fewer jobs nobody can tell whether the database refuses them or everything.
MANY = 3
# What the database refuses, by what the daemon's row tells of.
WORDS = {
    ENDINGS: "to store how {} ended",
    OLD_ROWS: "to remove what is old of {}",
    "_ayb_job_executions": "to log attempts of {}",
}
NOUNS = {
    ENDINGS: ("job", "jobs"),
    OLD_ROWS: ("table", "tables"),
    "_ayb_job_executions": ("job", "jobs"),
    "_ayb_jobs": ("job", "jobs"),
    "_ayb_job_schedules": ("schedule", "schedules"),
    "_ayb_job_batches": ("batch", "batches"),
    "_ayb_job_workers": ("daemon's row", "daemons' rows"),
    "_ayb_job_alert_deliveries": ("alert's delivery", "alerts' deliveries"),
    "_ayb_job_minutes": ("type's figures", "types' figures"),
}


def refused(fleet: Sequence[HeardDaemon], *, ended: int) -> Finding | None:
    """Find what live daemons have set aside.

    It is grave if it is endings, and nothing `ended` within a minute, or if a disk is full.
    """
    tables = _tables(fleet)
    if not tables:
        return None
    if any(NO_ROOM in error for rows in tables.values() for error in rows.values()):
        return disk_full(f"it refuses {_what(tables)}")
    endings = tables.get(ENDINGS, {})
    error = next(iter((endings or next(iter(tables.values()))).values()))
    nothing_ends = len(endings) >= MANY and not ended
    fact = f"{'no job ends: ' if nothing_ends else ''}the database refuses {_what(tables)}"
    return Finding(
        name="rows.refused",
        severity=Severity.FAILING if nothing_ends else Severity.WARNING,
        fact=fact,
        named=f"{fact}: {one_line(first_line(error))}",
        meaning="A daemon keeps what it has to write, and tries again after a minute at most. "
        "A job whose ending is not stored goes on counting as running.",
        remedy="See to what the database says, such as a trigger, a right or a full disk; "
        "settlement.refused and row.set_aside in the log name the rows.",
        evidence={"rows": {table: len(rows) for table, rows in tables.items()}, "first": _first(tables)},
    )


def _what(tables: Mapping[str, Mapping[str, str]]) -> str:
    """Say what is refused, as `to store how 2 jobs ended, and to change 1 schedule`."""
    ordered = sorted(tables, key=lambda table: table not in WORDS)
    return ", and ".join(WORDS.get(table, "to change {}").format(_count(table, tables[table])) for table in ordered)


def _count(table: str, rows: Mapping[str, str]) -> str:
    return count_words(len(rows), *NOUNS.get(table, ("row", "rows")), most=MOST_ASIDE)


def _first(tables: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    """Return one row of each table, with the error."""
    return {f"{table} {row_id}": error for table, rows in tables.items() for row_id, error in list(rows.items())[:1]}


def _tables(fleet: Iterable[HeardDaemon]) -> dict[str, dict[str, str]]:
    """Return the rows that daemons tell of, by table."""
    tables: dict[str, dict[str, str]] = {}
    for daemon in fleet:
        for table, rows in daemon.aside.items():
            tables.setdefault(table, {}).update(rows)
    return tables

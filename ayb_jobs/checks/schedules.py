"""Whether the schedules do what is expected of them."""

from collections.abc import Sequence
from datetime import datetime

from ayb_jobs.checks.finding import Finding, Severity
from ayb_jobs.model.words import count_words, quoted, span_words
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.schedules.overdue import Overdue, list_overdue

# Overdue schedules are counted up to here.
MOST = 10_000


def overdue(conn: Connection) -> Finding | None:
    """Find schedules that are overdue: broken, without a success in time, or not fired."""
    late = list_overdue(conn, limit=MOST)
    if not late:
        return None
    return Finding(
        name="schedules.overdue",
        severity=Severity.WARNING,
        fact=f"{count_words(len(late), 'schedule', most=MOST)} did not do what is expected of {'it' if len(late) == 1 else 'them'}",
        named=_named(late, now(conn)),
        meaning="Their work was not done in time.",
        remedy="ayb-jobs schedules overdue",
        evidence={"count": len(late), "byName": {each.name: each.reason for each in late[:100]}},
    )


def _named(late: Sequence[Overdue], at: datetime) -> str:
    what = words_of(late[0], at)
    if len(late) == 1:
        return what
    return f"{count_words(len(late), 'schedule', most=MOST)} did not do what is expected of them; {what}"


def words_of(late: Overdue, at: datetime) -> str:
    """Return what a schedule did not do, as of `at`; without an instant, since each reader has a zone of their own."""
    name = quoted(late.name)
    match late.reason:
        case "broken":
            return f"{name} cannot fire"
        case "unserved":
            return f"{name} has a job that no live daemon can run"
        case "no_success":
            within = span_words(late.expect_success_within_s or 0)
            if late.last_success_at is None:
                return f"{name} has never succeeded; it is expected within {within}"
            silent = span_words((at - late.last_success_at).total_seconds())
            return f"{name} has not succeeded for {silent}; it is expected within {within}"
        case "not_fired":
            return f"{name} is due, and no scheduler has fired it"
        case "too_late":
            return f"{name} is to fire later than its expression says"

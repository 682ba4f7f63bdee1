"""What retention is about to remove."""

from ayb_jobs.checks.finding import Finding, Severity
from ayb_jobs.config import Retention
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.retention import deferred_retention


def deferred(conn: Connection, retention: Retention) -> list[Finding]:
    """Find jobs that were there before the database was adopted, and that will be removed once a day is over."""
    return [
        Finding(
            name="retention.deferred",
            severity=Severity.WARNING,
            fact=each.words,
            meaning="They were there before this database was adopted, so that they are left alone for a day.",
            remedy=f"set retention.{each.state}_h",
            evidence={"state": str(each.state), "keptHours": each.hours, "beginsInSec": round(each.begins_in_s)},
        )
        for each in deferred_retention(conn, retention)
    ]

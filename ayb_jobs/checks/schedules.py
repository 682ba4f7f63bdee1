"""Whether the schedules do what is expected of them."""

from ayb_jobs.checks.finding import Finding, Severity
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.schedules.overdue import count_overdue


def overdue(conn: Connection) -> Finding | None:
    """Find schedules that are overdue: broken, without a success in time, or not fired."""
    count = count_overdue(conn)
    if not count:
        return None
    return Finding(
        name="schedules.overdue",
        severity=Severity.WARNING,
        fact=f"{count:,} schedules did not do what is expected of them",
        meaning="Their work was not done in time.",
        remedy="ayb-jobs schedules overdue",
        evidence={"count": count},
    )

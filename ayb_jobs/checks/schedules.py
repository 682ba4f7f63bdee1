"""Whether the schedules do what is expected of them."""

import shlex
from collections.abc import Iterator, Sequence

from ayb_jobs.checks.finding import Finding, Severity, warning
from ayb_jobs.model.waiting import first_line
from ayb_jobs.model.words import count_words, one_line, quoted
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.schedules.deliveries import count_undelivered
from ayb_jobs.storage.schedules.overdue import Overdue, list_overdue
from ayb_jobs.storage.schedules.schedules import list_schedules

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
        named=_named(late),
        meaning=f"{'Its' if len(late) == 1 else 'Their'} work was not done in time.",
        remedy="ayb-jobs schedules overdue",
        evidence={"count": len(late), "byName": {each.name: each.reason for each in late[:100]}},
    )


def _named(late: Sequence[Overdue]) -> str:
    what = late[0].told
    if len(late) == 1:
        return what
    return f"{count_words(len(late), 'schedule', most=MOST)} did not do what is expected of them; {what}"


def undelivered(conn: Connection) -> Finding | None:
    """Find alerts of the last day that their address has not taken, though it was tried more than once."""
    found = count_undelivered(conn)
    if not found.alerts:
        return None
    what = count_words(found.alerts, "alert of the last day was", "alerts of the last day were", most=MOST)
    fact = f"{what} not taken by {'its' if found.alerts == 1 else 'their'} address"
    return Finding(
        name="alerts.undelivered",
        severity=Severity.WARNING,
        fact=fact,
        named=f"{fact}: {one_line(first_line(found.last_error))}" if found.last_error else fact,
        meaning="Whoever is to be told of overdue schedules and failed jobs has not heard.",
        remedy="See to the addresses of [alerts]; each is tried again at growing intervals, a dozen times.",
        evidence={"count": found.alerts},
    )


def never(conn: Connection) -> Iterator[Finding]:
    """Find schedules that are enabled and have no fire left, or none within five years."""
    silent = [each for each in list_schedules(conn) if each.state in {"ended", "dormant"}]
    if not silent:
        return
    first = silent[0]
    typed = shlex.quote(first.name)
    others = f"; {count_words(len(silent) - 1, 'other is', 'others are')} alike" if silent[1:] else ""
    when = f"has no fire before {first.next_run_at:%Y}" if first.next_run_at else "never fires again"
    yield warning(
        "schedules.never",
        f"schedule {quoted(first.name)} {when}: {one_line(first.cron)}{others}",
        "It is enabled, and makes no job.",
        f"ayb-jobs schedules update {typed} --cron …, or: ayb-jobs schedules disable {typed}",
        {"byName": {each.name: each.state for each in silent}},
    )

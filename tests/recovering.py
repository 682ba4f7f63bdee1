"""Recovery on one connection, as the recoverer and the lifeline keeper do it: look, decide, write."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import LostLease, RecoveredJob
from ayb_jobs.model.lifecycle import settle_lost
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.recovery import find_expired_leases, find_leases_of_the_dead, recover_jobs


class Recovered(NamedTuple):
    """The jobs that were recovered, the longest expired first, and what the look said."""

    jobs: Sequence[RecoveredJob]
    floor: str | None
    next_s: float | None


def recover(
    conn: Connection, *, backoff: Backoff, limit: int = 100, floor: str = "-infinity", ahead_s: float = 0.0
) -> Recovered:
    """Recover what has an expired lease."""
    look = find_expired_leases(conn, limit=limit, floor=floor, ahead_s=ahead_s)
    return Recovered(end(conn, look.lost, backoff), look.floor, look.next_s)


def take_over(conn: Connection, dead: Mapping[str, str], *, backoff: Backoff) -> Sequence[RecoveredJob]:
    """Recover what the dead hold."""
    return end(conn, find_leases_of_the_dead(conn, dead=dead, limit=100), backoff)


def end(conn: Connection, lost: Sequence[LostLease], backoff: Backoff) -> Sequence[RecoveredJob]:
    """Decide and write."""
    ended = [
        (each, settle_lost(each, max_crashes=3, backoff=backoff, chance=number / len(lost), now=0.0))
        for number, each in enumerate(lost)
    ]
    found = {job.id: job for job in recover_jobs(conn, ended).jobs}
    return [found[each.job.id] for each in lost if each.job.id in found]

"""Why a running job waits: to be settled, or to be taken over from a daemon that is gone."""

from dataclasses import dataclass

from ayb_jobs.model.instants import instant_text
from ayb_jobs.model.job import Job
from ayb_jobs.model.surroundings import SetAside
from ayb_jobs.model.waiting import WHAT_IT_SAYS, Reason, WaitKind, first_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What is known of the daemon of a running job: whether it is gone, and whether the lease ran out a while ago."""

    daemon_is_gone: bool
    lease_expired: bool
    daemons: int = 1
    aside: SetAside | None = None
    locked_by: int | None = None


def lost_reason(job: Job, held: Held) -> Reason | None:
    """Return why a running job waits to be settled or recovered; None while a daemon runs it."""
    if held.aside is not None and held.aside.is_ending and not held.daemon_is_gone:
        return _unsettled(held.aside)
    if held.lease_expired:
        at = "" if job.lease_until is None else f" at {instant_text(job.lease_until)}"
        if held.aside is not None:
            cause = f"{held.aside.who} set it aside: {first_line(held.aside.error)}"
        elif held.locked_by is not None:
            cause = f"the session with pid {held.locked_by} has locked its row"
        else:
            cause = "no daemon has taken it over" if held.daemons else "no daemon is alive that could take it over"
        return Reason(kind=WaitKind.LEASE_EXPIRED, words=f"its lease ran out{at}; {cause}")
    if held.daemon_is_gone:
        return Reason(kind=WaitKind.DAEMON_GONE, words=abandoned_words(job))
    return None


def _unsettled(aside: SetAside) -> Reason:
    words = (
        f"its handler has ended, and the database refuses to store how; {aside.who} tries it again from time to time: "
        f"{first_line(aside.error)}"
    )
    return Reason(kind=WaitKind.SET_ASIDE, words=words, remedy=WHAT_IT_SAYS)


def abandoned_words(job: Job) -> str:
    """Say what becomes of a running job whose daemon is gone."""
    until = "" if job.lease_until is None else f", at {instant_text(job.lease_until)}"
    then = "is due again" if job.cancel_requested_at is None else "ends canceled"
    return f"its daemon {job.worker_id or 'unknown'} is gone; the job {then} once its lease has run out{until}"

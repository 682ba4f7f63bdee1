"""What the answer to a job's request does to the job. Pure."""

import email.utils
from collections.abc import Mapping
from datetime import UTC, datetime

from ayb_jobs.errors import AttemptFailed, Discard
from ayb_jobs.model.results import LEAST_LATER_S, Snooze

SUCCESS = range(200, 300)
REDIRECTS = range(300, 400)
CLIENT_ERRORS = range(400, 500)
TIMEOUT, NOT_FOUND, GONE, UNAVAILABLE = 408, 404, 410, 503
# A receiver that cannot take the job now. With a time it says when it can.
LATER = frozenset({409, 425, 429})
# A time that is farther ahead is a receiver's mistake, and would hide the job. So would one time after the other.
MOST_LATER_S = 24 * 3600.0
# So much of the body stands in the error.
MOST_TOLD = 2048


class Gone(Discard):
    """The address is gone for good."""


def refused(status: int, reason: str, headers: Mapping[str, str], body: bytes, *, retry_client_errors: bool) -> Snooze:
    """Return when to try again, or raise what an answer without success means: `Discard`, or `AttemptFailed`.

    A `Retry-After` that names no time ahead, as 0 does, is none: the attempt counts, and its job waits its backoff.
    """
    later_s = retry_after_s(headers.get("retry-after"), headers.get("date"))
    if later_s is not None and (status in LATER or status == UNAVAILABLE):
        return Snooze(later_s)
    told = f"it answered {status} {reason}".rstrip()
    said = body[:MOST_TOLD].decode("utf-8", "replace").strip()
    text = f"{told}\n{said}" if said else told
    if status in REDIRECTS:
        raise AttemptFailed(f"{told}; redirects are not followed")
    if status == GONE:
        raise Gone(text, pause_type=True)
    is_final = status in CLIENT_ERRORS and status not in LATER and status not in (NOT_FOUND, TIMEOUT)
    if is_final and not retry_client_errors:
        raise Discard(text)
    raise AttemptFailed(text, retry_after_s=later_s)


def retry_after_s(value: str | None, date: str | None = None) -> float | None:
    """Return the seconds that a `Retry-After` names, from a second to a day; None if it names no time ahead.

    `date` is when the server says that it answered: the difference of two times of its clock, whatever ours says.
    """
    if value is None:
        return None
    text = value.strip()
    later_s = float(text[:12]) if text.isascii() and text.isdigit() else _seconds_until(text, date)
    return min(max(LEAST_LATER_S, later_s), MOST_LATER_S) if later_s and later_s > 0 else None


def _seconds_until(text: str, date: str | None) -> float | None:
    at = _instant(text)
    answered = (_instant(date) if date else None) or datetime.now(UTC)
    return None if at is None else (at - answered).total_seconds()


def _instant(text: str) -> datetime | None:
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (OverflowError, ValueError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)

"""What the answer to a job's request does to the job. Pure."""

import email.utils
from collections.abc import Mapping
from datetime import UTC, datetime

from ayb_jobs.errors import AttemptFailed, Discard
from ayb_jobs.model.results import Snooze

SUCCESS = range(200, 300)
REDIRECTS = range(300, 400)
CLIENT_ERRORS = range(400, 500)
TIMEOUT, NOT_FOUND, GONE, UNAVAILABLE = 408, 404, 410, 503
# A receiver that cannot take the job now. With a time it says when it can.
LATER = frozenset({409, 425, 429})
# A time that is farther ahead is a receiver's mistake, and would hide the job.
MOST_LATER_S = 24 * 3600.0
# So much of the body stands in the error.
MOST_TOLD = 2048


class Gone(Discard):
    """The address is gone for good."""


def refused(status: int, reason: str, headers: Mapping[str, str], body: bytes, *, retry_client_errors: bool) -> Snooze:
    """Return when to try again, or raise what an answer without success means: `Discard`, or `AttemptFailed`."""
    later_s = retry_after_s(headers.get("retry-after"))
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


def retry_after_s(value: str | None) -> float | None:
    """Return the seconds that a `Retry-After` names, a day at most; None if it names no time."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), MOST_LATER_S)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(0.0, (at - datetime.now(UTC)).total_seconds()), MOST_LATER_S)

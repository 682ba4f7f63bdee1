"""What each answer of a server does to a job."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from ayb_jobs.errors import AttemptFailed, Discard
from ayb_jobs.handlers.requests.answers import MOST_LATER_S, Gone, refused, retry_after_s
from ayb_jobs.model.results import Snooze


def ended(status: int, *, after: str | None = None, body: bytes = b"", retry: bool = False) -> object:
    headers = {} if after is None else {"retry-after": after}
    try:
        return refused(status, "Reason", headers, body, retry_client_errors=retry)
    except (AttemptFailed, Discard) as error:
        return error


@pytest.mark.parametrize("status", [409, 425, 429, 503])
def test_an_answer_that_names_a_time_snoozes(status: int) -> None:
    assert ended(status, after="30") == Snooze(30)


@pytest.mark.parametrize("status", [404, 408, 409, 425, 429, 500, 502, 503, 504, 599, 600, 199])
def test_an_answer_that_may_change_is_a_failed_attempt(status: int) -> None:
    failure = ended(status)
    assert isinstance(failure, AttemptFailed)
    assert (str(failure), failure.retry_after_s) == (f"it answered {status} Reason", None)


@pytest.mark.parametrize("status", [404, 408, 500, 502])
def test_a_failed_attempt_waits_as_long_as_the_answer_says(status: int) -> None:
    failure = ended(status, after="7")
    assert isinstance(failure, AttemptFailed)
    assert failure.retry_after_s == 7


@pytest.mark.parametrize("status", [400, 401, 403, 405, 413, 422, 451, 499])
def test_another_client_error_discards_with_the_beginning_of_the_body(status: int) -> None:
    failure = ended(status, body=b"no such order\xff" + b"x" * 5000)
    assert isinstance(failure, Discard)
    assert str(failure).startswith(f"it answered {status} Reason\nno such order\ufffd")
    assert len(str(failure)) < 2100
    assert isinstance(ended(status, retry=True), AttemptFailed)


def test_gone_discards_whatever_the_settings_say() -> None:
    assert isinstance(ended(410), Gone)
    assert isinstance(ended(410, retry=True), Gone)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_a_redirect_is_a_failed_attempt(status: int) -> None:
    assert str(ended(status)) == f"it answered {status} Reason; redirects are not followed"


def test_a_time_is_seconds_or_a_date_and_a_day_at_most() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 1 <= (retry_after_s(soon) or 0) <= 100
    assert retry_after_s("100") == 100
    assert retry_after_s("9" * 400) == retry_after_s("Fri, 31 Dec 9999 23:59:59 GMT") == MOST_LATER_S
    for nothing in (None, "", "soon", "-1", "1.5", "٣", "Fri, 99 Dec 9999 23:59:59 GMT"):
        assert retry_after_s(nothing) is None


def test_a_date_that_no_clock_shows_is_none() -> None:
    beyond = "Thu, 01 Jan 2026 00:00:00 +999999999999999999"
    assert isinstance(ended(410, after=beyond), Gone)
    failure = ended(503, after=beyond)
    assert isinstance(failure, AttemptFailed)
    assert failure.retry_after_s is None
    assert retry_after_s(format_datetime(datetime.now(UTC) + timedelta(seconds=100)), beyond) == pytest.approx(
        100, abs=50
    )


def test_a_date_is_reckoned_by_the_servers_own_clock() -> None:
    assert retry_after_s("Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT") == 30
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT") is None
    assert retry_after_s("Fri, 31 Dec 9999 23:59:59 GMT", "nonsense") == MOST_LATER_S


@pytest.mark.parametrize("after", ["0", "00", "Wed, 21 Oct 2015 07:28:00 GMT"])
@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503])
def test_a_time_that_is_not_ahead_is_a_failed_attempt_with_its_backoff(status: int, after: str) -> None:
    failure = ended(status, after=after)
    assert isinstance(failure, AttemptFailed)
    assert failure.retry_after_s is None

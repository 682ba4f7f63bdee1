"""The state machine: what each ending of an attempt does to its job."""

import pytest

from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import JobState, LeasedJob, LostLease
from ayb_jobs.model.lifecycle import (
    MAX_ERROR,
    TRANSITIONS,
    Outcome,
    settle_failure,
    settle_lost,
    settle_result,
    storable_error,
)
from ayb_jobs.model.results import Cancel, Result, Snooze
from tests.factories import leased_job

BACKOFF = Backoff()


def leased(attempt: int = 1, max_attempts: int = 3) -> LeasedJob:
    return leased_job(attempt=attempt, max_attempts=max_attempts)


@pytest.mark.parametrize(
    ("result", "state", "outcome", "delay_s", "records"),
    [
        (None, JobState.COMPLETED, Outcome.COMPLETED, None, None),
        (7, JobState.COMPLETED, Outcome.COMPLETED, None, 7),
        (0, JobState.COMPLETED, Outcome.COMPLETED, None, 0),
        (Snooze(60), JobState.QUEUED, Outcome.SNOOZED, 60.0, None),
        (Cancel("not needed"), JobState.CANCELED, Outcome.CANCELED, None, None),
    ],
)
def test_a_result_decides_the_state(
    result: Result, state: JobState, outcome: Outcome, delay_s: float | None, records: int | None
) -> None:
    ended = settle_result(leased(), result, 1.0, 2.0)
    assert (ended.state, ended.outcome, ended.delay_s, ended.records) == (state, outcome, delay_s, records)


def test_a_failure_with_attempts_left_is_retried_after_backoff() -> None:
    ended = settle_failure(leased(attempt=2), "no", 1.0, 2.0, backoff=BACKOFF, chance=0.5)
    assert (ended.state, ended.outcome, ended.delay_s, ended.error) == (JobState.QUEUED, Outcome.FAILED, 10.5, "no")


def test_a_failure_of_the_last_attempt_is_final() -> None:
    ended = settle_failure(leased(attempt=3), "no", 1.0, 2.0, backoff=BACKOFF, chance=0.5)
    assert (ended.state, ended.delay_s) == (JobState.FAILED, None)


def test_a_discarded_job_fails_with_attempts_left() -> None:
    ended = settle_failure(leased(), "no", 1.0, 2.0, backoff=BACKOFF, chance=0.5, outcome=Outcome.DISCARDED)
    assert ended.state is JobState.FAILED


def test_every_ending_is_a_legal_transition() -> None:
    results: list[Result] = [None, 3, Snooze(1), Cancel()]
    endings = [settle_result(leased(), result, 1.0, 2.0) for result in results]
    endings += [
        settle_failure(leased(attempt), "no", 1.0, 2.0, backoff=BACKOFF, chance=0.0, outcome=outcome)
        for attempt in (1, 3)
        for outcome in (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.DISCARDED)
    ]
    assert {ended.state for ended in endings} == TRANSITIONS[JobState.RUNNING]


def test_completed_and_canceled_are_final() -> None:
    assert not TRANSITIONS[JobState.COMPLETED]
    assert not TRANSITIONS[JobState.CANCELED]


@pytest.mark.parametrize("text", ["nul \x00 in it", "lone \ud800 surrogate", "\udfff", "plain"])
def test_an_error_text_is_always_storable(text: str) -> None:
    clean = storable_error(text)
    assert "\x00" not in clean
    clean.encode("utf-8")


def test_a_long_error_keeps_its_head_and_its_tail() -> None:
    clean = storable_error("HEAD" + "x" * 10_000_000 + "TAIL")
    assert clean.startswith("HEAD")
    assert clean.endswith("TAIL")
    assert len(clean) < MAX_ERROR + 100


def test_a_count_of_crashes_below_zero_is_taken_for_zero() -> None:
    job = leased()._replace(crashes=-(2**31))
    lost = LostLease(job=job, worker_id="w", lease_until=None, ran_s=1.0, records=None, of_the_dead=False)
    assert settle_lost(lost, max_crashes=1, backoff=BACKOFF, chance=0.5, now=2.0).state is JobState.FAILED

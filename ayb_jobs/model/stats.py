"""How many jobs there are in each state."""

from collections.abc import Mapping
from dataclasses import dataclass

from ayb_jobs.model.job import JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStats:
    """The number of jobs in each state; those of the states in `estimated` are estimates.

    `oldest_queued_age_s` is how long the job that has waited longest has been due, in seconds; None where none is due.
    `oldest_startable_age_s` is the same of the jobs that wait for nothing but a slot of a live daemon.
    """

    counts: Mapping[JobState, int]
    oldest_queued_age_s: float | None
    oldest_startable_age_s: float | None
    estimated: frozenset[JobState]

"""What a batch of endings adds up to, by job type: counted once for all who count, the metrics and the charts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from operator import sub
from typing import NamedTuple

from ayb_jobs.model.job import JobState
from ayb_jobs.model.lifecycle import Outcome, Settlement


class Tally(NamedTuple):
    """How many attempts of one type ended how, for how many seconds each ran, and the records that were processed."""

    counts: Mapping[tuple[JobState, Outcome], int]
    runs_s: Sequence[float]
    records: int

    def count(self, state: JobState) -> int:
        """Return how many jobs came to this state."""
        return sum(count for (after, _), count in self.counts.items() if after is state)

    def ended(self, outcome: Outcome) -> int:
        """Return how many attempts ended so."""
        return sum(count for (_, how), count in self.counts.items() if how is outcome)


def tallied_by_type(settlements: Sequence[Settlement]) -> Mapping[str, Tally]:
    """Add up endings column by column: next to no step of Python's own for each job if all are of one type."""
    types = {ending.job.type for ending in settlements}
    if len(types) == 1:
        return {job_type: tallied(settlements) for job_type in types}
    return {job_type: tallied([each for each in settlements if each.job.type == job_type]) for job_type in types}


def tallied(settlements: Sequence[Settlement]) -> Tally:
    """Add up endings of one type."""
    columns = dict(zip(Settlement._fields, zip(*settlements, strict=True), strict=True))
    return Tally(
        counted(columns["state"], columns["outcome"]),
        list(map(sub, columns["ended"], columns["started"])),
        sum(filter(None, columns["records"])),
    )


def counted(states: Sequence[JobState], outcomes: Sequence[Outcome]) -> Mapping[tuple[JobState, Outcome], int]:
    """Count what belongs together; most often all of a batch completed, which is found out many times faster."""
    if outcomes.count(Outcome.COMPLETED) == len(outcomes):
        return {(JobState.COMPLETED, Outcome.COMPLETED): len(outcomes)}
    return Counter(zip(states, outcomes, strict=True))

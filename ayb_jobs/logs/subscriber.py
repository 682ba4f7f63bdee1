"""Listens to events and writes their lines: some tens a second, and counts of what is beyond."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from structlog.typing import FilteringBoundLogger

from ayb_jobs import events
from ayb_jobs.events import Event, Single
from ayb_jobs.logs.bursts import Burst
from ayb_jobs.logs.lines import LINES
from ayb_jobs.logs.wording import action_fields, event_line, fire_line, settled_line, went_well
from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.lifecycle import Outcome

# Single lines a second, for what goes well and for what does not; beyond that a line a second with counts.
MOST_SUCCESSES = 20
MOST_FAILURES = 100
ENQUEUE = "job.enqueue"


class LogSubscriber:
    """Writes the lines of events; give it to `Events.subscribe`, and call `summarize` about once a second.

    What happens for each job has a line of its own up to some tens a second. Failures have more room than successes.
    Beyond that they are counted, and `summarize` writes the counts.
    """

    def __init__(self, logger: FilteringBoundLogger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._successes = Burst(MOST_SUCCESSES)
        self._failures = Burst(MOST_FAILURES)
        self._fires = Burst(MOST_SUCCESSES)
        self._batches = Burst(MOST_SUCCESSES)
        self._unclaimable: tuple[frozenset[str], frozenset[str]] = frozenset(), frozenset()

    def __call__(self, event: Event) -> None:
        """Write what an event has to say."""
        if isinstance(event, events.JobsSettled):
            self._settled(event)
        elif isinstance(event, events.JobsLeased):
            self._leased(event)
        elif isinstance(event, events.JobsUnclaimable):
            self._waiting(event)
        elif isinstance(event, ActionTaken):
            self._acted(event)
        elif isinstance(event, events.SchedulesFired):
            self._some(
                self._fires, [fire_line(one, fire, event.job_ids) for one in event.advances for fire in one.fires]
            )
        elif isinstance(event, events.LeasesLost):
            lost = [("lease.lost", {"job_id": job_id, "during": event.during}) for job_id in event.job_ids]
            self._some(self._failures, lost)
        else:
            self._one(event)

    def write_to(self, logger: FilteringBoundLogger) -> None:
        """Write to another logger from now on."""
        self._logger = logger

    def summarize(self) -> None:
        """Write the counts of what had no line of its own since the last call."""
        now = self._clock()
        bursts = (
            ("jobs.summary", self._successes),
            ("jobs.failures", self._failures),
            ("schedules.summary", self._fires),
        )
        for name, burst in bursts:
            counts, seconds = burst.take(now)
            if counts:
                self._tell(name, seconds=round(seconds, 1), **counts)

    def dropped(self, count: int) -> None:
        """Tell that lines could not be written."""
        self._tell("log.dropped", count=count)

    def _tell(self, name: str, /, **fields: Any) -> None:
        # A name that is missing from the list is a defect, which must not cost the line.
        level = LINES[name].level if name in LINES else "warning"
        getattr(self._logger, level)(name, **fields)

    def _some(self, burst: Burst, lines: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Write as many lines as this second has room for, and count the others."""
        now = self._clock()
        allowed = burst.allow(len(lines), now)
        for name, fields in lines[:allowed]:
            self._tell(name, **fields)
        if len(lines) > allowed:
            burst.count(Counter(name.partition(".")[2] for name, _ in lines[allowed:]), now)

    def _settled(self, event: events.JobsSettled) -> None:
        """Write a batch of endings. Tens of thousands come each second: tallies tell whether to look at each."""
        completed = sum(tally.ended(Outcome.COMPLETED) for tally in event.tallies.values())
        if completed:
            self._completed(event, completed)
        if completed < len(event.settlements):
            self._not_completed(event)

    def _not_completed(self, event: events.JobsSettled) -> None:
        others = [ending for ending in event.settlements if ending.outcome is not Outcome.COMPLETED]
        for burst, good in ((self._successes, True), (self._failures, False)):
            lines = [settled_line(ending) for ending in others if went_well(ending) is good]
            if lines:
                self._some(burst, lines)

    def _completed(self, event: events.JobsSettled, completed: int) -> None:
        now = self._clock()
        allowed = self._successes.allow(completed, now)
        if allowed:
            endings = (ending for ending in event.settlements if ending.outcome is Outcome.COMPLETED)
            for ending in islice(endings, allowed):
                name, fields = settled_line(ending)
                self._tell(name, **fields)
        if completed > allowed:
            self._successes.count(Counter(completed=completed - allowed), now)

    def _leased(self, event: events.JobsLeased) -> None:
        if event.jobs and self._batches.allow(1, self._clock()):
            self._tell("jobs.leased", count=len(event.jobs))

    def _acted(self, event: ActionTaken) -> None:
        """Tell what was changed by hand; enqueueing is an application's daily work, and is for those who debug."""
        if event.action != ENQUEUE:
            self._some(self._successes, [("action.taken", action_fields(event))])
        elif self._batches.allow(1, self._clock()):
            self._tell("jobs.enqueued", source="api", counts=dict(event.enqueued))

    def _waiting(self, event: events.JobsUnclaimable) -> None:
        """Tell once when the types or queues that wait change, not each time they are counted."""
        waiting = frozenset(event.counts), frozenset(event.queues)
        if waiting == self._unclaimable:
            return
        self._unclaimable = waiting
        if event.counts or event.queues:
            told = {"unknown_types": dict(event.counts), "unserved_queues": dict(event.queues)}
            self._tell("jobs.unclaimable", **{name: counts for name, counts in told.items() if counts})
        else:
            self._tell("jobs.claimable")

    def _one(self, event: Single) -> None:
        """Write the one line of an event that is rare, or comes one job at a time."""
        line = event_line(event)
        if line is None:
            return
        name, fields = line
        if name.startswith(("job.", "request.", "row.")):
            self._some(self._failures, [line])
        else:
            self._tell(name, **fields)

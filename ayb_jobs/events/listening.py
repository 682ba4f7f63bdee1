"""All events in one union, and who listens."""

from collections.abc import Callable

from ayb_jobs.events.daemon import AboutTheDaemon
from ayb_jobs.events.jobs import AboutJobs, JobsLeased, JobsSettled, JobsUnclaimable, LeasesLost
from ayb_jobs.events.loops import AboutLoops
from ayb_jobs.events.schedules import AboutSchedules, SchedulesFired
from ayb_jobs.model.actions import ActionTaken

# What comes in batches or by the second, of which listeners tell with counts.
Gathered = ActionTaken | JobsLeased | JobsSettled | JobsUnclaimable | LeasesLost | SchedulesFired
# What is rare, or comes one job at a time.
Single = AboutJobs | AboutSchedules | AboutLoops | AboutTheDaemon
# Everything that parts report. A listener's `match` over it ends in `assert_never`.
Event = Gathered | Single
Emit = Callable[[Event], None]


class Events:
    """Hands each event to every listener. A listener that fails is left out of that event and never stops the work."""

    def __init__(self) -> None:
        self._listeners: list[Emit] = []
        self.listener_failures = 0

    def subscribe(self, listener: Emit) -> None:
        """Have `listener` called with every event from now on, in the thread that reports it."""
        self._listeners.append(listener)

    def emit(self, event: Event) -> None:
        """Tell every listener of `event`."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - reporting must never stop what is reported
                self.listener_failures += 1

"""What is paused, as this daemon knows it."""

from collections import deque
from collections.abc import Callable

from ayb_jobs.model.job import LeasedJob


class Paused:
    """The queues and types that are paused. Slots ask before they start a job; `any` spares them the question.

    `asked` are types that a job's end asks to pause, each with a reason, the oldest first. `ring` is called for each.
    """

    def __init__(self, ring: Callable[[], None] = lambda: None) -> None:
        self.any = False
        self.asked: deque[tuple[str, str]] = deque()
        self._ring = ring
        self._queues: frozenset[str] = frozenset()
        self._types: frozenset[str] = frozenset()

    def holds(self, job: LeasedJob) -> bool:
        """Tell whether a job is not to be started."""
        return job.queue in self._queues or job.type in self._types

    def ask_for(self, job_type: str, reason: str) -> None:
        """Ask that a type be paused, without waiting for it."""
        self.asked.append((job_type, reason))
        self._ring()

    def become(self, queues: frozenset[str], types: frozenset[str]) -> bool:
        """Hold to these from now on; tell whether anything is different."""
        changed = (queues, types) != (self._queues, self._types)
        self._queues, self._types = queues, types
        self.any = bool(queues or types)
        return changed

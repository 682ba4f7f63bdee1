"""What is paused, as this daemon knows it."""

from collections import deque
from collections.abc import Callable

from ayb_jobs.model.job import LeasedJob


class Paused:
    """The queues and types that are paused, the leases of keys that are, and the types that are limited.

    Slots ask before they start a job; `any` spares them the question.

    `asked` are types that a job's end asks to pause, each with a reason, the oldest first. `ring` is called for each.
    """

    def __init__(self, ring: Callable[[], None] = lambda: None) -> None:
        self.any = False
        self.asked: deque[tuple[str, str]] = deque()
        self._ring = ring
        self._queues: frozenset[str] = frozenset()
        self._types: frozenset[str] = frozenset()
        self._keys: frozenset[str] = frozenset()
        self._leases: frozenset[str] = frozenset()
        self._limited: frozenset[str] = frozenset()

    def holds(self, job: LeasedJob) -> bool:
        """Tell whether a job is not to be started."""
        return (
            job.queue in self._queues
            or job.type in self._types
            or job.lease_id in self._leases
            or self.is_beside_its_limit(job)
        )

    def is_beside_its_limit(self, job: LeasedJob) -> bool:
        """Tell whether a job of a limited type was leased without a look at its limit."""
        return job.type in self._limited and not job.is_limited

    def ask_for(self, job_type: str, reason: str) -> None:
        """Ask that a type be paused, without waiting for it."""
        self.asked.append((job_type, reason))
        self._ring()

    def become(
        self,
        queues: frozenset[str],
        types: frozenset[str],
        keys: frozenset[str] = frozenset(),
        leases: frozenset[str] = frozenset(),
    ) -> bool:
        """Hold to these from now on; tell whether anything else is paused. `leases` are those of the keys."""
        changed = (queues, types, keys) != (self._queues, self._types, self._keys)
        self._queues, self._types, self._keys, self._leases = queues, types, keys, leases
        self._look()
        return changed

    def limit(self, types: frozenset[str]) -> bool:
        """Take it that these types are limited from now on; tell whether anything is different."""
        changed = types != self._limited
        self._limited = types
        self._look()
        return changed

    def _look(self) -> None:
        self.any = bool(self._queues or self._types or self._leases or self._limited)

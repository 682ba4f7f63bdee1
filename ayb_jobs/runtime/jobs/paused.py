"""What is paused, as this daemon knows it."""

from ayb_jobs.model.job import LeasedJob


class Paused:
    """The queues and types that are paused. Slots ask before they start a job; `any` spares them the question."""

    def __init__(self) -> None:
        self.any = False
        self._queues: frozenset[str] = frozenset()
        self._types: frozenset[str] = frozenset()

    def holds(self, job: LeasedJob) -> bool:
        """Tell whether a job is not to be started."""
        return job.queue in self._queues or job.type in self._types

    def become(self, queues: frozenset[str], types: frozenset[str]) -> bool:
        """Hold to these from now on; tell whether anything is different."""
        changed = (queues, types) != (self._queues, self._types)
        self._queues, self._types = queues, types
        self.any = bool(queues or types)
        return changed

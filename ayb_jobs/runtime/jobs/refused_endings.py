"""Endings that the database refuses: kept, told, and tried again at growing intervals."""

from collections.abc import Iterable

from ayb_jobs.events import Emit, SettlementRefused, SettlementsTakenUp
from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.runtime.aside import Waits

# After how many seconds an ending is tried again, first and at most.
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0


class RefusedEndings:
    """The endings of attempts that the database refused to store, by their leases."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._endings: dict[str, Settlement] = {}
        self._waits = Waits(first_s=FIRST_RETRY_S, longest_s=LONGEST_RETRY_S)

    def __len__(self) -> int:
        return len(self._endings)

    def put(self, ended: Settlement, error: Exception) -> None:
        """Keep an ending, to be tried again after twice as long as the last time, and tell it."""
        lease_id = ended.job.lease_id
        self._endings[lease_id] = ended
        self._emit(SettlementRefused(job=ended.job, error=error, retry_s=self._waits.put(lease_id)))

    def due(self) -> list[Settlement]:
        """Return the endings whose wait is over."""
        return [self._endings[lease_id] for lease_id in self._waits.due()]

    def types(self) -> set[str]:
        """Return the types of their jobs."""
        return {ended.job.type for ended in self._endings.values()}

    def next_s(self) -> float:
        """Return the seconds until the next wait is over; infinity if there is none."""
        return self._waits.next_s()

    def end_waits(self) -> None:
        """Have all of them tried again now. Any thread may call it."""
        self._waits.end_all()

    def take_up(self, lease_ids: Iterable[str]) -> None:
        """Forget those of these leases that are settled after all, or lost, and tell it."""
        taken_up = [self._endings.pop(lease_id).job.id for lease_id in lease_ids if self._waits.forget(lease_id)]
        if taken_up:
            self._emit(SettlementsTakenUp(job_ids=taken_up))

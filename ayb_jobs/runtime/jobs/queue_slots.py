"""How many slots of this daemon each queue may fill, and how many of these are free."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from ayb_jobs.runtime.jobs.in_flight import Held, InFlight


class QueueSlots:
    """The slots of the queues that may not fill all; `most` says how many each may fill.

    `most` may be given anew between two looks. A slot is filled from the lease of a job until its ending is written and
    its handler is through. `running` tells what handlers run now. `full` are the queues that had no free slot when
    somebody asked last.
    """

    def __init__(
        self,
        most: Mapping[str, int] | None = None,
        *,
        in_flight: InFlight | None = None,
        running: Callable[[], Iterable[Held]] = lambda: (),
    ) -> None:
        self.most: Mapping[str, int] = dict(most or {})
        self.full: frozenset[str] = frozenset()
        self._in_flight = InFlight() if in_flight is None else in_flight
        self._running = running

    def free(self) -> dict[str, int]:
        """Return how many more jobs of each of these queues may be leased."""
        if not self.most:
            return {}
        # In this order: what is held no longer when it is asked for first, and runs yet, is among those that run.
        held = {one.job.lease_id: one.job.queue for one in self._in_flight.all()}
        held |= {one.job.lease_id: one.job.queue for one in self._running()}
        filled = Counter(held.values())
        free = {queue: max(0, most - filled[queue]) for queue, most in self.most.items()}
        self.full = frozenset(queue for queue, count in free.items() if not count)
        return free

    def groups(self, queues: Sequence[str], room: Callable[[], int]) -> list[tuple[list[str], Callable[[], int]]]:
        """Split queues into those that share all the `room`, and each of the others by itself with its own."""
        shared = [queue for queue in queues if queue not in self.most]
        groups = [(shared, room)] if shared else []
        return groups + [([queue], self._room_of(queue, room)) for queue in queues if queue in self.most]

    def _room_of(self, queue: str, room: Callable[[], int]) -> Callable[[], int]:
        return lambda: min(room(), self.free()[queue])

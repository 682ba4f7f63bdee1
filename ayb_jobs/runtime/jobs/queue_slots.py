"""How many slots of this daemon each queue may fill, and how many of these are free."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from ayb_jobs.runtime.jobs.in_flight import Held, InFlight


class QueueSlots:
    """The slots of the queues that may not fill all; `most` says how many each may fill.

    `most` may be given anew between two looks. A slot is filled from the lease of a job until its ending is written and
    its handler is through; whoever frees one says so afterwards, by `freed`. `running` tells what handlers run now.
    """

    def __init__(
        self,
        most: Mapping[str, int] | None = None,
        *,
        in_flight: InFlight | None = None,
        running: Callable[[], Iterable[Held]] = lambda: (),
    ) -> None:
        self.most: Mapping[str, int] = dict(most or {})
        self._in_flight = InFlight() if in_flight is None else in_flight
        self._running = running
        self._full: set[str] = set()
        self._lock = threading.Lock()

    @property
    def full(self) -> frozenset[str]:
        """The queues that somebody found without a free slot since one of theirs was freed last: looks wait for it."""
        with self._lock:
            return frozenset(self._full)

    def free(self) -> dict[str, int]:
        """Return how many more jobs of each of these queues may be leased."""
        if not self.most:
            return {}
        marked = self._mark_all()
        # In this order: what is held no longer when it is asked for first, and runs yet, is among those that run.
        held = {one.job.lease_id: one.job.queue for one in self._in_flight.all()}
        held |= {one.job.lease_id: one.job.queue for one in self._running()}
        filled = Counter(held.values())
        free = {queue: max(0, most - filled[queue]) for queue, most in self.most.items()}
        with self._lock:
            self._full -= {queue for queue in marked if free.get(queue)}
        return free

    def freed(self, queues: Iterable[str]) -> bool:
        """Take note that slots of these queues are free again; tell whether a look waits for one of them."""
        if not self._full:  # whoever marks one from now on counts afterwards
            return False
        with self._lock:
            waited_for = self._full.intersection(queues)
            self._full -= waited_for
        return bool(waited_for)

    def _mark_all(self) -> frozenset[str]:
        """Mark every queue as full, and return those that were not.

        Before the slots are counted: a slot that is freed while they are is then heard of. A mark that was there
        before stays even if slots are free now: whoever set it waits for an ending that is not heard yet.
        """
        with self._lock:
            marked = frozenset(self.most) - self._full
            self._full |= marked
        return marked

    def groups(self, queues: Sequence[str], room: Callable[[], int]) -> list[tuple[list[str], Callable[[], int]]]:
        """Split queues into those that share all the `room`, and each of the others by itself with its own."""
        shared = [queue for queue in queues if queue not in self.most]
        groups = [(shared, room)] if shared else []
        return groups + [([queue], self._room_of(queue, room)) for queue in queues if queue in self.most]

    def _room_of(self, queue: str, room: Callable[[], int]) -> Callable[[], int]:
        return lambda: min(room(), self.free()[queue])

"""Leases jobs for the executors: as many as can start soon, in large batches while there is a backlog."""

import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from ayb_jobs.events import Emit, Event, JobsCanceled, JobsReleased, JobsSettled, LeasesLost, LoopErrorRepeated
from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.runtime.each import do_each
from ayb_jobs.runtime.jobs.limits import Limits
from ayb_jobs.runtime.jobs.look import Look
from ayb_jobs.runtime.jobs.queue_slots import QueueSlots
from ayb_jobs.runtime.jobs.releaser import Releaser


class Producer:
    """Keeps the executors supplied, each by its own look.

    Its `tick` is one turn: release what is not to be kept, and lease a batch for each executor that has room. If one
    executor asked for the turn, the looks of the others wait until they are due.

    `announce` is called before anything is leased, until it does not fail: pauses and limits wait for daemons that are
    known. `notified` takes a turn as well. `ring` cuts the wait for the next turn short; `poll_s` is the longest such
    wait.
    """

    def __init__(
        self,
        *,
        looks: Sequence[Look],
        releaser: Releaser,
        limits: Limits,
        slots: QueueSlots | None = None,
        emit: Emit,
        poll_s: float,
        ring: Callable[[], None],
        announce: Callable[[], None] = lambda: None,
    ) -> None:
        self._limits = limits
        self._slots = slots or QueueSlots()
        self._looks = looks
        self._releaser = releaser
        self._emit = emit
        self._poll_s = poll_s
        self._ring = ring
        self._announce: Callable[[], None] | None = announce
        self._wanted: tuple[Sequence[str], Mapping[str, int]] | None = None
        self._turn = threading.Lock()  # the loop's thread and the notifier's take turns

    def tick(self) -> float:
        """Lease what there is room for; return the seconds until the next turn."""
        with self._turn:
            return self._take_turn()

    def serve(self, queues: Sequence[str], most: Mapping[str, int]) -> None:
        """Lease from these queues from the next turn on, of each of `most` no more than it says.

        It does not wait for the turn that is under way.
        """
        self._wanted = queues, most
        self._ring()

    def _take_turn(self) -> float:
        if self._announce is not None:
            self._announce()
            self._announce = None
        if self._wanted is not None:
            (queues, self._slots.most), self._wanted = self._wanted, None
            for look in self._looks:
                look.serve(queues)
        self._releaser.turn()
        return self._releaser.next_s(self._fill())

    def _fill(self) -> float:
        """Have each look lease; one that fails keeps no other from it."""
        now = time.monotonic()
        wanted = [look for look in self._looks if look.is_wanted(now)] or self._looks
        later = [look.next_at - now for look in self._looks if look not in wanted]
        return min([self._poll_s, *later, *do_each(look.fill for look in wanted)])

    def begin_anew(self) -> None:
        """Look from the bottom of each queue next: what was passed over may have come to be wanted."""
        for look in self._looks:
            look.begin_anew()
        self._ask(every=True)

    def _ask(self, *, every: bool) -> None:
        """Have looks taken in the next turn: of every executor, or of those that had no room and have some."""
        asking = [look for look in self._looks if every or look.has_room_again()]
        for look in asking:
            look.backlog.asks = True
        if asking:
            self._ring()

    def _free_places(self, limited: Iterable[Settlement]) -> None:
        if (run_s := max((one.ended - one.started for one in limited), default=None)) is None:
            return
        for look in self._looks:
            look.free_places(run_s)
        self._ring()

    def slot_freed(self, queue: str) -> None:
        """Look again if a look waits for a slot of this queue: one is free."""
        if self._slots.freed([queue]):
            self._ask(every=True)

    def hear(self, event: Event) -> None:
        """Look again once there is room for what ended, or its place under a limit or its queue's slot is free."""
        match event:
            case JobsSettled():
                freed = self._slots.freed(one.job.queue for one in event.settlements)
                if self._limits.exist:
                    self._free_places(one for one in event.settlements if one.job.is_limited)
                self._ask(every=freed)
            case JobsReleased() | LeasesLost() | JobsCanceled():
                self._ask(every=self._slots.freed(self._slots.most) or self._limits.exist)
            case _:
                pass

    def notified(self) -> float:
        """Look at once, since there may be new jobs.

        Return the seconds until a further look is wanted, for ever mostly.

        In the caller's own thread, unless a turn is under way: waking another takes a lone job as long as all else that
        this process does before its handler starts.
        """
        for look in self._looks:
            look.backlog.waits = look.backlog.asks = True
        if not self._turn.acquire(blocking=False):
            self._ring()
            return math.inf
        try:
            pause_s = self._take_turn()
        except Exception as error:  # not the caller's: counted here, and met again by the loop's own turn
            self._emit(LoopErrorRepeated(loop="producer", error=error))
            pause_s = 0.0
        finally:
            self._turn.release()
        if pause_s == 0:
            self._ring()
        return pause_s if 0 < pause_s < self._poll_s else math.inf

"""What the producer leased and no slot has begun: the queue inside the process."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from ayb_jobs.runtime.jobs.in_flight import Held
from ayb_jobs.runtime.jobs.paused import Paused


class Buffer:
    """Hands jobs to slots in order, one at a time, so that none waits behind a job that another slot could start.

    Taking one costs one `deque.popleft`; a lock is touched only if a slot finds nothing and has to wait, or wakes one.
    One at a time wakes up, and wakes the next one if it leaves jobs behind: so short jobs wake few slots.
    `on_low` is called whenever at most `low_mark` are left, in the taking slot's thread. `paused` is what slots are to
    release instead of starting it. `slots` is how many take from here.

    The event loop waits by itself: it is woken by `wake`, counts in `idle` how many more it can start, takes each by
    `take_now`, and tells by `tell_low`.
    """

    def __init__(
        self,
        on_low: Callable[[], None],
        paused: Paused | None = None,
        *,
        slots: int = 0,
        wake: Callable[[], None] | None = None,
    ) -> None:
        self.paused = Paused() if paused is None else paused
        self._jobs: deque[Held] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._slots = slots
        self._leaving = 0
        self._ends_any = False  # closed, or some slots are to leave
        self._on_low = on_low
        self._wake = wake
        self.low_mark = 0
        self.idle = 0  # slots that wait for a job
        self._is_waking = False  # one of them was told of jobs, and has not looked yet

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def closed(self) -> bool:
        """Whether no more jobs are handed out."""
        return self._closed

    def put(self, jobs: Sequence[Held]) -> bool:
        """Add jobs, and wake a waiting slot; tell whether any slot waited."""
        slots_wait = self.idle > 0
        self._jobs.extend(jobs)
        self._wake_one()
        return slots_wait

    def _wake_one(self) -> None:
        """Wake the event loop, or a slot that waits, unless one is waking up."""
        if self.idle and self._wake is not None:
            self._wake()
        elif self.idle and not self._is_waking:
            with self._changed:
                self._notify()

    def _notify(self) -> None:
        if self.idle and self._jobs:
            self._is_waking = True
            self._changed.notify()

    def take(self) -> Held | None:
        """Return the next job, waiting for one; None once the slot is to end: the buffer is closed, or it leaves."""
        if self._ends_any and self._ends():
            return None
        try:
            job = self._jobs.popleft()
        except IndexError:
            return self._wait_for_one()
        try:
            if self.idle and not self._is_waking and self._jobs:
                self._wake_one()
            if len(self._jobs) <= self.low_mark:
                self._on_low()
        except BaseException:
            self.put_front([job])
            raise
        return job

    def take_now(self) -> Held | None:
        """Return the next job; None if there is none, or the buffer is closed."""
        if self._closed:
            return None
        try:
            return self._jobs.popleft()
        except IndexError:
            return None

    @property
    def is_low(self) -> bool:
        """Whether at most `low_mark` are left."""
        return len(self._jobs) <= self.low_mark

    def tell_low(self) -> None:
        """Call `on_low` if at most `low_mark` are left."""
        if self.is_low:
            self._on_low()

    def take_ahead(self, most: int, fits: Callable[[Held], bool]) -> list[Held]:
        """Take out the next jobs for one slot, while they fit: up to `most`, and no more than its share."""
        taken: list[Held] = []
        share = min(most, len(self._jobs) // max(1, self._slots))
        while len(taken) < share:
            try:
                held = self._jobs.popleft()
            except IndexError:
                break
            try:
                is_fit = fits(held)
            except BaseException:
                self.put_front([*taken, held])
                raise
            if not is_fit:
                self.put_front([held])
                break
            taken.append(held)
        if taken and len(self._jobs) <= self.low_mark:
            self._on_low()
        return taken

    def put_front(self, jobs: Sequence[Held]) -> None:
        """Put jobs back that were taken and have not begun, in their order: they are the next."""
        self._jobs.extendleft(reversed(jobs))
        self._wake_one()

    def take_back(self, older_than_s: float = 0.0) -> list[Held]:
        """Take out all jobs, or none if the one that waits longest came less than `older_than_s` ago."""
        if older_than_s and ((waited_s := self.waited_s()) is None or waited_s < older_than_s):
            return []
        taken = []
        while self._jobs:
            try:
                taken.append(self._jobs.popleft())
            except IndexError:
                break
        return taken

    def waited_s(self) -> float | None:
        """Return for how long the next job has waited; None if there is none."""
        try:
            return time.monotonic() - self._jobs[0].arrived
        except IndexError:
            return None

    def take_paused(self) -> list[Held]:
        """Take out the jobs of what is paused; the others stay in their order."""
        if not self.paused.any:
            return []
        taken = []
        for _ in range(len(self._jobs)):
            try:
                held = self._jobs.popleft()
            except IndexError:
                break
            if self.paused.holds(held.job):
                taken.append(held)
            else:
                self._jobs.append(held)
        if self._jobs:  # a slot may have looked while one was out
            self._wake_one()
        return taken

    def close(self) -> None:
        """Have every slot stop once it asks for its next job. What is still in the buffer stays there."""
        with self._changed:
            self._closed = self._ends_any = True
            self._changed.notify_all()

    def resize(self, slots: int) -> int:
        """Have so many slots take jobs; return how many are missing. Those too many end as they ask for the next."""
        with self._changed:
            missing = max(0, slots - self._slots)
            self._slots += missing
            self._leaving = self._slots - slots
            self._ends_any = self._closed or self._leaving > 0
            self._changed.notify_all()
        return missing

    def _ends(self) -> bool:
        """Tell whether the slot that asks is to end. One that leaves is counted out."""
        with self._changed:
            if self._closed:
                return True
            if not self._leaving:
                return False
            self._leaving -= 1
            self._slots -= 1
            self._ends_any = self._leaving > 0
            return True

    def _wait_for_one(self) -> Held | None:
        with self._changed:
            self.idle += 1
            try:
                self._on_low()
                while not (self._ends_any and self._ends()):
                    try:
                        return self._jobs.popleft()
                    except IndexError:
                        self._wait()
                return None
            finally:
                self.idle -= 1
                self._notify()

    def _wait(self) -> None:
        try:
            self._changed.wait()
        finally:
            self._is_waking = False

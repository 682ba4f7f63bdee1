"""What a child is ordered to run ahead of its turn, so that it need not wait for the daemon between short handlers."""

from collections import deque
from collections.abc import Callable

from ayb_jobs.handlers.job_type import Isolated, JobType
from ayb_jobs.runtime.executors.child_process import Child
from ayb_jobs.runtime.executors.orders import Run
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import Held
from ayb_jobs.runtime.jobs.payloads import Payloads

# Jobs are ordered ahead if they can start within this time, and taken back if the handler before them takes longer.
AHEAD_S = 0.02
MOST_AHEAD = 32
# How much of the newest run counts in the average.
NEWEST = 0.1


class Ahead:
    """The jobs that one child was ordered to run after the one that it runs, in their order.

    They come from `buffer`, no more than this slot's share of it, and go back to its front if they are taken back.
    A job is `sent` from its order on, unless it was taken back: it may have begun.
    """

    def __init__(self, buffer: Buffer, find: Callable[[str], JobType | None]) -> None:
        self._buffer = buffer
        self._find = find
        self._jobs: deque[Held] = deque()
        self._mean_s: float | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    def ran(self, seconds: float) -> None:
        """Take note of how long a handler ran."""
        self._mean_s = seconds if self._mean_s is None else self._mean_s + NEWEST * (seconds - self._mean_s)

    def runs_within(self, seconds: float) -> int:
        """Return how many handlers run within this time on average; 0 if that is not known."""
        return int(seconds / self._mean_s) if self._mean_s else 0

    def order(self, child: Child, most: int) -> None:
        """Order what can start soon, once half of it is done; `most` is how many more the child may run."""
        wanted = min(self.runs_within(AHEAD_S), MOST_AHEAD, most)
        if not wanted or len(self._jobs) > wanted // 2:
            return
        taken = self._buffer.take_ahead(wanted - len(self._jobs), self._can_be_sent)
        for number, held in enumerate(taken):
            held.sent = True
            try:
                is_ordered = child.order_ahead(Run(held.job, self._timeout_s(held)))
            except BaseException:
                self._put_back(taken[number:])
                raise
            if not is_ordered:
                self._put_back(taken[number:])
                return
            self._jobs.append(held)

    def next(self, child: Child | None) -> Held | None:
        """Return the job whose turn it is, which has begun, or may at any moment; None if there is none."""
        if self._jobs and (self._buffer.closed or not self._may_begin(self._jobs[0])):
            self.take_back(child)
        return self._jobs.popleft() if self._jobs else None

    def take_back(self, child: Child | None) -> bool:
        """Take back what the child has not begun; tell whether that is the job before these, too.

        If any of these are left, the first has begun, so the job before it has ended.
        """
        before = len(self._jobs)
        count = 0 if child is None else child.take_back()
        self._put_back([self._jobs.pop() for _ in range(min(count, len(self._jobs)))][::-1])
        return count > before

    def _put_back(self, taken: list[Held]) -> None:
        for held in taken:
            held.sent = False
        if taken:
            self._buffer.put_front(taken)

    def _can_be_sent(self, held: Held) -> bool:
        """Tell whether a job can begin without a further look at it by the daemon."""
        job_type = self._find(held.job.type)
        return (
            job_type is not None
            and isinstance(job_type.run, Isolated)
            and not Payloads.are_left(held.job)
            and self._may_begin(held)
        )

    def _may_begin(self, held: Held) -> bool:
        paused = self._buffer.paused
        return not held.lost and not (paused.any and paused.holds(held.job))

    def _timeout_s(self, held: Held) -> float | None:
        job_type = self._find(held.job.type)
        return held.job.timeout_s or (job_type.timeout_s if job_type else None)

"""Runs asynchronous handlers: one thread with one event loop, on which each attempt is a task."""

import asyncio
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from functools import partial
from typing import Any

from ayb_jobs import failpoints
from ayb_jobs.errors import Stopped
from ayb_jobs.events import Emit, JobOverran, LoopFailed
from ayb_jobs.forks import PROCESS
from ayb_jobs.handlers.async_context import AsyncJobContext
from ayb_jobs.handlers.context import JobContext, StopReason
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.results import as_result
from ayb_jobs.runtime.executors.loop_watch import Step, TimedSelector, place_of
from ayb_jobs.runtime.executors.threads import end_process
from ayb_jobs.runtime.jobs.attempts import Attempts, readable, unknown
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import Held
from ayb_jobs.runtime.jobs.payloads import Payloads
from ayb_jobs.runtime.jobs.survival import Survival
from ayb_jobs.runtime.loop import Failures
from ayb_jobs.storage.async_database import AsyncDatabase
from ayb_jobs.storage.faults import is_outage

NAME = "event loop"
# What would block the loop (progress, large payloads) is done by so many threads.
THREADS = 2
# Places that become free are told together, so that jobs are leased in batches while many end.
TELL_S = 0.005
CLOSE_S = 2.0
# A loop that ran for so long since its last failure does not fail again and again.
QUIET_S = 2.0
# How much of the newest run counts in the average.
NEWEST = 0.1


class EventLoop:
    """Runs up to `concurrency` asynchronous attempts at once.

    Jobs that have no place yet wait in `buffer`, whose `idle` are the free places. `on_room` is called soon after that
    runs low, and `on_work` when the first attempt is handed over. An attempt is stopped by canceling its task: at its
    timeout, if its lease is lost, and at the end of a shutdown (`cancel_all`).
    """

    def __init__(
        self,
        *,
        concurrency: int,
        find: Callable[[str], JobType | None],
        attempts: Attempts,
        payloads: Payloads,
        database: AsyncDatabase,
        emit: Emit,
        on_room: Callable[[], None],
        on_work: Callable[[], None],
    ) -> None:
        self.buffer = Buffer(on_low=on_room, paused=attempts.paused, wake=lambda: self._soon(self._begin_put))
        self.buffer.idle = concurrency  # written by the loop's thread from now on
        self._concurrency = concurrency
        self._find = find
        self._attempts = attempts
        self._payloads = payloads
        self._database = database
        self._emit = emit
        self._on_work = on_work
        self._mean_s: float | None = None
        self._last_end = -math.inf
        self._tasks: dict[asyncio.Task[None], Held] = {}
        self._running: set[Held] = set()
        self._ending = False
        self._tells = False
        self._survival = Survival(NAME, attempts, emit)
        self._pid = os.getpid()
        self.selector = TimedSelector(self._end_child)
        self._loop = asyncio.SelectorEventLoop(self.selector)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="async-helper")
        self._thread = threading.Thread(target=self._work, name=NAME, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def running(self) -> int:
        """How many attempts have a place, from before they begin until they have ended."""
        return self._concurrency - self.buffer.idle

    def is_at_work(self) -> bool:
        """Tell whether any run, or are to begin."""
        return self.running() > 0 or len(self.buffer) > 0

    def held(self) -> list[Held]:
        """Return the jobs whose handlers run, or are about to. One whose ending was handed over is not among them."""
        return list(self._running)

    @property
    def stuck(self) -> int:
        """How many of them were told to stop, did not, and were settled all the same."""
        return sum(held.abandoned for held in list(self._tasks.values()))

    def mean_run_s(self) -> float | None:
        """Return how long an attempt takes on average, as far as known.

        While no place is free, each attempt has taken as long as none has ended.
        """
        mean_s = self._mean_s
        if mean_s is None or self.buffer.idle:
            return mean_s
        return max(mean_s, time.monotonic() - self._last_end)

    def put(self, jobs: Sequence[Held]) -> bool:
        """Begin an attempt of each of these jobs, at once if there is a place; tell whether there was one."""
        rested = not self.is_at_work()
        has_place = self.buffer.put(jobs)
        if rested:
            self._on_work()
        return has_place

    def cancel_all(self) -> None:
        """Cancel every attempt that was asked to stop and has not ended."""
        self._soon(self._cancel_stopped)

    def stop(self) -> None:
        """End the loop and its thread. Attempts that do not let themselves be canceled are left where they are."""
        self._ending = True
        if self._thread.ident is None:
            self._loop.close()
            return
        self._soon(self._loop.stop)
        self._thread.join(2 * CLOSE_S)

    def step(self) -> Step | None:
        """Return what the loop runs now, for a thread that watches it; None if it runs no task."""
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self._thread.ident or 0)  # noqa: SLF001 - documented, whatever its name
        if task is None or frame is None:
            return None
        held = self._tasks.get(task)
        return Step(self.selector.turn, id(task), held.job if held else None, task.get_name(), place_of(frame))

    # All below runs in the loop's thread.

    def _soon(self, action: Callable[..., object], *values: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(action, *values, context=Context())

    def _work(self) -> None:
        asyncio.set_event_loop(self._loop)
        failures = Failures(NAME)
        while not self._ending:
            began = time.monotonic()
            try:
                self._loop.run_forever()
            except BaseException as error:  # such as SystemExit in a task of a handler's own
                now = time.monotonic()
                failures = failures if now - began < QUIET_S else Failures(NAME)
                self._emit(event := failures.another(error, now))
                if failures.count > 1:
                    threading.Event().wait(event.retry_s)
        self._end()

    def _end(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        try:
            self._loop.run_until_complete(asyncio.wait_for(self._database.close(), CLOSE_S))
            for client in self._attempts.services.clients.values():
                self._loop.run_until_complete(asyncio.wait_for(client.close(), CLOSE_S))
            self._loop.run_until_complete(asyncio.wait_for(self._loop.shutdown_asyncgens(), CLOSE_S))
        except BaseException as error:  # whatever it is, nothing depends on it any more
            self._emit(LoopFailed(loop=NAME, error=error, retry_s=0.0))
        self._loop.close()

    def _end_child(self) -> None:
        """End a process that a handler forked, and that came out of it: the job is its parent's."""
        if PROCESS.forked and os.getpid() != self._pid:
            end_process(sys.exc_info()[1])

    def _begin_put(self) -> None:
        """Begin what was handed over; have more leased at once if there are places left."""
        self._begin_waiting()
        if self.buffer.idle:
            self.buffer.tell_low()

    def _begin_waiting(self) -> None:
        """Give jobs the places that are free. Once the buffer is closed, they stay in it."""
        buffer = self.buffer
        while buffer.idle and (held := buffer.take_now()) is not None:
            buffer.idle -= 1
            try:
                self._begin_one(held)
            except BaseException as error:  # whatever it is, the others begin
                self._survive(held, error)

    def _begin_one(self, held: Held) -> None:
        if held.lost:
            self._give_up(held)
            self.buffer.idle += 1
            self._tell_soon()
            return
        # A context of its own: what one handler sets, no other sees.
        self._running.add(held)
        task = self._loop.create_task(self._run(held), name=f"{held.job.type} {held.job.id}", context=Context())
        self._tasks[task] = held
        task.add_done_callback(self._let_go)

    def _let_go(self, task: asyncio.Task[None]) -> None:
        held = self._tasks.pop(task)
        try:
            if task.cancelled():  # perhaps before it began: nobody else gives it back then
                self._attempts.dropped(held, asyncio.CancelledError())
            else:
                task.result()
        except BaseException as error:  # whatever it is, the job gets an ending
            self._survive(held, error)
            return
        self._running.discard(held)
        self._survival.worked()
        self._note_run(held)
        self._free_place()

    def _survive(self, held: Held, error: BaseException) -> None:
        """Tell a failure, and hand over an ending of its job; for a moment, nothing else gets the place."""
        self._running.discard(held)
        self._loop.call_later(self._survival.failed(held, error), self._free_place)

    def _note_run(self, held: Held) -> None:
        if held.started:  # else it never began
            self._last_end = now = time.monotonic()
            run_s, mean_s = now - held.started, self._mean_s
            self._mean_s = run_s if mean_s is None else mean_s + NEWEST * (run_s - mean_s)

    def _free_place(self) -> None:
        self.buffer.idle += 1
        self._begin_waiting()
        self._tell_soon()

    def _tell_soon(self) -> None:
        if not self._tells and self.buffer.is_low:
            self._tells = True
            self._loop.call_later(TELL_S, self._tell_low)

    def _tell_low(self) -> None:
        self._tells = False
        self.buffer.tell_low()

    def _cancel_stopped(self) -> None:
        for task, held in list(self._tasks.items()):
            if held.context is None or held.context.stop_reason is not None:
                task.cancel()

    async def _run(self, held: Held) -> None:
        if not self._payloads.are_left(held.job):
            await self._attempt(held, held.job)
            return
        started = time.monotonic()
        try:
            fetched = await self._in_thread(
                partial(self._payloads.fetch, held.job, lambda: held.lost or self.buffer.closed)
            )
        except asyncio.CancelledError:
            self._give_up(held)
            return
        except Exception as error:  # whatever it is, the attempt ends
            if is_outage(error):
                self._give_up(held)
            else:
                context = self._attempts.without_payload(held)
                self._running.discard(held)
                self._attempts.raised(held, context, error, started, time.monotonic())
            return
        if fetched is None:
            self._give_up(held)
            return
        try:
            await self._attempt(held, fetched.job)
            held.context = self._attempts.without_payload(held)  # the payload need not wait for the settlement
        finally:
            self._payloads.put_back(fetched)

    def _give_up(self, held: Held) -> None:
        self._running.discard(held)
        self._attempts.give_up(held)

    async def _in_thread(self, action: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, action)

    async def _attempt(self, held: Held, job: LeasedJob) -> None:
        """Run a handler, and hand over how that ended. `job` is the held one with its whole payload."""
        if self._attempts.paused.any and self._attempts.paused.holds(job):
            self._give_up(held)
            return
        job_type = self._find(job.type)
        context = self._attempts.begin(held, job, job_type)
        theirs = AsyncJobContext(context, self._database, self._threads)
        timer = self._stopped_by(held, context, theirs)
        try:
            failpoints.reach(failpoints.BEGUN)
            readable(context)
            result = as_result(await started(job_type, theirs) if job_type else unknown(job))
            failpoints.reach(failpoints.ENDED)
        except GeneratorExit:  # the loop is gone: nobody would take the ending
            raise
        except BaseException as error:  # even SystemExit ends an attempt, not the loop
            self._end_child()
            told = stopped(error, context)
            self._running.discard(held)
            self._attempts.raised(held, context, told, held.started, time.monotonic())
        else:
            self._end_child()
            self._running.discard(held)
            self._attempts.returned(held, context, result, time.monotonic())
        finally:
            if timer is not None:
                timer.cancel()

    def _stopped_by(self, held: Held, context: JobContext, theirs: AsyncJobContext) -> asyncio.TimerHandle | None:
        """Have the running task canceled once its handler must end; return what times it out."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()

        def stop(reason: StopReason) -> None:
            theirs.asked_to_stop()
            if reason != "shutdown" and task is not None:  # a shutdown lets it end by itself for a while
                task.cancel()

        def overrun() -> None:
            if context.stop_reason is None:
                context.stop("timeout")
                timeout_s = 0.0 if context.deadline is None else context.deadline - held.started
                self._emit(JobOverran(job=held.job, timeout_s=timeout_s, abandoned=False))

        context.when_stopped(lambda reason: self._soon(stop, reason))
        return None if context.deadline is None else loop.call_at(context.deadline, overrun)


async def started(job_type: JobType, context: AsyncJobContext) -> Any:
    """Await a handler."""
    awaitable: Coroutine[Any, Any, Any] = job_type.run(context)
    return await awaitable


def stopped(error: BaseException, context: JobContext) -> BaseException:
    """Return what ended an attempt in words: that its task was canceled says nothing to whoever reads of it."""
    if isinstance(error, asyncio.CancelledError) and context.stop_reason is not None:
        return Stopped(context.stop_reason)
    return error

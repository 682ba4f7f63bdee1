"""Runs isolated handlers: each slot keeps a child process, and kills it if its handler must end and does not."""

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from ayb_jobs.errors import ChildDied
from ayb_jobs.events import Emit, JobOverran, LoopFailed
from ayb_jobs.handlers.context import JobContext, StopReason
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.runtime.executors.ahead import AHEAD_S, Ahead
from ayb_jobs.runtime.executors.child import Settings, Stop
from ayb_jobs.runtime.executors.child_endings import outcome
from ayb_jobs.runtime.executors.child_process import END_S, Child
from ayb_jobs.runtime.executors.forking import ForkServer
from ayb_jobs.runtime.executors.orders import Run
from ayb_jobs.runtime.executors.successor import SOON_S, Successor
from ayb_jobs.runtime.jobs.in_flight import Held
from ayb_jobs.storage.queue.settling import Settled

# How long a handler may take to end once it was told to.
GRACE_S = 2.0
RETRY_S = 1.0
LOST = "the child process was killed, since the daemon failed while the handler before ran; its log has the details"


class NeverBegan(ChildDied):
    """A child process died before it took the order to run a job."""


class Processes:
    """Runs one slot's isolated handlers, one at a time, in a child that it keeps.

    While handlers are short, the child is ordered to run some more ahead of their turn. It is replaced after
    `most_runs` handlers, and if it holds more than half of the memory that it may have. If handlers are short, the one
    that takes its place is begun before. All but `kill` is called in the slot's thread.
    """

    def __init__(
        self,
        *,
        name: str,
        settings: Settings,
        fork_server: ForkServer,
        most_runs: int,
        ahead: Ahead,
        emit: Emit,
    ) -> None:
        self._name = name
        self._ahead = ahead
        self._sent = False  # whether the child was ordered to run the slot's job ahead
        self._death: str | None = None  # how the child ended that was
        self._fork_server = fork_server
        self._settings = settings
        self._most_runs = most_runs
        self._emit = emit
        self._child: Child | None = None
        self._successor: Successor | None = None
        self._began = 0.0
        self._kill_at: float | None = None
        self._closed = threading.Event()
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)

    def next(self, take: Callable[[], Held | None]) -> Held | None:
        """Take the slot's next job, once there is a child to run it: until then the slot has no room.

        If there is no next job, the child is ended.
        """
        if self._sent:  # nobody awaits the end of what the child runs: something failed before that
            self._lose_child()
        begun = self._ahead.next(self._child)
        self._sent = begun is not None
        if begun is not None:
            return begun
        self._death = None
        self._begin_child()
        taken = take()
        if taken is None:
            self._drop()
        return taken

    def _begin_child(self) -> None:
        told = False
        while self._child is None and not self._closed.is_set():
            successor, self._successor = self._successor, None
            try:
                self._child = successor.take() if successor is not None else self._new_child()
            except Exception as error:  # whatever it is, the slot lives and tells
                if not told and not self._closed.is_set():
                    self._emit(LoopFailed(loop=self._name, error=error, retry_s=RETRY_S))
                told = True
                self._closed.wait(RETRY_S)

    def _new_child(self) -> Child:
        return Child(self._fork_server, self._settings, self._closed, woken=self._woken)

    def _begin_successor(self, child: Child) -> None:
        """Begin the child that is to take this one's place, if that is soon: meanwhile many handlers can run."""
        if self._successor is None and self._most_runs - child.runs <= self._ahead.runs_within(SOON_S):
            with suppress(RuntimeError):  # no thread can begin: then the next one is begun once it is needed
                self._successor = Successor(self._new_child)

    def run(self, job_type: JobType, context: JobContext) -> object:
        """Run a handler in the child, and return what it returns; raises what it raises, and `ChildDied`."""
        context.elsewhere = partial(self._run, context)
        return job_type.run(context)

    def kill(self) -> None:
        """Kill the handler that runs if it was asked to stop, and start no more children."""
        self._closed.set()
        self._kill_at = time.monotonic()
        self._ring()

    def close(self) -> None:
        """End the children. Nothing may run any more."""
        self._closed.set()
        self._drop()
        successor, self._successor = self._successor, None
        if successor is not None and (child := successor.take()) is not None:
            child.kill()
        for descriptor in (self._woken, self._wake):
            with suppress(OSError):
                os.close(descriptor)

    def _run(self, context: JobContext) -> object:
        try:
            return outcome(self._run_in_child(context))
        except NeverBegan:
            self._begin_child()
            return outcome(self._run_in_child(context))

    def _run_in_child(self, context: JobContext) -> dict[str, Any]:
        """Return the message that tells how the attempt ended. Raises `NeverBegan` if the child died before that."""
        child = self._child
        if child is None:
            self._sent = False
            raise ChildDied(self._death or "there is no child process, since the daemon is stopping")
        try:
            return self._follow(child, context)
        except ChildDied:
            raise
        except BaseException:  # the child runs the job, and its end would be taken for that of the next one
            self._lose_child()
            raise

    def _follow(self, child: Child, context: JobContext) -> dict[str, Any]:
        self._began = time.monotonic()
        self._kill_at = self._began if self._closed.is_set() else None
        if not self._sent:
            child.order(Run(context.job, context.remaining_s()))
        if not self._is_large(child):
            self._ahead.order(child, self._most_runs - child.runs - 1)
            self._begin_successor(child)
        context.when_stopped(partial(self._told, child, context))
        try:
            message = self._await_end(child, context)
        except ChildDied as died:
            self._sent, self._death = False, str(died)
            if self._drop() and context.stop_reason is None:
                raise NeverBegan(self._death) from None
            raise
        finally:
            context.when_stopped(ignore)
        self._sent = False
        self._ahead.ran(time.monotonic() - self._began)
        self._count(child)
        return message

    def _count(self, child: Child) -> None:
        """Count a run, and have the child replaced if it has run or holds enough."""
        child.runs += 1
        if child.runs >= self._most_runs or self._is_large(child):
            self._ahead.take_back(child)
            if not self._ahead:  # else one has begun, and ends first
                self._drop(wait_s=0.0)

    def _told(self, child: Child, context: JobContext, reason: StopReason) -> None:
        """Tell the handler that it is to stop, in the thread that asks for it."""
        child.stop(Stop(context.job.lease_id, reason))
        if reason != "shutdown":  # a shutdown lets it end by itself for a while
            self._kill_at = time.monotonic() + GRACE_S
        self._ring()

    def _await_end(self, child: Child, context: JobContext) -> dict[str, Any]:
        """Return the message that tells how the attempt ended; kill the child if it must end before that."""
        while True:
            now = time.monotonic()
            if context.deadline is not None and now >= context.deadline and context.stop_reason is None:
                self._overrun(context)
            ahead_no_more = context.stop_reason is not None or now >= self._began + AHEAD_S
            if ahead_no_more and self._ahead and self._ahead.take_back(child):
                child.order_again(Run(context.job, context.remaining_s()))
            kill_at = self._killed_at(context)
            if kill_at is not None and now >= kill_at:
                child.kill()
                raise ChildDied(f"the handler was asked to stop ({context.stop_reason}), and its process was killed")
            message = child.receive(self._pause_s(context, now))
            if message is None:
                with suppress(BlockingIOError):
                    os.read(self._woken, 64)
            elif "raised" in message or "returned" in message:
                context.records_processed = message.get("records")
                child.memory_mib = int(message.get("memory_mib") or 0)
                return message
            else:
                self._pass_on(message, context)

    def _killed_at(self, context: JobContext) -> float | None:
        """Return when the child is to be killed, if its handler is to stop.

        If it has begun the next one, the handler has ended, and the message that says so is on its way.
        """
        if context.stop_reason is None or self._kill_at is None:
            return None
        return self._kill_at + (GRACE_S if self._ahead else 0.0)

    def _pause_s(self, context: JobContext, now: float) -> float | None:
        end = context.deadline if context.stop_reason is None else self._killed_at(context)
        if self._ahead and now < self._began + AHEAD_S:
            end = min(self._began + AHEAD_S, self._began + AHEAD_S if end is None else end)
        return None if end is None else max(0.0, end - now)

    def _overrun(self, context: JobContext) -> None:
        context.stop("timeout")
        timeout_s = (context.deadline or self._began) - self._began
        self._emit(JobOverran(job=context.job, timeout_s=timeout_s, abandoned=False))

    def _pass_on(self, message: dict[str, Any], context: JobContext) -> None:
        """Do what a message asks for that is not the attempt's end."""
        if "settled" in message:
            context.records_processed = message["settled"]
            leases = {context.job.lease_id}
            context.completed(context.completion(), Settled(leases, leases if message.get("unlogged") else frozenset()))
        elif "line" in message and isinstance(message.get("fields"), dict):
            fields = {key: value for key, value in message["fields"].items() if key.isidentifier()}
            event = str(fields.pop("event", ""))
            getattr(context.log, level_of(message["line"]))(event, **fields)
        elif "library" in message:
            logging.getLogger(str(message["library"])).log(int(message["level"]), "%s", message["text"])

    def _is_large(self, child: Child) -> bool:
        return 0 < self._settings.memory_mib < 2 * child.memory_mib

    def _drop(self, wait_s: float = END_S) -> bool:
        """Kill the child, and take back what it has not begun; tell whether that is the slot's job, too."""
        child, self._child = self._child, None
        if child is not None:
            child.kill(wait_s)
        return self._ahead.take_back(child)

    def _lose_child(self) -> None:
        self._sent, self._death = False, LOST
        self._drop()

    def _ring(self) -> None:
        with suppress(OSError):
            os.write(self._wake, b".")


def ignore(_: StopReason) -> None:
    """Tell nobody: the attempt has ended."""


def level_of(word: object) -> str:
    """Return a level that every logger has."""
    return word if isinstance(word, str) and word in ("debug", "info", "warning", "error", "critical") else "info"

"""Runs isolated handlers: each slot keeps a child process, and kills it if its handler must end and does not."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from ayb_jobs.errors import AybJobsError, ChildDied, Discard, LeaseLost, PayloadUndecodable, Stopped
from ayb_jobs.events import Emit, JobOverran, LoopFailed
from ayb_jobs.handlers.context import JobContext, StopReason
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.model.results import Cancel, Returned, Snooze
from ayb_jobs.model.words import signal_name
from ayb_jobs.runtime.executors.child import Run, Settings, Stop
from ayb_jobs.storage.queue.settling import Settled

T = TypeVar("T")

# How long a handler may take to end once it was told to.
GRACE_S = 2.0
# How long a child may take to import the handlers.
START_S = 60.0
RETRY_S = 1.0
# How soon the end of a child is noticed where the kernel cannot tell of it.
LOOK_S = 0.5
PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from ayb_jobs.runtime.executors.child import main
main(int(sys.argv[2]), int(sys.argv[3]))
"""


class Child:
    """A child process, as its daemon holds it: it leads a session of its own, so that all it forks ends with it."""

    def __init__(self, settings: Settings, closed: threading.Event) -> None:
        self.runs = 0
        self.memory_mib = 0
        ours, theirs = socket.socketpair()
        end, self._lifeline = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, json.dumps(sys.path), str(theirs.fileno()), str(end)],
                pass_fds=(theirs.fileno(), end),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            os.close(self._lifeline)
            raise
        finally:
            theirs.close()
            os.close(end)
        self.pid = self._process.pid
        self._talk = Connection(ours.detach())
        self._ended = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None
        self._sending = threading.Lock()
        try:
            self.send(settings)
            self._await_ready(closed)
        except BaseException:
            self.kill()
            raise

    def send(self, order: Any) -> None:
        """Send an order; a child that is gone is noticed by who waits for its answer."""
        with self._sending, suppress(OSError):
            self._talk.send(order)

    def receive(self, timeout_s: float | None, also: int | None = None) -> dict[str, Any] | None:
        """Return the next message; None if the time is over, or the descriptor `also` is readable.

        Raises `ChildDied` if there will be none.
        """
        sources: list[Any] = [self._talk, *(fd for fd in (self._ended, also) if fd is not None)]
        if self._ended is None:
            timeout_s = min(LOOK_S, LOOK_S if timeout_s is None else timeout_s)
        ready = wait(sources, timeout_s)
        if self._talk in ready:
            try:
                message = json.loads(self._talk.recv_bytes())
            except (EOFError, OSError, ValueError):
                raise ChildDied(self.death()) from None
            if isinstance(message, dict):
                return message
            raise ChildDied("the child process sent what is no message")
        if self._ended in ready or self._process.poll() is not None:
            raise ChildDied(self.death())
        return None

    def _await_ready(self, closed: threading.Event) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until and not closed.is_set():
            message = self.receive(LOOK_S / 5) or {}
            if message.get("ready"):
                return
            if "failed" in message:
                raise ChildDied(f"a child process cannot load its handlers: {message['failed']}")
        raise ChildDied(f"a child process did not load its handlers within {START_S:g} s")

    def death(self) -> str:
        """Kill what is left of the process, and say how it ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        self.kill()
        code = self._process.returncode
        if code is not None and code < 0:
            meaning = signal.strsignal(-code)
            return f"the child process was killed by {signal_name(-code)}" + (f" ({meaning})" if meaning else "")
        return f"the child process ended with exit code {code} while its handler ran"

    def kill(self) -> None:
        """Kill the process and all that it has forked, and let go of it. May come twice."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._talk.close()
        for descriptor in (self._ended, self._lifeline):
            if descriptor is not None:
                with suppress(OSError):
                    os.close(descriptor)
        self._ended, self._lifeline = None, -1


class Processes:
    """Runs one slot's isolated handlers, one at a time, in a child that it keeps.

    The child is replaced after `most_runs` handlers, and if it holds more than half of the memory that it may have.
    All but `kill` is called in the slot's thread.
    """

    def __init__(self, *, name: str, settings: Settings, most_runs: int, emit: Emit) -> None:
        self._name = name
        self._settings = settings
        self._most_runs = most_runs
        self._emit = emit
        self._child: Child | None = None
        self._began = 0.0
        self._kill_at: float | None = None
        self._closed = threading.Event()
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)

    def next(self, take: Callable[[], T | None]) -> T | None:
        """Take the slot's next job, once there is a child to run it: until then the slot has no room.

        If there is no next job, the child is ended.
        """
        told = False
        while self._child is None and not self._closed.is_set():
            try:
                self._child = Child(self._settings, self._closed)
            except Exception as error:  # whatever it is, the slot lives and tells
                if not told and not self._closed.is_set():
                    self._emit(LoopFailed(loop=self._name, error=error, retry_s=RETRY_S))
                told = True
                self._closed.wait(RETRY_S)
        taken = take()
        if taken is None:
            self._drop()
        return taken

    def __call__(self, job_type: JobType, context: JobContext) -> object:
        """Run a handler in the child, and return what it returns; raises what it raises, and `ChildDied`."""
        context.elsewhere = partial(self._run, context)
        return job_type.run(context)

    def kill(self) -> None:
        """Kill the handler that runs if it was asked to stop, and start no more children."""
        self._closed.set()
        self._kill_at = time.monotonic()
        self._ring()

    def close(self) -> None:
        """End the child. Nothing may run any more."""
        self._closed.set()
        self._drop()
        for descriptor in (self._woken, self._wake):
            with suppress(OSError):
                os.close(descriptor)

    def _run(self, context: JobContext) -> object:
        child = self._child
        if child is None:
            raise ChildDied("there is no child process, since the daemon is stopping")
        self._began = time.monotonic()
        self._kill_at = self._began if self._closed.is_set() else None
        child.send(Run(context.job, context.deadline))
        context.when_stopped(partial(self._told, child, context))
        try:
            message = self._await_end(child, context)
        except ChildDied:
            self._drop()
            raise
        finally:
            context.when_stopped(ignore)
        child.runs += 1
        if child.runs >= self._most_runs or self._is_large(child):
            self._drop()
        return outcome(message)

    def _told(self, child: Child, context: JobContext, reason: StopReason) -> None:
        """Tell the handler that it is to stop, in the thread that asks for it."""
        child.send(Stop(context.job.lease_id, reason))
        if reason != "shutdown":  # a shutdown lets it end by itself for a while
            self._kill_at = time.monotonic() + GRACE_S
            self._ring()

    def _await_end(self, child: Child, context: JobContext) -> dict[str, Any]:
        """Return the message that tells how the attempt ended; kill the child if it must end before that."""
        while True:
            now = time.monotonic()
            if context.deadline is not None and now >= context.deadline and context.stop_reason is None:
                self._overrun(context)
            if self._kill_at is not None and now >= self._kill_at and context.stop_reason is not None:
                child.kill()
                raise ChildDied(f"the handler was asked to stop ({context.stop_reason}), and its process was killed")
            message = child.receive(self._pause_s(context, now), self._woken)
            if message is None:
                with suppress(BlockingIOError):
                    os.read(self._woken, 64)
            elif "raised" in message or "returned" in message:
                context.records_processed = message.get("records")
                child.memory_mib = int(message.get("memory_mib") or 0)
                return message
            else:
                self._pass_on(message, context)

    def _pause_s(self, context: JobContext, now: float) -> float | None:
        ends = [self._kill_at] if context.stop_reason is not None else [context.deadline]
        return next((max(0.0, end - now) for end in ends if end is not None), None)

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

    def _drop(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _ring(self) -> None:
        with suppress(OSError):
            os.write(self._wake, b".")


def ignore(_: StopReason) -> None:
    """Tell nobody: the attempt has ended."""


def level_of(word: object) -> str:
    """Return a level that every logger has."""
    return word if isinstance(word, str) and word in ("debug", "info", "warning", "error", "critical") else "info"


def outcome(message: dict[str, Any]) -> object:
    """Return what the handler returned, or raise what it raised."""
    if "raised" in message:
        raise error_of(str(message.get("kind")), str(message["raised"]))
    match message["returned"]:
        case {"snooze": float(seconds) | int(seconds)}:
            return Snooze(seconds)
        case {"cancel": str(reason)}:
            return Cancel(reason)
        case {"kept": str(text)}:
            return Returned(text)
        case {"value": value}:
            return value
        case other:
            raise ChildDied(f"the child process returned {other!r:.100}")


class HandlerRaised(AybJobsError):
    """A handler in a child process raised this."""


def error_of(kind: str, text: str) -> AybJobsError:
    """Return the error that a handler raised in its child, with the text that tells of it."""
    match kind:
        case "Discard":
            return Discard(text)
        case "PayloadUndecodable":
            return PayloadUndecodable(text)
        case "LeaseLost":
            return LeaseLost(text)
        case "Stopped":
            return Stopped("asked in its child process")
        case _:
            return HandlerRaised(text)

"""One command from its start to its end, as the thread of its job sees it."""

import os
import select
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ayb_jobs.errors import AttemptFailed
from ayb_jobs.handlers.commands.spawner import Link, Request, Spawner, kill_group

CHUNK = 64 * 1024
# How long what a command has written is read on after its end. Only a process that left its group still holds the pipe.
DRAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: by an exit code, or by a signal."""

    exit: int | None
    signal: int | None


class Command:
    """A command that runs. `stop` may be called from any thread; `wait` reads what it writes until it has ended."""

    def __init__(self, spawner: Spawner, request: Request, payload: bytes) -> None:
        self._request = request
        self._pid: int | None = None
        self._ended: Ended | None = None
        ours: list[int] = []
        given: list[int] = []
        try:
            for _ in ("output", "notes"):
                reading, writing = os.pipe2(os.O_CLOEXEC)
                ours.append(reading)
                given.append(writing)
            given.insert(0, in_memory(payload))
            self._link: Link = spawner.start(request, given)
        except BaseException:
            close_all(ours)
            raise
        finally:
            close_all(given)
        self.output, self.notes = ours

    def stop(self, grace_s: float) -> None:
        """Have the command stopped: SIGTERM to its group now, SIGKILL after so many seconds."""
        self._link.stop(grace_s)

    def close(self) -> None:
        """Let go of the command; if it still runs, it is killed."""
        self._link.close()
        os.close(self.output)
        os.close(self.notes)

    def wait(self, on_output: Callable[[bytes], None], on_notes: Callable[[bytes], None]) -> Ended:
        """Hand on what the command writes, as it comes, until it has ended; return how.

        Raises `AttemptFailed` if it could not be started, or if the process that starts commands died.
        """
        takers = {self.output: on_output, self.notes: on_notes}
        poll = select.poll()
        for descriptor in takers:
            poll.register(descriptor, select.POLLIN)
        poll.register(self._link, select.POLLRDHUP)  # not for what it tells before the end
        until: float | None = None
        while takers and (until is None or time.monotonic() < until):
            for descriptor, _ in poll.poll(None if until is None else max(0.0, until - time.monotonic()) * 1000):
                if descriptor == self._link.fileno():
                    self._hear_end()
                    poll.unregister(descriptor)
                    until = time.monotonic() + DRAIN_S
                elif not read_once(descriptor, takers[descriptor]):
                    poll.unregister(descriptor)
                    del takers[descriptor]
        return self._hear_end()

    def _hear_end(self) -> Ended:
        """Return how the command ended, once it has."""
        while self._ended is None:
            self._hear()
        return self._ended

    def _hear(self) -> None:
        match self._link.hear():
            case "pid", pid:
                self._pid = int(pid)
            case "exit", code:
                self._ended = Ended(int(code), None)
            case "signal", number:
                self._ended = Ended(None, int(number))
            case "refused", why:
                raise AttemptFailed(f"{self._request.program} cannot be started: {why}")
            case _:
                if self._pid is not None:
                    kill_group(self._pid)
                raise AttemptFailed("the process that starts commands died, so the command was killed")


def close_all(descriptors: Sequence[int]) -> None:
    """Close these."""
    for descriptor in descriptors:
        os.close(descriptor)


def read_once(descriptor: int, take: Callable[[bytes], None]) -> bool:
    """Hand on what can be read; False at the end."""
    written = os.read(descriptor, CHUNK)
    if written:
        take(written)
    return bool(written)


def in_memory(content: bytes) -> int:
    """Return the descriptor of a file in memory that holds this, to be read from its beginning."""
    descriptor = os.memfd_create("ayb-jobs-payload", os.MFD_CLOEXEC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        with suppress(OSError):
            os.close(descriptor)
        raise
    return descriptor

"""Writes lines to a file descriptor from a thread of its own, so that nobody ever waits for a log."""

import contextlib
import math
import os
import select
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

# A reader who falls further behind than this loses lines rather than memory.
MOST_WAITING = 4096
BATCH = 256
TICK_S = 1.0


class Sink:
    """Takes lines at once and writes them when it can.

    Lines that find the queue full, or whose write fails, are dropped and counted; once writing works again
    `on_dropped` is called with their number. `on_tick` is called about once a second, from a line that is written until
    a second has passed without one. Both run in the writing thread.
    With `fd` None every line is dropped.
    """

    def __init__(self, fd: int | None) -> None:
        # A descriptor of our own: should stderr be closed, its number may soon belong to a database connection.
        self._fd = None if fd is None else os.dup(fd)
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._dropped = 0
        self._torn = False
        self._ended = False
        self.on_dropped: Callable[[int], None] = lambda _count: None
        self.on_tick: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, line: str) -> None:
        """Have a line written, without waiting; dropped where too many wait already, or after `close`."""
        if self._ended or self._fd is None or (self._lines.qsize() >= MOST_WAITING and not self._is_writer()):
            self._drop(1)
        else:
            self._lines.put(line)

    @property
    def dropped(self) -> int:
        """How many lines were dropped and have not been told of yet."""
        return self._dropped

    def close(self, timeout_s: float) -> bool:
        """Write what waits, for at most `timeout_s` seconds, and stop; tell whether all was written. May come twice."""
        self._lines.put(None)
        self._thread.join(timeout_s)
        return self._ended and not self._dropped

    def _run(self) -> None:
        next_tick, is_quiet = math.inf, True
        closing = False
        while not closing:
            lines, closing = self._take(next_tick - time.monotonic())
            self._write(lines)
            if lines:
                next_tick, is_quiet = min(next_tick, time.monotonic() + TICK_S), False
            if closing or time.monotonic() >= next_tick:
                _quietly(self.on_tick)
                next_tick, is_quiet = math.inf if is_quiet else time.monotonic() + TICK_S, True
        lines, _ = self._take(0)  # what the last tick said, and what came after the end
        self._write(lines)
        self._ended = True
        if self._fd is not None:
            os.close(self._fd)

    def _take(self, wait_s: float) -> tuple[list[str], bool]:
        """Return lines that wait, and whether the end was among them; no lines after `wait_s` seconds without one."""
        lines: list[str] = []
        closing = False
        try:
            item = self._lines.get(timeout=None if wait_s == math.inf else max(0.0, wait_s))
            while True:
                if item is None:
                    closing = True
                else:
                    lines.append(item)
                if len(lines) >= BATCH and not closing:
                    break
                item = self._lines.get_nowait()
        except Empty:
            pass
        return lines, closing

    def _write(self, lines: list[str]) -> None:
        """Write lines; drop and count what cannot be written, and say so after the next that can."""
        if not lines or self._fd is None:
            return
        unsent = memoryview(("\n" * self._torn + "".join(f"{line}\n" for line in lines)).encode("utf-8", "replace"))
        try:
            while unsent:
                unsent = unsent[self._write_some(self._fd, unsent) :]
                self._torn = bool(unsent)
        except OSError:
            self._drop(bytes(unsent).count(b"\n") or 1)
            return
        self._tell_dropped()

    def _write_some(self, fd: int, data: memoryview) -> int:
        """Return how many bytes were written; waits where the reader is slow."""
        try:
            return os.write(fd, data)
        except BlockingIOError:  # someone made the pipe non-blocking
            room = select.poll()  # unlike select, it takes descriptors of any number
            room.register(fd, select.POLLOUT)
            room.poll(TICK_S * 1000)
            return 0

    def _is_writer(self) -> bool:
        """Tell whether the writing thread asks: what it says of dropped lines must not be dropped for want of room."""
        return threading.current_thread() is self._thread

    def _drop(self, count: int) -> None:
        with self._lock:
            self._dropped += count

    def _tell_dropped(self) -> None:
        with self._lock:
            count, self._dropped = self._dropped, 0
        if count:
            _quietly(lambda: self.on_dropped(count))


def _quietly(callback: Callable[[], None]) -> None:
    """Run a callback that has nowhere to report to: it is the log itself that failed."""
    with contextlib.suppress(Exception):
        callback()

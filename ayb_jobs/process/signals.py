"""The signals that stop the process, drain it, or have it read its settings again."""

import faulthandler
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

from ayb_jobs.forks import undone_in_children

# Some send a signal to the process and, at once, to its group (timeout, shells): that is one signal, not two.
ECHO_S = 0.2
# What poll takes, in seconds; whoever waits longer asks again.
LONGEST_S = 3600.0
PIPE_BYTES = 65536
FOR_EVER_S = 3600.0 * 24 * 365
ASKED = "an operator asked"


class Signals:
    """Notes signals: the first asks for a stop, each further one cuts it short.

    A handler runs between any two steps of the main thread, so it takes no lock, not even an event's: it sets plain
    values. What ends `wait` is the interpreter's own byte in a pipe, written as the signal comes in (see `waking`): the
    handler cannot, since it runs only once the main thread does, which may be about to wait, or wait while the signal
    is given to another thread.
    """

    def __init__(self) -> None:
        self.count = 0
        self.draining = ""  # why it drains, if it does
        self._reload = False
        self.reason = ""
        self.on_second: Callable[[], None] = lambda: None  # called in the handler, so it must take no lock either
        self._first = 0.0
        self._readable, self._writable = os.pipe()
        os.set_blocking(self._readable, False)
        os.set_blocking(self._writable, False)
        self._poll = select.poll()  # unlike select, it takes descriptors of any number
        self._poll.register(self._readable, select.POLLIN)

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Note a signal."""
        now = time.monotonic()
        if self.count and now < self._first + ECHO_S:
            return
        self._first = self._first if self.count else now
        self.count += 1
        self.reason = self.reason or signal.Signals(number).name
        if self.count > 1:
            self.on_second()

    def drain(self, number: int, _frame: FrameType | None) -> None:
        """Note that no more jobs are to be taken."""
        self.draining = self.draining or signal.Signals(number).name

    def reload(self, _number: int, _frame: FrameType | None) -> None:
        """Note that the settings are to be read again."""
        self._reload = True

    def take_reload(self) -> bool:
        """Tell whether the settings are to be read again; a second call does not."""
        asked, self._reload = self._reload, False
        return asked

    def ask_drain(self) -> None:
        """Note that an operator wants no more jobs to be taken, and end the wait under way; for other threads."""
        if not self.draining:
            self.draining = ASKED
            self.wake()

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return self.count > 0

    def wait(self, timeout_s: float) -> bool:
        """Wait until a stop is asked for, at most so long, less if `wake` or another signal comes.

        Tell whether it is.
        """
        if not self.stopping and self._poll.poll(min(timeout_s, LONGEST_S) * 1000):
            os.read(self._readable, PIPE_BYTES)  # or any other signal's byte would end every later wait
        return self.stopping

    def wake(self) -> None:
        """End the wait under way, or the next one; for other threads."""
        with suppress(BlockingIOError):  # a full pipe wakes as well
            os.write(self._writable, b"\0")

    @contextmanager
    def waking(self) -> Iterator[None]:
        """Have every signal that comes in wake `wait`, whichever thread it is given to."""
        before = signal.set_wakeup_fd(self._writable, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._readable)
        os.close(self._writable)


@contextmanager
def watched_signals() -> Iterator[Signals]:
    """Have signals noted, and SIGQUIT write all stacks to stderr.

    SIGTERM and SIGINT ask for a stop, SIGUSR1 for a drain. SIGHUP says that the terminal is gone, and asks for a stop.
    In a process without one it has the settings read again.
    """
    signals = Signals()
    before = {number: signal.signal(number, signals) for number in (signal.SIGTERM, signal.SIGINT)}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signals if has_terminal() else signals.reload)
    before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, signals.drain)
    with suppress(AttributeError, ValueError, OSError):  # stderr may be closed, or no file
        faulthandler.register(signal.SIGQUIT, file=sys.stderr)
    try:
        with signals.waking(), undone_in_children(partial(_restore, before)):
            yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signals.close()


def has_terminal() -> bool:
    """Tell whether the process has a controlling terminal. To be asked at its start: a terminal that closes is gone."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    """Have signals act in a child as they did before: its parent's pipe must not hear of them, nor they be ignored."""
    signal.set_wakeup_fd(-1)
    for number, handler in handlers.items():
        signal.signal(number, handler)

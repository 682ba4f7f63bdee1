"""A terminal that is taken over: one screen at a time, keys as they are pressed, and all as it was in the end."""

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import FrameType
from typing import Self

import click

ENTER = "\x1b[?1049h\x1b[?25l"  # another screen than the shell's, without a cursor
LEAVE = "\x1b[?25h\x1b[?1049l"
HOME, TO_LINE_END, TO_SCREEN_END = "\x1b[H", "\x1b[K", "\x1b[J"
ESCAPE = b"\x1b"
# What terminals send for keys that are no letters, in either mode of the keypad.
SEQUENCES: Mapping[bytes, str] = {
    b"\x1b[A": "k", b"\x1bOA": "k", b"\x1b[B": "j", b"\x1bOB": "j", b"\x1b[5~": "b", b"\x1b[6~": " ",
    b"\x1b[H": "g", b"\x1bOH": "g", b"\x1b[1~": "g", b"\x1b[F": "G", b"\x1bOF": "G", b"\x1b[4~": "G",
}  # fmt: skip
WATCHED = (signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)
ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP}


def keys_in(typed: bytes) -> list[str]:
    """Return the keys in what a terminal sent, arrows as the letters that mean the same; others are left out.

    Escape alone is `esc`, and the key that ends a line is `enter`.
    """
    if typed == ESCAPE:
        return ["esc"]
    keys = []
    while typed:
        found = next((each for each in SEQUENCES if typed.startswith(each)), None)
        if found:
            keys.append(SEQUENCES[found])
            typed = typed[len(found) :]
            continue
        letter, typed = typed[:1], typed[1:]
        if letter == ESCAPE:  # a key that nobody asked about: the letters that follow are none
            break
        if letter in {b"\r", b"\n"}:
            keys.append("enter")
        elif letter.isalnum() or letter == b" ":
            keys.append(letter.decode())
    return keys


def is_usable() -> bool:
    """Tell whether a person sits at a terminal that can draw."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Terminal:
    """The terminal of standard input and output, for the time of a block; `wake` ends a wait from another thread.

    Ctrl-Z gives it back until the process goes on. However the block ends, the terminal's modes are as before.
    """

    def __init__(self) -> None:
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()
        self._modes = termios.tcgetattr(self._in)
        self._woken, self._waker = os.pipe()  # left open: a thread may wake us at any time until the process ends
        os.set_blocking(self._waker, False)
        os.set_blocking(self._woken, False)
        self._told: set[int] = set()
        self._shown = ""

    def __enter__(self) -> Self:
        self._handlers = {each: signal.signal(each, self._tell) for each in WATCHED}
        self._wakeup = signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        try:
            self._take()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # a second Ctrl-C leaves nothing half done
        self._give_back()
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def size(self) -> os.terminal_size:
        """Return the size as it is at this moment."""
        size = os.get_terminal_size(self._out)
        return size if size.columns and size.lines else os.terminal_size((80, 24))

    def show(self, lines: Sequence[str]) -> None:
        """Show a screen, unless it is the one that is shown."""
        text = HOME + "\n".join(line + TO_LINE_END for line in lines) + TO_SCREEN_END
        if text != self._shown:
            click.echo(text, nl=False)
            self._shown = text

    def wait(self, timeout_s: float) -> list[str]:
        """Wait until keys are pressed, the size changes, somebody wakes us or the time is over; return the keys.

        Raises `EOFError` if the terminal has gone away.
        """
        ready, _, _ = select.select([self._in, self._woken], [], [], timeout_s)
        if self._woken in ready:
            os.read(self._woken, 4096)
        self._obey()
        if self._in not in ready:
            return []
        typed = b""
        with suppress(OSError):  # how Linux tells that the terminal is gone
            typed = os.read(self._in, 1024)
        if not typed:
            raise EOFError
        return keys_in(typed)

    def wake(self) -> None:
        """End the wait that is under way, or the next."""
        with suppress(BlockingIOError):  # it is full of what ends the wait
            os.write(self._waker, b"\0")

    def _tell(self, number: int, _frame: FrameType | None) -> None:
        self._told.add(number)

    def _obey(self) -> None:
        """Do what signals asked for: here, since a handler may come in the midst of writing."""
        if signal.SIGTSTP in self._told:
            self._give_back()
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)
            signal.signal(signal.SIGTSTP, self._tell)
            self._take()
        elif signal.SIGCONT in self._told:
            self._take()
        elif signal.SIGWINCH in self._told:
            self._shown = ""
        self._told.clear()

    def _take(self) -> None:
        tty.setcbreak(self._in, termios.TCSADRAIN)
        click.echo(ENTER, nl=False)
        self._shown = ""

    def _give_back(self) -> None:
        with suppress(OSError, termios.error):  # it may be gone
            termios.tcsetattr(self._in, termios.TCSADRAIN, self._modes)
        with suppress(OSError):
            click.echo(LEAVE, nl=False)

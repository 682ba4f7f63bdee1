"""The program as a process of its own, as a user starts it."""

import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import Callable, Mapping
from pathlib import Path

from tests import forked

PROGRAM = Path(sys.executable).with_name("ayb-jobs")


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with `environ` as all that concerns the program."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AYB_")} | dict(environ)


def on_terminal(
    *arguments: str,
    columns: int,
    seen: Callable[[str], None] = lambda _: None,
    program: Path = PROGRAM,
    **environ: str,
) -> tuple[int, str]:
    """Run the program on a terminal so many columns wide; return its exit code and all that it printed there.

    `seen` is told all that was printed so far, whenever more is.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = forked.start(
        [program, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment({"TERM": "xterm-256color", **environ}),
    )
    os.close(slave)
    printed = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # how Linux tells that the last process has left the terminal
            break
        if not part:
            break
        printed += part
        seen(printed.decode(errors="replace"))
    os.close(master)
    return process.wait(timeout=30), printed.decode().replace("\r\n", "\n")

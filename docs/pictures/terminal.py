"""A pseudo-terminal that keeps what programs write to it."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Self

ROWS = 50
OURS = ("AYB_", "PG", "COLUMNS", "LINES")


class Terminal:
    """A terminal of so many columns, in a folder."""

    def __init__(self, folder: Path, *, columns: int) -> None:
        self._folder = folder
        self._seen = bytearray()
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
        self._reader = Thread(target=self._read, name="terminal")

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._slave)
        self._reader.join()
        os.close(self._master)

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 65536):
                self._seen += data
        except OSError:  # what Linux answers when the last writer has closed the terminal
            pass

    def start(self, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """Start a program on this terminal, without settings of ours in its environment."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        environment["TERM"] = "xterm-256color"
        return subprocess.Popen(
            command, cwd=self._folder, stdin=self._slave, stdout=self._slave, stderr=self._slave, env=environment
        )

    def write(self, text: str) -> None:
        """Show a text, as if a program had written it."""
        self._seen += text.encode()

    def text(self) -> str:
        """Return all that was written until now, colours and all."""
        return self._seen.decode(errors="replace")

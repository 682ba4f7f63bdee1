"""The standard streams, any of which may be closed, full, or a pipe that nobody reads.

A command's exit code tells of its work. If its output cannot be written, the work is done all the same, so a stream
that fails swallows the rest, as /dev/null does. A command whose only work is printing calls `must_print`: it then ends
with the error.
"""

import codecs
import io
import os
import select
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TextIO

# The name of an error handler for encodings.
ESCAPED = "ayb_jobs.escaped"


class OutputFailed(Exception):
    """What a command prints cannot be written. `cause` says why."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Guarded(io.FileIO):
    """A descriptor that swallows what it cannot write; if `strict` is set, it raises `OutputFailed` instead.

    `failure` is the first error.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "w", closefd=False)
        self.strict = False
        self.failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write all bytes and return their number; wait if the reader of a non-blocking descriptor is slow."""
        unsent = memoryview(data).cast("B")
        size = len(unsent)
        try:
            while unsent:
                unsent = unsent[super().write(unsent) or self._await_room() :]
        except OSError as error:
            self.failure = self.failure or error
            if self.strict:
                raise OutputFailed(error) from error
        return size

    def _await_room(self) -> int:
        room = select.poll()
        room.register(self.fileno(), select.POLLOUT)
        room.poll()
        return 0


def secure() -> tuple[TextIO, TextIO]:
    """Make the process's standard streams safe; return output and errors as they are then, for `finish`."""
    codecs.register_error(ESCAPED, escaped)
    for fd in range(3):
        occupy(fd)
    sys.stdin = sys.stdin or nowhere("r")
    sys.stdout, sys.stderr = guarded(sys.stdout), guarded(sys.stderr)
    return sys.stdout, sys.stderr


def occupy(fd: int) -> None:
    """Open /dev/null at a standard descriptor that is closed; else the next connection would get its number."""
    try:
        os.fstat(fd)
    except OSError:
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def guarded(stream: TextIO | None) -> TextIO:
    """Return a stream that writes to the same place, and never fails unless it must print."""
    if not isinstance(stream, io.TextIOWrapper):  # Python has none for a descriptor that is closed
        return nowhere("w")
    raw = Guarded(stream.fileno())
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),  # as with PYTHONUNBUFFERED
        encoding=stream.encoding,
        errors=ESCAPED if stream.errors == "strict" else stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def escaped(error: UnicodeError) -> tuple[str, int]:
    """Return what a stream's encoding lacks as JSON escapes it, so that JSON stays JSON; the work is done by then."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)), error.end


def nowhere(mode: Literal["r", "w"]) -> TextIO:
    """Return a stream that nobody reads and nobody writes."""
    return Path(os.devnull).open(mode, encoding="utf-8")


def guard_of(stream: TextIO) -> Guarded | None:
    """Return the guard below a stream; None if the stream is another's, as in a test."""
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return raw if isinstance(raw, Guarded) else None


def must_print() -> None:
    """Have the command end with an error if standard output cannot be written: printing is all its work."""
    if guard := guard_of(sys.stdout):
        guard.strict = True


def finish(streams: tuple[TextIO, TextIO]) -> OSError | None:
    """Flush what is left in the streams, without failing; return what kept output from being written.

    They are the process's streams again, since Python flushes those as it ends, whatever a handler has put there.
    """
    sys.stdout, sys.stderr = streams
    guard = guard_of(streams[0])
    if guard:
        guard.strict = False
    for stream in streams:
        with suppress(ValueError):  # a handler closed it
            stream.flush()
    return guard.failure if guard else None

"""What a command writes: each line for the log as it comes, and the end of it for the record of the attempt."""

import time
from collections.abc import Callable

from ayb_jobs.logs.rendering import UNPRINTABLE

# So much of the end is kept with the attempt.
MOST_KEPT = 64 * 1024
# A longer line is cut in the log.
LONGEST_LINE = 4096
# A command may write so many lines at once, and then so many a second; what is beyond is counted, not logged.
LINES_AT_ONCE = 1000
LINES_A_SECOND = 100.0

KEEPS = {ord("\n"): "\n", ord("\t"): "\t"}
# A text for people, which no terminal obeys; lines stay lines.
SHOWN = {**UNPRINTABLE, **KEEPS, 0: "\\x00"}


class Tail:
    """The last 64 KiB of what is written."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._is_cut = False

    def add(self, written: bytes) -> None:
        """Take what was written."""
        self._kept += written
        if len(self._kept) > 2 * MOST_KEPT:
            self._cut()

    def _cut(self) -> None:
        del self._kept[:-MOST_KEPT]
        self._is_cut = True

    def text(self, mask: Callable[[str], str]) -> str:
        """Return the text, from the beginning of a line on, without secrets and controls, in at most 64 KiB."""
        if not self._kept:
            return ""
        if len(self._kept) > MOST_KEPT:
            self._cut()
        text = self._kept.decode("utf-8", "replace")
        if self._is_cut:  # a line that was cut may begin within a secret
            text = text.partition("\n")[2] or text
        return _end(mask(text).translate(SHOWN), MOST_KEPT)


def _end(text: str, most_bytes: int) -> str:
    """Return the end of a text, at most so many bytes of it."""
    return text.encode()[-most_bytes:].decode("utf-8", "ignore")


class Lines:
    """Tells each line as it comes, within bounds."""

    def __init__(self, tell: Callable[[str], object], mask: Callable[[str], str]) -> None:
        self._tell = tell
        self._mask = mask
        self._begun = bytearray()
        self._allowed = float(LINES_AT_ONCE)
        self._looked = time.monotonic()
        self.skipped = 0

    def add(self, written: bytes) -> None:
        """Take what was written."""
        rest = written
        while (end := rest.find(b"\n")) >= 0 and self._is_allowed():
            self._line(bytes(self._begun) + rest[:end])
            self._begun.clear()
            rest = rest[end + 1 :]
        if end >= 0:  # a flood costs no more than counting it
            self.skipped += rest.count(b"\n")
            self._begun.clear()
            rest = rest[rest.rfind(b"\n") + 1 :]
        self._begun += rest[: MOST_KEPT - len(self._begun)]

    def end(self) -> None:
        """Tell the last line, which may have no end."""
        if self._begun and self._is_allowed():
            self._line(bytes(self._begun))
        elif self._begun:
            self.skipped += 1
        self._begun.clear()

    def _line(self, line: bytes) -> None:
        text = self._mask(line.removesuffix(b"\r").decode("utf-8", "replace"))
        cut = f"{text[:LONGEST_LINE]} … {len(text) - LONGEST_LINE} characters left out"
        self._tell((cut if len(text) > LONGEST_LINE else text).translate(UNPRINTABLE))

    def _is_allowed(self) -> bool:
        now = time.monotonic()
        self._allowed = min(float(LINES_AT_ONCE), self._allowed + LINES_A_SECOND * (now - self._looked))
        self._looked = now
        if self._allowed < 1:
            return False
        self._allowed -= 1
        return True

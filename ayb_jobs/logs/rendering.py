"""Makes a line of a log entry: JSON for programs, columns for people; no secrets, no forged lines."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from structlog.processors import format_exc_info
from structlog.typing import EventDict, WrappedLogger

from ayb_jobs.redact import MASK, Redactor, is_secret_name

LONGEST_VALUE = 8192
DEEPEST_VALUE = 6
LONGEST_LIST = 24
# What a terminal would obey, and what makes text look like other text: C0, C1, bidirectional marks, lone surrogates.
CONTROLS = [*range(32), *range(127, 160), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
UNPRINTABLE = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004 - one byte
    for code in [*CONTROLS, *range(0xD800, 0xE000)]
}


class Renderer:
    """The one step that turns an entry into a line; whatever the entry holds, a line comes of it."""

    def __init__(self, redactor: Redactor, *, console: bool, color: bool) -> None:
        self._clean = Cleaner(redactor)
        self._render = Columns(color=color) if console else to_json

    def __call__(self, _logger: WrappedLogger, level: str, entry: EventDict) -> str:
        """Return the line of an entry."""
        try:
            entry = format_exc_info(_logger, level, entry)
            return self._render(level, self._clean(entry))
        except Exception as error:  # noqa: BLE001 - a log that cannot be written never stops the work
            return self._render("error", {"event": "log.unrenderable", "error": type(error).__name__})


def to_json(level: str, entry: dict[str, Any]) -> str:
    """Return an entry as one line of ASCII JSON, so that no reader finds a line end within it."""
    ts = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    line = {"ts": ts, "level": level, "event": entry.pop("event", "")}
    return json.dumps(line | {key: value for key, value in entry.items() if key not in line}, separators=(",", ":"))


class Columns:
    """Renders an entry for people: time of day where they are, level, event, fields."""

    def __init__(self, *, color: bool) -> None:
        # Events are padded to 16 characters; structlog has renamed that parameter, and its place has stayed.
        self._columns = structlog.dev.ConsoleRenderer(16, colors=color, timestamp_key="ts", sort_keys=False)

    def __call__(self, level: str, entry: dict[str, Any]) -> str:
        """Return an entry as a line; a traceback follows on indented lines of its own."""
        # On a terminal there is one daemon, whose name on each line says nothing.
        shown = {
            key.translate(UNPRINTABLE): printable(key, brief(value))
            for key, value in entry.items()
            if key != "worker" and value not in ([], None)
        }
        ts = datetime.now().astimezone().strftime("%H:%M:%S.%f")[:-3]
        return str(self._columns(None, level, shown | {"ts": ts, "level": level}))


def brief(value: Any) -> Any:
    """Return a list as its texts if they are short, else as its length; JSON lines hold all of it."""
    if not isinstance(value, list):
        return value
    joined = ",".join(map(str, value))
    return joined if len(joined) <= LONGEST_LIST else len(value)


def printable(key: str, value: Any) -> Any:
    """Escape what a terminal would obey.

    Only a traceback keeps its lines, indented, so that none looks like an entry.
    """
    if key in ("exception", "stack"):
        return "\n".join(f"    {line.translate(UNPRINTABLE)}" for line in str(value).split("\n"))
    return value.translate(UNPRINTABLE) if isinstance(value, str) else value


class Cleaner:
    """Makes every value of an entry plain JSON, of bounded size, without secrets."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def __call__(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return the cleaned entry."""
        return {self._text(key): self._named(key, value, 0) for key, value in entry.items()}

    def _named(self, key: Any, value: Any, depth: int) -> Any:
        return MASK if is_secret_name(key) and value else self._value(value, depth)

    def _value(self, value: Any, depth: int) -> Any:  # noqa: PLR0911 - a flat table
        match value:
            case None | bool():
                return value
            case int():
                return value if abs(value) < 2**63 else self._text(hex(value))
            case float():
                return value if math.isfinite(value) else str(value)
            case str():
                return self._text(value)
            case Mapping() if depth < DEEPEST_VALUE:
                return {self._text(key): self._named(key, inner, depth + 1) for key, inner in list(value.items())}
            case list() | tuple() | set() | frozenset() if depth < DEEPEST_VALUE:
                return [self._value(inner, depth + 1) for inner in list(value)]
            case _:
                return self._text(value)

    def _text(self, value: Any) -> str:
        return self._redactor(shortened(as_text(value)))


def as_text(value: Any) -> str:
    """Return any value as text, even one that fails to say what it is."""
    try:
        return str(value) if isinstance(value, str | BaseException) else repr(value)
    except Exception:  # noqa: BLE001 - a broken value is no reason to stop the work that logs it
        return f"<{type(value).__name__} that cannot be shown>"


def shortened(text: str) -> str:
    """Return a text cut in the middle where it is too long, so that both its beginning and its end can be read."""
    if len(text) <= LONGEST_VALUE:
        return text
    half = LONGEST_VALUE // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters left out … {text[-half:]}"

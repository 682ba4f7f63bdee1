"""Values as they are typed on the command line."""

import errno
import json
import math
import re
import sys
from contextlib import suppress
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from ayb_jobs.model.digits import exact

MAX_LIMIT = 500
MOST_INPUT = 64 * 2**20

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
LONGEST_S = 10 * 365 * 86400


class JsonValue(click.ParamType):
    """JSON as text, `@FILE`, or `-` for standard input."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value that the text stands for."""
        if not isinstance(value, str):
            return value
        text = self._read(value, param, ctx)
        try:
            return exact(text)
        except json.JSONDecodeError as error:
            self.fail(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}", param, ctx)
        except RecursionError:
            self.fail("nested too deeply", param, ctx)
        except ValueError as error:
            self.fail(f"not JSON: {error}", param, ctx)

    def _read(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            is_file = value == "-" or value.startswith("@")
            return read_input(value.removeprefix("@")).decode("utf-8-sig") if is_file else value
        except UnicodeDecodeError as error:
            self.fail(f"not UTF-8 (byte {error.start})", param, ctx)
        except (OSError, ValueError) as error:
            self.fail(f"cannot be read: {getattr(error, 'strerror', None) or error}", param, ctx)


def read_input(file: str) -> bytes:
    """Return what a file holds, or standard input for `-`.

    Raises `OSError` if it cannot be read, or is larger than 64 MiB.
    """
    if file == "-":
        text = sys.stdin.buffer.read(MOST_INPUT + 1)
    else:
        with Path(file).open("rb") as opened:
            text = opened.read(MOST_INPUT + 1)
    if len(text) > MOST_INPUT:
        raise OSError(errno.EFBIG, f"it is larger than {MOST_INPUT // 2**20} MiB")
    return text


class WholeNumber(click.IntRange):
    """A whole number within bounds, in whose error the bounds stand in words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number that the text stands for."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            wanted = f"of at least {self.min}" if self.max is None else f"from {self.min} to {self.max}"
            self.fail(f"'{value}' is not a whole number {wanted}", param, ctx)


class Number(click.FloatRange):
    """A number within bounds, in whose error the bounds stand in words."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number that the text stands for."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            wanted = f"of at least {self.min:g}" if self.max is None else f"from {self.min:g} to {self.max:g}"
            self.fail(f"'{value}' is not a number {wanted}", param, ctx)


class Truth(click.types.BoolParamType):
    """A truth value."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the truth value that the text stands for; click would take an empty one for false."""
        if value != "":
            with suppress(click.BadParameter):
                return super().convert(value, param, ctx)
        return self.fail(f"{value!r} is neither true nor false", param, ctx)


class Duration(click.ParamType):
    """A time span in seconds: `90`, `90s`, `15m`, `2h`, `1d`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds that the text stands for."""
        if not isinstance(value, str):
            return float(value)
        parsed = SPAN.fullmatch(value.strip())
        seconds = float(parsed[1]) * UNITS[parsed[2] or "s"] if parsed else math.inf
        if not seconds <= LONGEST_S:
            self.fail(f"{value!r} is not a time such as 90s, 15m, 2h or 1d (at most 3650d)", param, ctx)
        return seconds


class Instant(click.ParamType):
    """An instant in ISO 8601, with its time zone; its year in UTC is one of `years`."""

    name = "when"

    def __init__(self, years: range = range(MINYEAR, MAXYEAR + 1)) -> None:
        self._years = years

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the instant as the API takes it."""
        try:
            instant = datetime.fromisoformat(str(value).strip())
        except ValueError:
            self.fail(f"{value!r} is not an instant such as 2030-01-31T09:00:00+01:00", param, ctx)
        if instant.tzinfo is None:
            self.fail(f"{value!r} has no time zone; add one, such as +00:00 or Z", param, ctx)
        try:
            instant = instant.astimezone(UTC)
        except OverflowError:
            self.fail(f"{value!r} is too far away: {self._right}", param, ctx)
        if instant.year not in self._years:
            self.fail(f"{value!r} is too far away: {self._right}", param, ctx)
        return instant.isoformat()

    @property
    def _right(self) -> str:
        return f"its year in UTC should be from {self._years[0]} to {self._years[-1]}"


class Moment(click.ParamType):
    """An instant, or a time span before or after now: `2030-01-31T09:00:00+01:00`, or `2h`."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | timedelta:
        """Return the instant, or how far from now it is."""
        if isinstance(value, datetime | timedelta):
            return value
        if SPAN.fullmatch(str(value).strip()):
            return timedelta(seconds=DURATION.convert(value, param, ctx))
        return datetime.fromisoformat(INSTANT.convert(value, param, ctx))


JSON = JsonValue()
TRUTH = Truth()
DURATION = Duration()
INSTANT = Instant()
# With a year to spare at both ends, so that hours can be added to it and it can be told in any zone.
CALENDAR_INSTANT = Instant(range(MINYEAR + 1, MAXYEAR))
MOMENT = Moment()
LIMIT = WholeNumber(1, MAX_LIMIT, clamp=True)

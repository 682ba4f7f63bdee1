"""Where values come from: the only reader of configuration files and of the environment."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import IntEnum
from pathlib import Path
from typing import Any

import tomli

from ayb_jobs.config import ayb

# Read apart from the settings: by the command line from afar, by tests, as failpoints; the token also as a last resort.
FOREIGN = re.compile(r"AYB_JOBS_(CONFIG|URL|ADMIN_TOKEN|TEST_.*|FAILPOINT.*)")
# Kubernetes sets such variables in every container for a service called `ayb-jobs` or `ayb-jobs-api`.
SERVICE_LINK = re.compile(r"AYB_JOBS_(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_\d+_(TCP|UDP|SCTP)(_.*)?)")
SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")
# A device such as /dev/zero has no end.
MOST_BYTES = 16 << 20
DEFAULT_FILE = Path("ayb-jobs.toml")


class Source(IntEnum):
    """Who gave a value; a higher one goes over a lower one."""

    PROJECT = 0
    FILE = 1
    CREDENTIAL = 2
    ENVIRONMENT = 3
    FLAG = 4


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from: the kind of source, and its file, variable or flag."""

    source: Source
    name: str

    def label(self) -> str:
        """Say where the value came from, for people."""
        return self.name if self.source is Source.FILE else f"{self.source.name.lower()} {self.name}"


class Unreadable(Exception):
    """A file cannot be used; the message says why."""


def config_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the file to read: the one given, else `AYB_JOBS_CONFIG`, else `./ayb-jobs.toml` or AYB's `./ayb.toml`."""
    if path is not None:
        return path
    if named := environ.get("AYB_JOBS_CONFIG"):
        return Path(named)
    return next((file for file in (DEFAULT_FILE, ayb.DEFAULT_FILE) if file.exists()), None)


def read_text(path: Path) -> str:
    """Return a file's text; raises `Unreadable` saying what is wrong with it."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise Unreadable(f"{path} is larger than {MOST_BYTES >> 20} MiB, which no file of settings is")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
        raise Unreadable(f"{path} cannot be read: {reason.lower()}") from None


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Return the tables of a TOML text; raises `Unreadable` with the line that is wrong.

    Fractions are floats, but Decimals in payloads, whose digits are kept.
    """
    try:
        tables = tomli.loads(text)
        exact = tomli.loads(text, parse_float=_fraction)
    except tomli.TOMLDecodeError as error:
        raise Unreadable(f"{name} is not valid TOML: {error}") from None
    except (RecursionError, ValueError) as error:
        raise Unreadable(f"{name} is not valid TOML: {error}") from None
    for section in ("job_types", "schedules"):
        for each, payload in _payloads(exact.get(section)):
            tables[section][each]["payload"] = payload
    return tables


def _payloads(section: Any) -> Iterator[tuple[str, Any]]:
    """Yield the payloads of a section's tables, whatever else stands there."""
    for name, table in section.items() if isinstance(section, dict) else ():
        if isinstance(table, dict) and "payload" in table:
            yield name, table["payload"]


def _fraction(digits: str) -> Decimal | float:
    try:
        return Decimal(digits)
    except InvalidOperation:  # an exponent beyond what a Decimal holds; as a float it is infinite, and refused
        return float(digits)


def read_secret(path: str) -> str:
    """Return the secret in a file, without the line end that editors add."""
    text = read_text(Path(path)).strip()
    if not text:
        raise Unreadable(f"{path} is empty; it should hold the secret")
    return text


def line_of(text: str, path: tuple[str, ...]) -> int | None:
    """Return the line on which a TOML text sets `path`, from 1; None where it cannot be told.

    The parser keeps no positions, so it is asked instead: the first line with which the key is there.
    """
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if path[-1] not in line:
            continue
        ends = (holds(lines[:end], path) for end in range(number + 1, len(lines) + 1))
        if next((held for held in ends if held is not None), False):
            return number + 1
    return None


def place_of(path: tuple[str, ...], origins: Mapping[tuple[str, ...], Origin], text: str) -> str:
    """Say where a value, or the nearest table around it, came from; `text` is the file's. Empty if from nowhere."""
    for length in range(len(path), 0, -1):
        origin = origins.get(path[:length])
        if origin is not None and origin.source is Source.FILE:
            line = line_of(text, path[:length])
            return f"{origin.name}, line {line}" if line else origin.name
        if origin is not None:
            return origin.label()
    return ""


def holds(lines: list[str], path: tuple[str, ...]) -> bool | None:
    """Tell whether TOML lines set `path`; None where they end in the middle of a value."""
    try:
        table: Any = tomli.loads("".join(lines))
    except (tomli.TOMLDecodeError, RecursionError, ValueError):
        return None
    for key in path:
        if not isinstance(table, dict) or key not in table:
            return False
        table = table[key]
    return True


def our_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the `AYB_JOBS_*` variables that are meant as settings."""
    return {
        name: value
        for name, value in environ.items()
        if name.startswith("AYB_JOBS_")
        and not FOREIGN.fullmatch(name)
        and not SERVICE_LINK.fullmatch(name)
        and not SERVICE_ADDRESS.match(value)
    }

"""Time zones: finding one by name, and the instants at which its clocks change."""

import os
from datetime import MAXYEAR, UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

from ayb_jobs.errors import InvalidInput

MAX_TIMEZONE = 50

_SECOND = timedelta(seconds=1)
# No zone changes its clocks twice within this time.
_PROBE = timedelta(hours=12)


# As Go calls the zone of the host. AYB takes it, so that it may stand in a row.
LOCAL = "Local"
_LOCAL_FILE = Path("/etc/localtime")


@lru_cache(maxsize=1024)
def find_zone(timezone: str) -> ZoneInfo:
    """Return an IANA time zone, or this host's for `Local`. A row may hold no name, which is UTC.

    Raises `InvalidInput` if there is no data of that name.
    """
    if len(timezone) > MAX_TIMEZONE:
        message = f"timezone has {len(timezone)} characters; 1 to {MAX_TIMEZONE} are allowed"
        raise InvalidInput(message, field="timezone")
    try:
        return _host_zone() if timezone == LOCAL else ZoneInfo(timezone or "UTC")
    except (KeyError, ValueError, OSError):
        close = get_close_matches(timezone, available_timezones(), n=1)
        hint = f"did you mean {close[0]}?" if close else "use an IANA name such as UTC or Europe/Berlin"
        raise InvalidInput(f"there is no time zone {timezone!r}; {hint}", field="timezone") from None


def _host_zone() -> ZoneInfo:
    """Return the zone of this host as its C library finds it: by `TZ`, by /etc/localtime, or UTC."""
    name = os.environ.get("TZ")
    if name is not None and not name.startswith(("/", ":/")):
        return ZoneInfo(name.removeprefix(":") or "UTC")
    path = Path(name.removeprefix(":")) if name else _LOCAL_FILE
    if not path.exists():
        return ZoneInfo("UTC")
    with path.open("rb") as data:
        return ZoneInfo.from_file(data, key=LOCAL)


def local_time(instant: datetime, timezone: str) -> datetime:
    """Return an instant as the clocks of `timezone` show it."""
    return instant.astimezone(find_zone(timezone))


def utc_offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    """Return how far the clocks of `zone` are ahead of UTC at an instant."""
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None  # noqa: S101 - an aware instant in a zone has an offset
    return offset


def first_shift(timezone: str, after: datetime, until: datetime) -> datetime | None:
    """Return the first change of UTC offset later than `after` and at most `until`, or None."""
    for year in range(after.year, until.year + 1):
        for shift in shifts(timezone, year):
            if after < shift <= until:
                return shift
    return None


@lru_cache(maxsize=8192)
def shifts(timezone: str, year: int) -> tuple[datetime, ...]:
    """Return the instants in a year (of UTC) from which a zone's offset is another than just before."""
    zone = find_zone(timezone)
    start = datetime(year, 1, 1, tzinfo=UTC)
    after = 2 * 366 + 1 if year < MAXYEAR else 2 * 364  # there is no time beyond the last year
    probes = [start + _PROBE * number for number in range(-1, after)]
    changed = (pair for pair in pairwise(probes) if utc_offset(zone, pair[0]) != utc_offset(zone, pair[1]))
    found = (_bisected_shift(zone, earlier, later) for earlier, later in changed)
    return tuple(shift for shift in found if shift.year == year)


def _bisected_shift(zone: ZoneInfo, earlier: datetime, later: datetime) -> datetime:
    before = utc_offset(zone, earlier)
    while later - earlier > _SECOND:
        middle = earlier + timedelta(seconds=(later - earlier) // _SECOND // 2)
        earlier, later = (middle, later) if utc_offset(zone, middle) == before else (earlier, middle)
    return later

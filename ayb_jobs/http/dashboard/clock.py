"""Instants as a visitor reads them: in the zone that they chose, with UTC beside."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from ayb_jobs.errors import InvalidInput
from ayb_jobs.http.dashboard.texts import Html
from ayb_jobs.model.schedules.zones import find_zone, local_time

COOKIE = "ayb_jobs_zone"
FAR = timedelta(days=3000)
# As the API writes an instant, and so a sentence that all doors share.
WRITTEN = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Words instants as of `now`, the time of the data, in a zone."""

    zone: str
    now: datetime

    def local(self, instant: datetime) -> datetime:
        """Return an instant as the clocks of the zone show it; UTC where the zone's clocks cannot."""
        try:
            return local_time(instant, self.zone)
        except (InvalidInput, OverflowError, ValueError):
            return instant.astimezone(UTC)

    def midnight(self, *, days: int = 0) -> datetime:
        """Return when today begins in the zone, or the day so many days later; the first time, if it comes twice.

        Where the clocks skip it, the day begins as they are put forward.
        """
        day = self.local(self.now).replace(hour=0, minute=0, second=0, microsecond=0, fold=0) + timedelta(days=days)
        return day.astimezone(UTC)

    def minute(self, instant: datetime) -> float:
        """Return which minute of its day the zone's clock shows."""
        local = self.local(instant)
        return local.hour * 60 + local.minute + local.second / 60

    def at(self, instant: datetime | None) -> str:
        """Return the time of day, with the day if it is another: `14:31:58`, `26 Nov 09:12`, `3 Jan 2025`."""
        if instant is None:
            return "–"
        if abs(instant - self.now) > FAR:
            return "never" if instant.year in {1, 9999} else f"{instant:%Y}"
        local, today = self.local(instant), self.local(self.now)
        if local.date() == today.date():
            return f"{local:%H:%M:%S}"
        if local.date() == today.date() + timedelta(days=1):
            return f"tomorrow {local:%H:%M}"
        day = f"{local.day} {local:%b}"
        return f"{day} {local:%H:%M}" if local.year == today.year else f"{day} {local.year}"

    def short(self, instant: datetime) -> str:
        """Return the time of day without its seconds: `14:31`."""
        return f"{self.local(instant):%H:%M}"

    def whole(self, instant: datetime) -> str:
        """Return day and time with the zone's name: `Sat 28 Nov 02:30 CET`."""
        local = self.local(instant)
        year = "" if local.year == self.local(self.now).year else f" {local.year}"
        return f"{local:%a} {local.day} {local:%b}{year} {local:%H:%M:%S} {local:%Z}".replace(":00 ", " ")

    def utc(self, instant: datetime | None) -> str:
        """Return an instant in UTC, for titles."""
        return "" if instant is None else f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"

    def told(self, sentence: str) -> Html:
        """Return a sentence that all doors share, with its instants as this page shows them."""
        parts = WRITTEN.split(sentence)
        return Html("").join(self._time(part) if n % 2 else Html.escape(part) for n, part in enumerate(parts))

    def _time(self, written: str) -> Html:
        try:
            instant = datetime.fromisoformat(written)
        except ValueError:  # somebody's own words, such as the reason of a pause
            return Html.escape(written)
        return Html('<time datetime="{}" title="{}">{}</time>').format(written, self.utc(instant), self.whole(instant))

    def read(self, text: str, field: str) -> datetime | None:
        """Return the instant that a visitor wrote: `13:00` today, `2026-11-26`, or both, in their zone."""
        text = text.strip()
        if not text:
            return None
        try:
            if "-" in text:
                local = datetime.fromisoformat(text)
            else:
                local = datetime.combine(self.local(self.now).date(), time.fromisoformat(text.zfill(5)))
            if local.tzinfo is None:
                local = local.replace(tzinfo=find_zone(self.zone))
            return local.astimezone(UTC)
        except (ValueError, OverflowError):
            message = f"{field} is {text!r}; write it as 13:00, 2026-11-26, or 2026-11-26 13:00"
            raise InvalidInput(message, field=field) from None


def chosen_zone(text: str | None) -> str:
    """Return the zone that a visitor chose, or UTC if they chose none, or one that is not known here."""
    if not text:
        return "UTC"
    try:
        find_zone(text)
    except InvalidInput:
        return "UTC"
    return text

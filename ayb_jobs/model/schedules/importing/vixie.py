"""What the crons of Vixie's family (cron, cronie, pg_cron) say that we say otherwise."""

import re

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.schedules.cron_fields import lists_every_day

_FIELDS = 5
_HIGHEST = (59, 23, 31, 12, 6)
_NAMES = {
    name: number
    for first, names in ((1, "jan feb mar apr may jun jul aug sep oct nov dec"), (0, "sun mon tue wed thu fri sat"))
    for number, name in enumerate(names.split(), start=first)
}
_LONE_STEP = re.compile(r"(\w+)/\d+", re.ASCII)
_RANGE = re.compile(r"(\w+)-(\w+)(?:/\d+)?", re.ASCII)
_WEEK_OF_MONTH = re.compile(r"\w+#\d+", re.ASCII)


def reason_against(cron: str) -> str | None:
    """Return why an expression of five fields says nothing there, or not what it says here; None if it does.

    `get_range` in the `entry.c` of cronie and of pg_cron ends with an error at `5/15`, and Debian's `crontab` says "bad
    minute": a step needs a range or a star. The cron that they come from runs such an entry at 5 alone. At `50-10`
    cronie's ends with an error; Debian's takes it, and its loop from 50 up to 10 sets nothing.
    """
    fields = cron.split()
    if len(fields) != _FIELDS:
        return None
    for part, highest in [
        (part, highest) for field, highest in zip(fields, _HIGHEST, strict=True) for part in field.split(",")
    ]:
        if lone := _LONE_STEP.fullmatch(part):
            first = lone[1]
            return (
                f"{part} is a step without a range, which no cron of this kind counts on with: write "
                f"{part.replace('/', f'-{highest}/')} if all from {first} on is meant, or {first}"
            )
        if (ends := _RANGE.fullmatch(part)) and _number(ends[1]) > _number(ends[2]):
            return f"{part} runs backwards: a cron of this kind refuses it, or never fires; write it as two ranges"
    return None


def notes_on(cron: str) -> list[str]:
    """Return what is said of an expression that a cron of this kind reads otherwise, or not at all."""
    fields = cron.split()
    return [
        f"{part} is one week's day here; cronie refuses it, and Debian's cron passes over what follows the #"
        for part in (fields[-1].split(",") if len(fields) == _FIELDS else ())
        if _WEEK_OF_MONTH.fullmatch(part)
    ]


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else _NAMES.get(text.lower(), 0)


def with_our_days(cron: str) -> str:
    """Return an expression of five fields with the days that it means there.

    A field of days that lists all its values without a star restricts nothing here. There it is a restriction that
    every day meets, and one of two is enough.
    """
    fields = cron.split()
    if len(fields) != _FIELDS:
        return cron
    minute, hour, day, month, weekday = fields
    if day.startswith("*") or weekday.startswith("*"):
        return cron
    try:
        every_day = lists_every_day(day, weekday=False) or lists_every_day(weekday, weekday=True)
    except InvalidInput:
        return cron
    return f"{minute} {hour} * {month} *" if every_day else cron

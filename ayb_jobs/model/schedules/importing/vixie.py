"""What the crons of Vixie's family (cron, cronie, pg_cron) say that we say otherwise."""

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.schedules.cron_fields import lists_every_day

_FIELDS = 5


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

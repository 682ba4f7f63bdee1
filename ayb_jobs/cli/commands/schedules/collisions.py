"""Schedules that fire in the same minute."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any

import click

from ayb_jobs.cli import output
from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.instants import instant_text
from ayb_jobs.model.schedules.cron import fires
from ayb_jobs.model.schedules.preview import Collision
from ayb_jobs.model.schedules.schedule import Schedule

MOST_FIRES = 100_000
MOST_COLLISIONS = 20
MOST_NAMES = 8


def fires_between(schedule: Schedule, start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield a schedule's fires from `start` to before `end`; none for one that is broken."""
    before = start - timedelta(microseconds=1)
    found = fires(schedule.cron, schedule.timezone, before, schedule.dst, beside=schedule.next_run_at)
    try:
        for number, fire in enumerate(takewhile(lambda fire: fire < end, found)):
            if number == MOST_FIRES:
                return
            yield fire
    except InvalidInput:
        return


def collision_json(collision: Collision) -> dict[str, Any]:
    """Return a collision for programs."""
    first = instant_text(collision.first_at)
    return {"schedules": collision.schedules, "times": collision.times, "firstAt": first}


def print_collisions(met: Sequence[Collision]) -> None:
    """Print which schedules fire in the same minute."""
    for collision in met[:MOST_COLLISIONS]:
        click.echo(collision_words(collision))
    if len(met) > MOST_COLLISIONS:
        click.echo(f"… and {len(met) - MOST_COLLISIONS} more groups that meet")


def collision_words(collision: Collision) -> str:
    """Say which schedules fire in the same minute."""
    names = ", ".join(map(output.one_line, collision.schedules[:MOST_NAMES]))
    more = f" and {len(collision.schedules) - MOST_NAMES} more" if len(collision.schedules) > MOST_NAMES else ""
    times = "once" if collision.times == 1 else f"{collision.times} times"
    return f"together {times}, first {collision.first_at:%F %R} UTC: {names}{more}"

"""Drawing when schedules fire and how long they run: as text for a terminal, and as SVG."""

import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from itertools import islice
from typing import NamedTuple

from ayb_jobs.cli.output import one_line

LONGEST_NAME = 32
LEAST_WIDTH = 24
TICKS = 6

MARGIN, ROW, TOP, WIDTH = 12, 22, 34, 1000
MOST_MARKS = 2000
FONT = 'font-family="ui-sans-serif, system-ui, sans-serif" font-size="12"'


class Lane(NamedTuple):
    """A schedule's row: its fires, and how many seconds a run of it usually takes."""

    name: str
    fires: tuple[datetime, ...]
    seconds: float


def as_text(lanes: Sequence[Lane], start: datetime, end: datetime) -> str:
    """Return a drawing a terminal wide.

    `●` is where a schedule fires, `━` while it usually runs, and `▲` below where several fire in the same minute.
    """
    names = [shortened(one_line(lane.name)) for lane in lanes]
    margin = max(map(len, names), default=0) + 2
    width = max(LEAST_WIDTH, shutil.get_terminal_size().columns - margin)
    rows = [name.ljust(margin) + row_text(lane, start, end, width) for name, lane in zip(names, lanes, strict=True)]
    axis = "UTC".ljust(margin) + axis_text(start, end, width)
    return "\n".join([axis, *rows, *([crowd] if (crowd := crowd_text(lanes, start, end, margin, width)) else [])])


def crowd_text(lanes: Sequence[Lane], start: datetime, end: datetime, margin: int, width: int) -> str:
    """Return the row below, which marks where several schedules fire in the same minute; empty where none do."""
    columns = {place(minute, start, end, width) for minute in crowded_minutes(lanes)}
    marks = "".join("▲" if column in columns else " " for column in range(width))
    return ("together".ljust(margin) + marks).rstrip() if columns else ""


def crowded_minutes(lanes: Sequence[Lane]) -> dict[datetime, int]:
    """Return the minutes in which several schedules fire, and how many do."""
    counts = Counter(
        minute for lane in lanes for minute in {fire.replace(second=0, microsecond=0) for fire in lane.fires}
    )
    return {minute: count for minute, count in sorted(counts.items()) if count > 1}


def row_text(lane: Lane, start: datetime, end: datetime, width: int) -> str:
    """Return a schedule's row."""
    row = ["·"] * width
    for fire in lane.fires:
        first = place(fire, start, end, width)
        last = place(min(end, fire + timedelta(seconds=lane.seconds)), start, end, width)
        row[first : last + 1] = ["━"] * (last + 1 - first)
    for fire in lane.fires:
        row[place(fire, start, end, width)] = "●"
    return "".join(row)


def axis_text(start: datetime, end: datetime, width: int) -> str:
    """Return the times along the top."""
    axis = [" "] * (width + LEAST_WIDTH)
    for number in range(TICKS):
        instant = start + (end - start) * number / TICKS
        label = tick_label(instant, end - start)
        column = width * number // TICKS
        axis[column : column + len(label)] = list(label)
    return "".join(axis)[:width].rstrip()


def tick_label(instant: datetime, length: timedelta) -> str:
    """Return the time at a tick, with the day where several are shown."""
    return f"{instant.astimezone(UTC):%a %R}" if length > timedelta(hours=24) else f"{instant.astimezone(UTC):%R}"


def place(instant: datetime, start: datetime, end: datetime, width: int) -> int:
    """Return the column of an instant."""
    return min(width - 1, int(width * ((instant - start) / (end - start))))


def shortened(name: str) -> str:
    """Return a name that leaves room for the drawing."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def as_svg(lanes: Sequence[Lane], start: datetime, end: datetime) -> str:
    """Return the drawing as an SVG document; minutes in which several schedules fire are shaded."""
    left = MARGIN + 8 * min(LONGEST_NAME, max((len(lane.name) for lane in lanes), default=0)) + MARGIN
    height = TOP + ROW * len(lanes) + MARGIN
    drawing = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + WIDTH + MARGIN} {height}" {FONT} fill="#333">',
        f"<title>Schedules from {start.astimezone(UTC):%F %R} to {end.astimezone(UTC):%F %R} UTC</title>",
        f'<rect width="{left + WIDTH + MARGIN}" height="{height}" fill="#fff"/>',
        *svg_axis(left, height, start, end),
        *svg_collisions(lanes, left, height, start, end),
    ]
    for number, lane in enumerate(lanes):
        drawing += svg_lane(lane, left, TOP + ROW * number, start, end)
    return "\n".join([*drawing, "</svg>"])


def svg_axis(left: int, height: int, start: datetime, end: datetime) -> list[str]:
    """Return the times along the top, with lines down from them."""
    parts = []
    for number in range(TICKS + 1):
        x = left + WIDTH * number / TICKS
        label = tick_label(start + (end - start) * number / TICKS, end - start)
        anchor = "end" if number == TICKS else "start" if number == 0 else "middle"
        parts.append(f'<text x="{x:.1f}" y="20" text-anchor="{anchor}" fill="#777">{label}</text>')
        parts.append(f'<line x1="{x:.1f}" y1="26" x2="{x:.1f}" y2="{height - MARGIN}" stroke="#e5e5e5"/>')
    return parts


def svg_collisions(lanes: Sequence[Lane], left: int, height: int, start: datetime, end: datetime) -> list[str]:
    """Return shades behind the minutes in which several schedules fire."""
    return [
        f'<rect x="{left + WIDTH * ((minute - start) / (end - start)) - 2:.1f}" y="26" width="6" '
        f'height="{height - 26 - MARGIN}" fill="#f59e0b" fill-opacity="0.25"><title>{count} schedules fire at '
        f"{minute.astimezone(UTC):%R} UTC</title></rect>"
        for minute, count in islice(crowded_minutes(lanes).items(), MOST_MARKS)
    ]


def svg_lane(lane: Lane, left: int, top: int, start: datetime, end: datetime) -> list[str]:
    """Return a schedule's row: its name, and a bar as long as its run for each fire."""
    name = shortened(lane.name)
    parts = [f'<text x="{left - MARGIN}" y="{top + 15}" text-anchor="end">{escape(one_line(name))}</text>']
    for fire in lane.fires[:MOST_MARKS]:
        x = left + WIDTH * ((fire - start) / (end - start))
        length = max(3.0, WIDTH * (timedelta(seconds=lane.seconds) / (end - start)))
        parts.append(
            f'<rect x="{x:.1f}" y="{top + 5}" width="{min(length, left + WIDTH - x):.1f}" height="12" rx="2" '
            f'fill="#2563eb"><title>{escape(one_line(lane.name))} {fire.astimezone(UTC):%F %T} UTC</title></rect>'
        )
    return parts

"""Charts as SVG, made here: classes of the stylesheet, no text inside, a title that says what is to be seen."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ayb_jobs.http.dashboard.texts import Html

WIDTH = 120
HEIGHT = 32
# What a square of the grid of fires looks like.
SQUARE = 17
MOST_SLOTS = 60
PERCENT = 100.0


# Points of a line that are farther apart, as a part of its width, are not joined: nothing was measured between them.
GAP = 2.5 / 60
# Where a long word may be broken: behind such a sign.
BREAKS = re.compile(r"(?<=[^\s][/?&=.:_-])(?=\w)")


def line(points: Sequence[tuple[float, float]], title: str, tone: str = "") -> Html:
    """Return a level over time, from zero; `tone` is `bad` if this very figure deviates.

    A point is when, from 0 to 1 over the width, and how much.
    """
    most = max((value for _, value in points), default=0)
    if not most:
        return _chart([], title)
    shapes = []
    for piece in _pieces(points):
        places = [(round(at * WIDTH, 1), round(HEIGHT - 1 - value / most * (HEIGHT - 3), 1)) for at, value in piece]
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in [*places, places[-1]])
        area = Html('<path class="a {}" d="{}V{}H{:g}z"/>').format(tone, path, HEIGHT, places[0][0])
        shapes += [area, Html('<path class="l {}" d="{}"/>').format(tone, path)]
    return _chart(shapes, title)


def _pieces(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    pieces: list[list[tuple[float, float]]] = []
    for point in points:
        if pieces and point[0] - pieces[-1][-1][0] <= GAP:
            pieces[-1].append(point)
        else:
            pieces.append([point])
    return pieces


def bars(values: Sequence[float], title: str, fill: str = "f-bad") -> Html:
    """Return counts over time as bars, from zero."""
    most, step = max(values, default=0), WIDTH / max(1, len(values))
    shapes = []
    for n, value in enumerate(values):
        if value:
            height = max(2.0, value / most * (HEIGHT - 2))
            shapes.append(_rect(fill, n * step, HEIGHT - height, step * 0.72, height))
    return _chart(shapes, title)


def _chart(shapes: Sequence[Html], title: str) -> Html:
    return Html(
        '<svg class="ch" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img"><title>{}</title>'
        '<path class="z" d="M0 {}H{}"/>{}</svg>'
    ).format(WIDTH, HEIGHT, title, HEIGHT, WIDTH, _all(shapes))


def _all(shapes: Sequence[Html]) -> Html:
    return Html("").join(shapes)


def _rect(class_: str, x: float, y: float, width: float, height: float) -> Html:
    return Html('<rect class="{}" x="{:g}" y="{:g}" width="{:g}" height="{:g}"/>').format(
        class_, round(x, 2), round(y, 2), round(width, 2), round(height, 2)
    )


def _box(class_: str, x: float, y: float, size: float, radius: float = 2) -> Html:
    return Html('<rect class="{}" x="{:g}" y="{:g}" width="{:g}" height="{:g}" rx="{:g}"/>').format(
        class_, round(x, 2), y, size, size, radius
    )


def _path(class_: str, way: str) -> Html:
    return Html('<path class="{}" d="{}"/>').format(class_, way)


def gauge(percent: float, title: str, fill: str = "f-run") -> Html:
    """Return a bar that is filled to so many percent."""
    full = min(100.0, max(0.0, percent))
    return portions([(full, fill)], title)


def portions(parts: Sequence[tuple[float, str]], title: str) -> Html:
    """Return a bar of parts, each so many percent of it and with its fill; none that is there is too small to see."""
    shapes, x = [], 0.0
    for percent, fill in parts:
        if percent > 0 and x < PERCENT:
            width = min(max(1.0, percent), PERCENT - x)
            shapes.append(_rect(fill, x, 0, width, 8))
            x += width
    return Html(
        '<svg class="ch bar" viewBox="0 0 100 8" preserveAspectRatio="none" role="img"><title>{}</title>'
        '<rect width="100" height="8"/>{}</svg>'
    ).format(title, _all(shapes))


class Share(NamedTuple):
    """A part of a whole: its word, how large it is, and its fill."""

    word: str
    size: float
    fill: str


def shares(parts: Sequence[Share], title: str) -> Html:
    """Return one bar divided in proportion."""
    whole = sum(part.size for part in parts) or 1.0
    shapes, x = [], 0.0
    for part in parts:
        width = part.size / whole * 100
        shapes.append(_rect(part.fill, x, 0, max(0.2, width - 0.3), 16))
        x += width
    return Html(
        '<svg class="ch bar share" viewBox="0 0 100 16" preserveAspectRatio="none" role="img"><title>{}</title>{}</svg>'
    ).format(title, _all(shapes))


def squares(kinds: Sequence[str], title: str, *, most: int = 24) -> Html:
    """Return a schedule's last fires, one square each, the newest on the right."""
    missing = most - len(kinds)
    shapes = [Html('<rect x="{}" y="9" width="3" height="1"/>').format(n * SQUARE + 7) for n in range(missing)]
    for n, kind in enumerate(kinds, missing):
        shapes += SQUARES.get(kind, _completed)(n * SQUARE)
    return Html('<svg class="ch" viewBox="0 0 {} 20" role="img"><title>{}</title>{}</svg>').format(
        most * SQUARE + 8, title, _all(shapes)
    )


def _completed(x: int) -> list[Html]:
    return [_box("f-good", x + 2, 3, 13)]


def _late(x: int) -> list[Html]:
    return [_box("f-warn", x + 2, 3, 13), _path("kx", f"M{x + 8.5} 5.8v4l2.6 1.6")]


def _caught_up(x: int) -> list[Html]:
    return [*_completed(x), _path("kx", f"m{x + 5} 6.5 3 3-3 3m4-6 3 3-3 3")]


def _merged(x: int) -> list[Html]:
    return [_box("f-good", x + 6, 7, 5, 2.5)]


def _skipped(x: int) -> list[Html]:
    return [_box("h", x + 2.5, 3.5, 12), _path("h", f"M{x + 5.5} 9.5h6")]


def _failed(x: int) -> list[Html]:
    return [_box("f-bad", x + 1, 2, 15), _path("kx", f"M{x + 5} 6l7 7m0-7-7 7")]


def _running(x: int) -> list[Html]:
    return [_path("f-run", f"M{x + 3} 2.5v14l12-7z")]


def _waiting(x: int) -> list[Html]:
    return [_box("h", x + 2.5, 3.5, 12, 6)]


SQUARES: Mapping[str, Callable[[int], list[Html]]] = {
    "late": _late,
    "caught_up": _caught_up,
    "coalesced": _merged,
    "skipped": _skipped,
    "canceled": _skipped,
    "failed": _failed,
    "running": _running,
    "waiting": _waiting,
}


def slots(busy: int, total: int, stuck: int = 0) -> Html:
    """Return a daemon's slots: those that are past a timeout, busy and free, up to 60 of them."""
    shown, shapes = min(total, MOST_SLOTS), []
    for n in range(shown):
        x = n * 12
        if n < stuck:
            shapes += [_box("f-bad", x, 0, 10), _path("kx", f"M{x + 3} 3l4 4m0-4-4 4")]
        else:
            shapes.append(_box("f-run", x, 0, 10) if n < busy else _box("h", x + 0.6, 0.6, 8.8))
    past = f", {stuck} past the timeout" if stuck else ""
    return Html(
        '<svg class="ch" viewBox="0 0 {} 10" preserveAspectRatio="xMinYMid" role="img"><title>{}</title>{}</svg>'
    ).format(max(12, shown * 12), f"{busy} of {total} slots busy{past}", _all(shapes))


class Stroke(NamedTuple):
    """A fire in a day's timeline: the minute of the day, how many minutes it usually runs, and whether it is past."""

    minute: float
    minutes: float
    is_past: bool


def day(strokes: Sequence[Stroke], bands: Sequence[int], now: float, title: str) -> Html:
    """Return one schedule's day: its fires, the minutes in which many fire, and where the day stands."""
    shapes = [_rect("f-band", minute - 4, 0, 8, 24) for minute in bands]
    for stroke in strokes:
        fill = "f-good" if stroke.is_past else "f-run"
        shapes.append(_rect(fill, stroke.minute, 6, max(3.0, stroke.minutes), 12))
    return Html(
        '<svg class="ch" viewBox="0 0 1440 24" preserveAspectRatio="none" role="img"><title>{}</title>'
        '<path class="z" d="M0 12H1440M360 0V24M720 0V24M1080 0V24M0 0V24M1440 0V24"/>{}<path class="now" d="M{:g} 0V24"/></svg>'
    ).format(title, _all(shapes), round(now))


def round_top(most: float) -> float:
    """Return where a scale ends whose thirds are round figures; 3 at least, since it counts."""
    third = max(1.0, most / 3)
    size = 10.0 ** math.floor(math.log10(third))
    return 3 * size * next(step for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * size >= third)


def plot(values: Sequence[float], top: float, title: str) -> Html:
    """Return counts over time as a large chart of bars up to `top`, with three lines behind it."""
    shapes = []
    for n, value in enumerate(values):
        if value:
            height = max(0.8, value / top * 100)
            shapes.append(_rect("f-run", n + 0.12, 100 - height, 0.76, height))
    count = max(1, len(values))
    return Html(
        '<svg class="ch" viewBox="0 0 {} 100" preserveAspectRatio="none" role="img"><title>{}</title>'
        '<path class="z" d="M0 0H{}M0 33.3H{}M0 66.7H{}M0 100H{}"/>{}</svg>'
    ).format(count, title, count, count, count, count, _all(shapes))


def marked(text: str, sign: str = "<n>") -> Html:
    """Return an error's text with a mark for each number or id that is left out of it.

    A long word, such as a URL, may be broken within its line, so that no whole word is cut away.
    """
    return Html("<mark>n</mark>").join(_breakable(part) for part in text.split(sign))


def _breakable(text: str) -> Html:
    return Html("<wbr>").join(BREAKS.split(text))


def in_code(sentence: str) -> Html:
    """Return a sentence with the names in backticks as code."""
    parts = sentence.split("`")
    if len(parts) % 2 == 0:
        return Html.escape(sentence)
    return Html("").join(
        Html("<code>{}</code>").format(part) if n % 2 else Html.escape(part) for n, part in enumerate(parts)
    )

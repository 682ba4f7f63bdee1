"""All schedules: their last fires, the day with its collisions, and what comes next."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache, partial
from itertools import islice, takewhile
from typing import Any

from fastapi import APIRouter, Response

from ayb_jobs.errors import InvalidInput
from ayb_jobs.http.dashboard import charts
from ayb_jobs.http.dashboard.charts import Stroke
from ayb_jobs.http.dashboard.clock import Clock
from ayb_jobs.http.dashboard.shell import Visitor
from ayb_jobs.model.schedules.cron import fires
from ayb_jobs.model.schedules.preview import collisions
from ayb_jobs.model.schedules.schedule import Schedule
from ayb_jobs.model.words import count_words, counted, span_words
from ayb_jobs.storage.clock import now
from ayb_jobs.storage.schedules.durations import typical_seconds
from ayb_jobs.storage.schedules.grid import FiredSquare, list_squares
from ayb_jobs.storage.schedules.overdue import Overdue, list_overdue
from ayb_jobs.storage.schedules.schedules import list_schedules

MOST_ROWS = 200
MOST_LATE = 1000
# The day shows so many schedules. One that fires more often than this in a day is told in words beside it.
MOST_LANES = 40
MOST_FIRES = 300
GATHERING = 3
MOST_GATHERINGS = 10
COMING = 8
NAMED = 5
DAY = timedelta(days=1)
# When a day begins, and when the next one does.
Day = tuple[datetime, datetime]
KINDS = (
    ("completed", "completed"),
    ("late", "late"),
    ("caught_up", "caught up"),
    ("coalesced", "merged into a later one"),
    ("skipped", "skipped or canceled"),
    ("failed", "failed"),
    ("running", "runs"),
    ("waiting", "waits"),
)
WORDS = dict(KINDS)
# How a job that a fire made stands or ended, as its square is drawn.
BY_JOB: Mapping[str | None, str] = {
    "queued": "waiting",
    "running": "running",
    "failed": "failed",
    "discarded": "failed",
    "timed_out": "failed",
    "lost": "failed",
    "canceled": "canceled",
}

# How a schedule stands by what became of its last fire.
BY_LAST: Mapping[str | None, tuple[str, str]] = {
    "running": ("running", "runs"),
    "failed": ("late", "last failed"),
    None: ("queued", "no fire yet"),
}


def add_to(routes: APIRouter) -> None:
    """Add the page of all schedules."""
    routes.add_api_route("/schedules", schedules, methods=["GET"])


def schedules(visit: Visitor) -> Response:
    """Show all schedules."""
    with visit.reading() as conn:
        at = now(conn)
        found = list_schedules(conn)
        squares = list_squares(conn)
        late = {each.schedule_id: each for each in list_overdue(conn, limit=MOST_LATE)}
        typical_s = typical_seconds(conn)
    clock = visit.clock(at)
    shown = found[:MOST_ROWS]
    coming = sorted(
        (each for each in found if each.enabled and each.next_run_at), key=lambda each: each.next_run_at or at
    )
    return visit.page(
        "schedules.html",
        now=at,
        title="Schedules",
        summary=_summary(found, late),
        rows=[_row(each, squares.get(each.id, ()), late.get(each.id), typical_s.get(each.id)) for each in shown],
        kinds=KINDS,
        key_square=partial(_key_square),
        coming=coming[:COMING],
        **_day([each for each in found if each.enabled], typical_s, clock),
    )


def _key_square(kind: str) -> Any:
    return charts.squares([kind], WORDS[kind], most=1)


def _summary(found: Sequence[Schedule], late: Mapping[str, Overdue]) -> str:
    off = sum(not each.enabled for each in found)
    parts = [count_words(len(found), "schedule")]
    parts += [f"{counted(len(late), most=MOST_LATE)} overdue"] if late else []
    parts += [f"{off} off"] if off else []
    parts += [f"the first {MOST_ROWS} are listed"] if len(found) > MOST_ROWS else []
    return ", ".join(parts)


def _row(
    schedule: Schedule, fired: Sequence[FiredSquare], late: Overdue | None, typical_s: float | None
) -> dict[str, Any]:
    kinds = [kind_of(each) for each in fired]
    note = f"runs about {span_words(typical_s)}" if typical_s is not None else ""
    if late is not None:
        note = late.told.partition("` ")[2]
    elif schedule.state in {"broken", "ended", "dormant"}:
        note = {"broken": "", "ended": "no fire is left", "dormant": "its next fire is years away"}[schedule.state]
    return {
        "schedule": schedule,
        "squares": charts.squares(kinds, _said(kinds)),
        "word": word_of(schedule, late, kinds),
        "note": note,
    }


def word_of(schedule: Schedule, late: Overdue | None, kinds: Sequence[str]) -> tuple[str, str]:
    """Return how a schedule stands: its shape, and its word."""
    if not schedule.enabled:
        return "off", "off"
    if late is not None:
        return "overdue", "broken" if late.reason == "broken" else "overdue"
    if schedule.state != "enabled":
        return "off", schedule.state
    last = next((kind for kind in reversed(kinds) if kind not in {"coalesced", "skipped"}), None)
    return BY_LAST.get(last, ("well", "in time"))


def kind_of(fired: FiredSquare) -> str:
    """Return how a fire is drawn: by how its job stands, or by what the ledger says."""
    return BY_JOB.get(fired.job) or ("completed" if fired.fire == "enqueued" else fired.fire)


def _said(kinds: Sequence[str]) -> str:
    if not kinds:
        return "no fire so far"
    counts = [f"{kinds.count(kind)} {WORDS.get(kind, kind)}" for kind in dict.fromkeys(kinds)]
    return f"{count_words(len(kinds), 'last fire')}: {', '.join(counts)}"


def _day(enabled: Sequence[Schedule], typical_s: Mapping[str, float], clock: Clock) -> dict[str, Any]:
    """Return the day's lanes, and what fires together in it."""
    local = clock.local(clock.now)
    day = start, end = clock.midnight(), clock.midnight(days=1)
    found = {each.name: _fires(each, day) for each in enabled[:MOST_LANES]}
    drawn = {name: times for name, times in found.items() if times and len(times) <= MOST_FIRES}
    frequent = [name for name, times in found.items() if len(times) > MOST_FIRES]
    met = [each for each in collisions(drawn) if len(each.schedules) >= GATHERING]
    bands = _bands(drawn, clock)
    by_name = {each.name: each for each in enabled}
    lanes = []
    for name, times in drawn.items():
        usual_s = typical_s.get(by_name[name].id, 0.0)
        strokes = [_stroke(time, clock, usual_s) for time in times]
        title = f"{name}: {count_words(len(times), 'fire')} today, the first at {clock.short(times[0])}"
        lanes.append({"name": name, "svg": charts.day(strokes, bands, clock.minute(clock.now), title)})
    return {
        "lanes": lanes,
        "gatherings": met[:MOST_GATHERINGS],
        "today": f"{local:%A} {local.day} {local:%B}, {clock.zone}{_shifted(end - start)}",
        "left_out": _left_out(frequent, len(enabled)),
    }


def _left_out(frequent: Sequence[str], enabled: int) -> str:
    parts = []
    if frequent:
        named = ", ".join(frequent[:NAMED]) + (" and others" if len(frequent) > NAMED else "")
        parts.append(f"More often than {MOST_FIRES} times a day, and not drawn: {named}.")
    if enabled > MOST_LANES:
        parts.append(f"The first {MOST_LANES} of {enabled} schedules are drawn.")
    return " ".join(parts)


def _shifted(length: timedelta) -> str:
    """Say what the axis, which has the clock's 24 hours, shows on a day on which the clock is put forward or back."""
    if length == DAY:
        return ""
    span = span_words(abs(length - DAY).total_seconds())
    if length < DAY:
        return f"; the clocks skip {span} of it"
    return f"; {span} of it comes twice, drawn one over the other"


def _bands(drawn: Mapping[str, Sequence[datetime]], clock: Clock) -> list[int]:
    by_minute: dict[datetime, set[str]] = {}
    for name, times in drawn.items():
        for time in times:
            by_minute.setdefault(time.replace(second=0, microsecond=0), set()).add(name)
    return sorted({int(clock.minute(minute)) for minute, names in by_minute.items() if len(names) >= GATHERING})


def _stroke(time: datetime, clock: Clock, usual_s: float) -> Stroke:
    return Stroke(round(clock.minute(time), 1), min(1440.0, usual_s / 60), time <= clock.now)


def _fires(schedule: Schedule, day: Day) -> tuple[datetime, ...]:
    beside = schedule.next_run_at if schedule.cron.startswith("@every") else None
    return _fires_of(schedule.cron, schedule.timezone, schedule.dst, beside, day)


@lru_cache(maxsize=2048)
def _fires_of(cron: str, timezone: str, dst: str, beside: datetime | None, day: Day) -> tuple[datetime, ...]:
    """Return a day's fires, one more than are drawn if there are more; none of a timing that cannot be read."""
    start, end = day
    found: list[datetime] = []
    try:
        ahead = fires(cron, timezone, start - timedelta(microseconds=1), dst, beside=beside)
        found.extend(islice(takewhile(lambda fire: fire < end, ahead), MOST_FIRES + 1))
    except InvalidInput:
        pass  # it has ended, or cannot be read: what fired before is drawn
    return tuple(found)

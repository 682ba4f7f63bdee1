"""What `top` shows: lines of text for a terminal of a given size, each with how it looks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ayb_jobs.checks.finding import Severity
from ayb_jobs.checks.glance import Details, Glance
from ayb_jobs.checks.verdict import Mood, Verdict
from ayb_jobs.cli.commands.top.lines import Failures, Line, Queue, Running, Size, Target, cut_to, wrapped
from ayb_jobs.cli.commands.top.tables import details_of
from ayb_jobs.cli.widths import cut
from ayb_jobs.model.words import as_sentence, count_words, counted, span_words

MOODS = {Mood.WELL: "good", Mood.READY: "good", Mood.NEEDED: "warn", Mood.UNKNOWN: "bad"}


LONGEST_NAME = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The lines of a screen, the first of the body that it shows, and the last that may be the first.

    `targets` are the rows of the whole body that can be acted on, each with its place there.
    """

    lines: Sequence[Line]
    first: int
    last_first: int
    page: int
    targets: Sequence[tuple[int, Target]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What somebody looks at: the first line of the body, the row that they chose, whether nothing is read for now.

    `told` stands in place of the last line: a question, or what became of it.
    """

    first: int = 0
    chosen: Target | None = None
    held: bool = False
    told: Line | None = None


def draw(seen: Glance, size: Size, view: View, *, fault: str = "") -> Drawn:
    """Return the screen. If the last look failed with a `fault`, say so, and of when the rest is."""
    top, body = parted(seen, size, fault)
    told = wrapped(view.told.text, size.columns, view.told.style) if view.told else []
    page = max(0, size.rows - len(top) - max(1, len(told)))
    last_first = max(0, len(body) - page)
    first = max(0, min(view.first, last_first))
    below = len(body) - first - page
    bottom = told or [foot(seen, below, view)]
    room = max(0, size.rows - len(bottom))
    lines = [*top, *body[first : first + page]][:room]
    lines += [Line("")] * (room - len(lines))
    lines += bottom[: size.rows]
    targets = [(place, line.target) for place, line in enumerate(body) if line.target is not None]
    return Drawn(lines=cut_to(lines, size.columns), first=first, last_first=last_first, page=page, targets=targets)


def whole(seen: Glance, columns: int) -> Sequence[Line]:
    """Return all lines, however many, without the keys."""
    return cut_to([*sentence(seen, columns, ""), *beside(seen, columns, ""), *sections(seen, columns)], columns)


def parted(seen: Glance, size: Size, fault: str) -> tuple[list[Line], list[Line]]:
    """Return the head, and the body that scrolls below it; on a small screen the head is the sentence alone."""
    first, further = sentence(seen, size.columns, fault), beside(seen, size.columns, fault)
    body = sections(seen, size.columns)
    if len(first) + len(further) > size.rows // 2:
        return first, [*further, *body]
    return [*first, *further], body


def sentence(seen: Glance, columns: int, fault: str) -> list[Line]:
    """Return the sentence, or that there is no newer answer."""
    if fault:
        return wrapped(f"{as_sentence(fault)} It is asked again and again.", columns, "bad")
    return wrapped(seen.verdict.sentence, columns, mood_style(seen.verdict))


def beside(seen: Glance, columns: int, fault: str) -> list[Line]:
    """Return what to do if something is wrong, or how it was before the fault, and the figures."""
    verdict, lines = seen.verdict, []
    if fault:
        lines = [Line(f"At {clock(seen.at)} it was: {verdict.sentence}", "soft")]
    elif verdict.findings:
        lines = wrapped(f"Do: {verdict.findings[0].remedy}", columns)
    told = wrapped(figures(seen.verdict, seen.details), columns) if seen.details else []
    return [*lines, Line(""), *told]


def mood_style(verdict: Verdict) -> str:
    """Return how the sentence looks."""
    grave = any(each.severity is Severity.FAILING for each in verdict.findings)
    return "bad" if grave else MOODS[verdict.mood]


def figures(verdict: Verdict, details: Details) -> str:
    """Return the four figures of the dashboard's first page, in a line."""
    counts, measured = details.counts, verdict.figures
    failures = details.failures
    failed = counted(failures.jobs, most=None, cut=failures.cut)
    later = f" (later {counted(counts.later, cut=counts.cut)})" if counts.later else ""
    slots = f" of {measured.slots:,}" if measured else ""
    oldest = span_words(measured.level.oldest_wait_s) if measured and counts.waiting else "–"
    return (
        f"Waiting {counted(counts.waiting, cut=counts.cut)}{later} · running {counted(counts.running)}{slots} · "
        f"failed in the hour {failed} · oldest wait {oldest}"
    )


def foot(seen: Glance, below: int, view: View) -> Line:
    """Return the last line: the time of what is shown, whether there is more below, and the keys."""
    still = "HELD STILL, " if view.held else ""
    if view.chosen is not None:
        return Line(f"{still}{clock(seen.at)} · {key_words(view.chosen)} · j k choose · q quits", "soft")
    more = f" · {count_words(below, 'more line')} below" if below > 0 else ""
    keys = f"q quits · h {'goes on' if view.held else 'holds still'} · j k choose"
    return Line(f"{still}{clock(seen.at)}{more} · {keys}", "soft")


def key_words(chosen: Target) -> str:
    """Say which key does what to the row that is chosen."""
    match chosen:
        case Queue(name, is_paused):
            return f"p {'resumes' if is_paused else 'pauses'} {cut(name, LONGEST_NAME)}"
        case Running(_, job_type):
            return f"c cancels this {cut(job_type, LONGEST_NAME)}"
        case Failures(job_type):
            return f"r retries these {cut(job_type, LONGEST_NAME)}"


def clock(at: datetime) -> str:
    """Return a time of the day."""
    return f"{at.astimezone(UTC):%T} UTC"


def sections(seen: Glance, columns: int) -> list[Line]:
    """Return what stands below the head, each section with its title."""
    return [
        *findings(seen.verdict, columns),
        *(details_of(seen.details, seen.at, columns) if seen.details else []),
    ]


def findings(verdict: Verdict, columns: int) -> list[Line]:
    """Return what else was found, each with what to do."""
    lines: list[Line] = []
    for each in verdict.findings[1:]:
        style = "bad" if each.severity is Severity.FAILING else "warn"
        lines += wrapped(f"! {as_sentence(each.told)}", columns, style)
        lines += wrapped(f"  Do: {each.remedy}", columns)
    return lines

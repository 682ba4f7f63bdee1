"""One sentence that tells whether all is well, the same for the dashboard, `health` and `/readyz`."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ayb_jobs.checks.database import unfit_database
from ayb_jobs.checks.finding import Finding, Severity
from ayb_jobs.checks.fleet import gone, is_gone, lifeless, no_daemon, stuck, stuck_handlers, unclaimable
from ayb_jobs.checks.queue import abandoned, failing, held, late, paused, retrying
from ayb_jobs.checks.refused import refused
from ayb_jobs.checks.retention import deferred
from ayb_jobs.checks.schedules import overdue, undelivered
from ayb_jobs.config import Retention
from ayb_jobs.model.words import as_sentence, count_words, span_words
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.lifelines import HeardDaemon, look_at_fleet
from ayb_jobs.storage.fleet.refusals import told_by
from ayb_jobs.storage.fleet.unclaimable import LOOK
from ayb_jobs.storage.queue.lateness import Pace, measure_pace
from ayb_jobs.storage.queue.minutes import Level, measure_level

# Due jobs, and attempts that ended within a minute, are counted up to here.
COUNTED = 10_000


class Mood(StrEnum):
    """How things stand: well, well with nothing done yet, in need of somebody, or not known."""

    WELL = "well"
    READY = "ready"
    NEEDED = "needed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the sentence of a healthy queue tells: the level, the pace, and the daemons that are alive."""

    level: Level
    pace: Pace
    daemons: int
    slots: int

    @property
    def all_seen(self) -> bool:
        """Whether so few jobs are due that each was looked at, for whether a daemon can run it."""
        return self.level.waiting < LOOK and not self.level.cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The sentence, how things stand, and what was found, the gravest first. No figures if they could not be had."""

    sentence: str
    mood: Mood
    findings: Sequence[Finding]
    figures: Figures | None = None

    @property
    def nameless(self) -> str:
        """The sentence without the names of job types, queues and schedules: strangers ask probes."""
        return as_sentence(self.findings[0].fact) if self.findings else self.sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at the database found, each question asked once, and the verdict on it.

    If the database is `unfit`, nothing else was asked. `fleet` are the daemons that were heard of within a minute.
    `lacking` is what a daemon that asks lacks itself for its work.
    """

    verdict: Verdict
    unfit: Sequence[Finding] = ()
    fleet: Sequence[HeardDaemon] = ()
    refused: Finding | None = None
    lacking: Sequence[Finding] = ()
    stuck_handlers: Finding | None = None
    unclaimable: Finding | None = None
    overdue: Finding | None = None
    deferred: Sequence[Finding] = ()


DISABLED = Verdict(
    sentence="Jobs are disabled: this daemon runs no job and fires no schedule.", mood=Mood.READY, findings=()
)


def look_round(conn: Connection, retention: Retention, own: Sequence[Finding] = ()) -> Look:
    """Ask every check that is cheap. Jobs that wait are told by the first finding if no daemon is alive.

    `own` is what the daemon that is asked finds of itself.
    """
    if unfit := list(unfit_database(conn)):
        return Look(verdict=decide([*unfit, *own], None), unfit=unfit)
    fleet = look_at_fleet(conn)
    figures = _measured(conn, fleet)
    none, waiting, not_done, kept = no_daemon(fleet), unclaimable(conn), overdue(conn), deferred(conn, retention)
    refusals = refused(told_by(fleet), ended=figures.pace.ended)
    held_slots = None if none else stuck_handlers(fleet)
    found = [
        none,
        None if none else stuck(fleet),
        held_slots,
        refusals,
        abandoned(conn),
        None if none else waiting,
        None if none else late(conn, figures.level, counted=COUNTED),
        None if none else paused(conn),
        None if none else held(conn),
        not_done,
        undelivered(conn),
        failing(conn),
        retrying(conn),
        gone(conn),
        lifeless(fleet),
    ]
    return Look(
        verdict=decide([*own, *filter(None, found), *kept], figures),
        fleet=fleet,
        refused=refusals,
        stuck_handlers=held_slots,
        unclaimable=waiting,
        overdue=not_done,
        deferred=kept,
    )


def _measured(conn: Connection, fleet: Sequence[HeardDaemon]) -> Figures:
    alive = [daemon for daemon in fleet if not is_gone(daemon)]
    return Figures(
        level=measure_level(conn, most=COUNTED),
        pace=measure_pace(conn, most=COUNTED),
        daemons=len(alive),
        slots=sum(daemon.slots for daemon in alive),
    )


def decide(findings: Sequence[Finding], figures: Figures | None) -> Verdict:
    """Return the verdict on what was found: the gravest finding speaks, or else the figures do."""
    ordered = sorted(findings, key=lambda finding: finding.severity is not Severity.FAILING)
    if ordered:
        mood = Mood.UNKNOWN if ordered[0].name == "database.unavailable" else Mood.NEEDED
        return Verdict(sentence=as_sentence(ordered[0].told), mood=mood, findings=ordered, figures=figures)
    if figures is None:
        return Verdict(sentence="Nothing is known of the queue.", mood=Mood.UNKNOWN, findings=())
    if not figures.pace.any_job:
        return Verdict(sentence=_ready(figures), mood=Mood.READY, findings=(), figures=figures)
    return Verdict(sentence=_well(figures), mood=Mood.WELL, findings=(), figures=figures)


def _ready(figures: Figures) -> str:
    daemons = count_words(figures.daemons, "daemon")
    return f"Ready, and nothing to do yet: {daemons} with {count_words(figures.slots, 'free slot')}, no job so far."


def _well(figures: Figures) -> str:
    jobs = count_words(figures.pace.ended, "job", most=COUNTED)
    waits = "none waits"
    if figures.level.waiting:
        waits = f"none waits longer than {span_words(figures.level.oldest_wait_s)}"
    if figures.level.cut:
        waits += " in the queues that were looked at"
    return f"All well: {jobs} in the last minute, {waits}, {count_words(figures.daemons, 'daemon')}."

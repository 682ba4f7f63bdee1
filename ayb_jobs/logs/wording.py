"""The words for everything that happens: one closed list of lines, and the listener that writes them."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, assert_never

from structlog.typing import FilteringBoundLogger

from ayb_jobs import events
from ayb_jobs.errors import AybJobsError
from ayb_jobs.events import Event, Single
from ayb_jobs.logs.bursts import Burst
from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.job import JobState, LeasedJob
from ayb_jobs.model.lifecycle import Outcome, Settlement
from ayb_jobs.model.schedules.fires import Advance, Fire

# Single lines a second, for what goes well and for what does not; beyond that a line a second with counts.
MOST_SUCCESSES = 20
MOST_FAILURES = 100


class Line(NamedTuple):
    """A line that may be written: its level and what it means."""

    level: str
    meaning: str


LINES: Mapping[str, Line] = {
    "daemon.started": Line("info", "The daemon runs: worker, concurrency, job types, queues."),
    "daemon.hint": Line("info", "At a terminal, once the daemon has started: what you can try from a second one."),
    "daemon.disabled": Line("warning", "`jobs.enabled` is false: nothing runs; `hint` says how to enable it."),
    "daemon.stopping": Line("info", "The daemon was told to stop. It waits for running handlers."),
    "daemon.stopped": Line("info", "The daemon has stopped."),
    "daemon.abandoned": Line(
        "warning",
        "The daemon has stopped although handlers ran or endings were not written; those jobs will run again.",
    ),
    "settings.noted": Line("warning", "What to know about the settings' sources, such as AYB's own file."),
    "database.embedded": Line("info", "No database is configured: the embedded one is used."),
    "schema.migrated": Line("info", "The schema was brought up to date."),
    "api.started": Line("info", "HTTP is served; without a token configured, `authentication` is `none`."),
    "api.unavailable": Line(
        "warning", "HTTP is not served, since the extra `api` is not installed; jobs run all the same."
    ),
    "api.failed": Line("error", "HTTP is not served; jobs go on."),
    "action.taken": Line("info", "Someone changed a job or a schedule by the API: `action`, `actor` and `target`."),
    "jobs.enqueued": Line("debug", "This daemon put jobs into the queue, by type."),
    "jobs.leased": Line("debug", "A batch of jobs was leased."),
    "jobs.released": Line("info", "Jobs that never started were given back with their attempt."),
    "jobs.unclaimable": Line(
        "warning",
        "Due jobs wait that this daemon cannot run: of types that it does not know, of queues that it does not serve.",
    ),
    "jobs.claimable": Line("info", "No due job is left that this daemon cannot run."),
    "jobs.summary": Line("info", "Counts of what had no line of its own in the last second."),
    "jobs.failures": Line("warning", "Counts of failures that had no line of their own in the last second."),
    "job.completed": Line("info", "A job completed."),
    "job.snoozed": Line("info", "A handler asked to run later; the attempt is not counted."),
    "job.canceled": Line("info", "A handler canceled its job."),
    "job.retried": Line("warning", "An attempt failed; another follows in `retry_in_s`."),
    "job.failed": Line("error", "A job failed for good."),
    "job.recovered": Line("warning", "A job whose daemon was lost is queued again."),
    "job.overran": Line("warning", "A handler runs past its timeout and was told to stop."),
    "job.abandoned": Line("error", "A handler was told to stop and did not; its slot stays taken."),
    "lease.lost": Line("warning", "Another daemon may have the job; the outcome is thrown away."),
    "request.failed": Line("error", "A request to the API failed through no fault of its caller's."),
    "schedule.fired": Line("info", "A schedule made a job for its fire at `fire_at`."),
    "schedule.passed": Line(
        "info", "A fire made no job of its own: skipped, or part of a later one; `reason` says why."
    ),
    "schedules.summary": Line("info", "Counts of fires that had no line of their own in the last second."),
    "schedule.broken": Line("error", "A schedule cannot fire until it is edited."),
    "schedule.ended": Line("info", "A schedule has no further fire: the last year that its expression names is over."),
    "schedule.put_right": Line(
        "warning", "A schedule's next run was later than its expression says, as after the clock was set back."
    ),
    "schedule.repaired": Line("info", "A schedule that was broken fires again."),
    "schedule.overdue": Line(
        "error", "A schedule did not do what was expected: broken, no success in time, or not fired."
    ),
    "schedule.recovered": Line("info", "A schedule that was overdue is not overdue any more."),
    "alerts.undelivered": Line("warning", "An address takes no alerts; they are tried again."),
    "alerts.delivered": Line("info", "That address takes alerts again."),
    "cleanup.interrupted": Line(
        "info", "A cleanup stopped after a batch and gave its job back; another daemon goes on."
    ),
    "cleanup.table_missing": Line(
        "warning", "The table does not exist, so the cleanup deleted nothing. Told once for each start, then at debug."
    ),
    "settlement.refused": Line(
        "error", "The database refuses to record how an attempt ended. The daemon tries again after `retry_s`."
    ),
    "removal.refused": Line(
        "warning", "Completed jobs cannot be removed: they are kept for a minute, and then left to the pruner."
    ),
    "rows.pruned": Line("info", "Retention removed rows."),
    "rows.unprunable": Line(
        "warning", "The database refuses to delete so many rows that retention would remove. The others were removed."
    ),
    "retention.deferred": Line(
        "warning", "Jobs from before the database was adopted will be removed; set `setting` to decide otherwise."
    ),
    "row.set_aside": Line(
        "error", "A part of the daemon cannot handle this row, and tries it again after `retry_s`. The others go on."
    ),
    "loop.failed": Line(
        "error",
        "A part of the daemon fails and tries again after `retry_s`. The line comes again for as long as it fails.",
    ),
    "loop.failed_again": Line("debug", "That part failed again."),
    "loop.recovered": Line("info", "That part works again, after so many failures."),
    "notify.available": Line("info", "Notifications arrive again."),
    "notify.unavailable": Line("warning", "Notifications do not arrive; polling alone finds jobs."),
    "tracing.unavailable": Line("warning", "Traces were asked for and cannot be made; jobs run without."),
    "log.dropped": Line("warning", "So many lines were not written, because the reader is too slow."),
    "log.unrenderable": Line("error", "A line could not be rendered."),
    "library.message": Line("info", "A library or a handler wrote to Python's own logging; at its own level."),
}
ENQUEUE = "job.enqueue"
HOW_TO_ENABLE = "set enabled = true under [jobs], or AYB_JOBS_ENABLED=true"


class LogSubscriber:
    """Writes the lines of events; give it to `Events.subscribe`, and call `summarize` about once a second.

    What happens for each job has a line of its own up to some tens a second. Failures have more room than successes.
    Beyond that they are counted, and `summarize` writes the counts.
    """

    def __init__(self, logger: FilteringBoundLogger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._successes = Burst(MOST_SUCCESSES)
        self._failures = Burst(MOST_FAILURES)
        self._fires = Burst(MOST_SUCCESSES)
        self._batches = Burst(MOST_SUCCESSES)
        self._unclaimable: tuple[frozenset[str], frozenset[str]] = frozenset(), frozenset()

    def __call__(self, event: Event) -> None:
        """Write what an event has to say."""
        if isinstance(event, events.JobsSettled):
            self._settled(event)
        elif isinstance(event, events.JobsLeased):
            self._leased(event)
        elif isinstance(event, events.JobsUnclaimable):
            self._waiting(event)
        elif isinstance(event, ActionTaken):
            self._acted(event)
        elif isinstance(event, events.SchedulesFired):
            self._some(self._fires, [fire_line(one, fire) for one in event.advances for fire in one.fires])
        elif isinstance(event, events.LeasesLost):
            lost = [("lease.lost", {"job_id": job_id, "during": event.during}) for job_id in event.job_ids]
            self._some(self._failures, lost)
        else:
            self._one(event)

    def summarize(self) -> None:
        """Write the counts of what had no line of its own since the last call."""
        now = self._clock()
        bursts = (
            ("jobs.summary", self._successes),
            ("jobs.failures", self._failures),
            ("schedules.summary", self._fires),
        )
        for name, burst in bursts:
            counts, seconds = burst.take(now)
            if counts:
                self._tell(name, seconds=round(seconds, 1), **counts)

    def dropped(self, count: int) -> None:
        """Tell that lines could not be written."""
        self._tell("log.dropped", count=count)

    def _tell(self, name: str, /, **fields: Any) -> None:
        getattr(self._logger, LINES[name].level)(name, **fields)

    def _some(self, burst: Burst, lines: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Write as many lines as this second has room for, and count the others."""
        now = self._clock()
        allowed = burst.allow(len(lines), now)
        for name, fields in lines[:allowed]:
            self._tell(name, **fields)
        if len(lines) > allowed:
            burst.count(Counter(name.partition(".")[2] for name, _ in lines[allowed:]), now)

    def _settled(self, event: events.JobsSettled) -> None:
        """Write a batch of endings. Tens of thousands come each second, so that the usual one costs a comparison."""
        others = [ending for ending in event.settlements if ending.outcome is not Outcome.COMPLETED]
        completed = len(event.settlements) - len(others)
        if completed:
            self._completed(event, completed)
        for burst, good in ((self._successes, True), (self._failures, False)):
            lines = [settled_line(ending) for ending in others if went_well(ending) is good]
            if lines:
                self._some(burst, lines)

    def _completed(self, event: events.JobsSettled, completed: int) -> None:
        now = self._clock()
        allowed = self._successes.allow(completed, now)
        if allowed:
            endings = (ending for ending in event.settlements if ending.outcome is Outcome.COMPLETED)
            for ending in islice(endings, allowed):
                name, fields = settled_line(ending)
                self._tell(name, **fields)
        if completed > allowed:
            self._successes.count(Counter(completed=completed - allowed), now)

    def _leased(self, event: events.JobsLeased) -> None:
        if event.jobs and self._batches.allow(1, self._clock()):
            self._tell("jobs.leased", count=len(event.jobs))

    def _acted(self, event: ActionTaken) -> None:
        """Tell what was changed by hand; enqueueing is an application's daily work, and is for those who debug."""
        if event.action != ENQUEUE:
            self._some(self._successes, [("action.taken", action_fields(event))])
        elif self._batches.allow(1, self._clock()):
            self._tell("jobs.enqueued", source="api", counts=dict(event.enqueued))

    def _waiting(self, event: events.JobsUnclaimable) -> None:
        """Tell once when the types or queues that wait change, not each time they are counted."""
        waiting = frozenset(event.counts), frozenset(event.queues)
        if waiting == self._unclaimable:
            return
        self._unclaimable = waiting
        if event.counts or event.queues:
            told = {"unknown_types": dict(event.counts), "unserved_queues": dict(event.queues)}
            self._tell("jobs.unclaimable", **{name: counts for name, counts in told.items() if counts})
        else:
            self._tell("jobs.claimable")

    def _one(self, event: Single) -> None:
        """Write the one line of an event that is rare, or comes one job at a time."""
        line = event_line(event)
        if line is None:
            return
        name, fields = line
        if name.startswith(("job.", "request.", "row.")):
            self._some(self._failures, [line])
        else:
            self._tell(name, **fields)


def event_line(event: Single) -> tuple[str, dict[str, Any]] | None:  # noqa: C901, PLR0911, PLR0912 - a flat table
    """Return the name and fields of an event's line; None where there is nothing to say."""
    match event:
        case events.JobsReleased():
            return ("jobs.released", {"count": len(event.job_ids)}) if event.job_ids else None
        case events.SettlementRefused():
            return "settlement.refused", job_fields(event.job) | retry_fields(event.retry_s, event.error)
        case events.RemovalRefused():
            return "removal.refused", exception_fields(event.error)
        case events.JobRecovered():
            job = event.job
            name = "job.failed" if job.state == JobState.FAILED else "job.recovered"
            told = {"job_id": job.id, "job_type": job.type, "attempt": job.attempts, "crashes": job.crashes}
            return name, told | error_fields(job.error)
        case events.JobOverran():
            name = "job.abandoned" if event.abandoned else "job.overran"
            return name, job_fields(event.job) | {"timeout_s": event.timeout_s}
        case events.RowsPruned():
            return ("rows.pruned", {"table": event.table, "rows": event.rows}) if event.rows else None
        case events.RowsUnprunable():
            return "rows.unprunable", {"table": event.table, "rows": event.rows} | exception_fields(event.error)
        case events.RetentionDeferred():
            told = {
                "table": f"{event.state} jobs",
                "kept_h": event.kept_h,
                "begins_in_h": round(event.begins_in_s / 3600, 1),
            }
            return "retention.deferred", told | {"setting": f"retention.{event.state}_h"}
        case events.LoopFailed():
            told = {"loop": event.loop, "retry_s": round(event.retry_s, 3)}
            if event.failures > 1:
                told |= {"failures": event.failures, "failing_s": round(event.failing_s, 1)}
            return "loop.failed", told | exception_fields(event.error)
        case events.LoopErrorRepeated():
            return "loop.failed_again", {"loop": event.loop} | exception_fields(event.error)
        case events.LoopRecovered():
            return "loop.recovered", {"loop": event.loop, "failures": event.failures}
        case events.RowSetAside():
            told = {"loop": event.part, "table": event.table, "id": event.row_id, "retry_s": event.retry_s}
            return "row.set_aside", told | error_fields(event.error)
        case events.NotificationsAvailable():
            return "notify.available", {}
        case events.NotificationsUnavailable():
            return "notify.unavailable", {"reason": event.reason}
        case events.DaemonStarted():
            return "daemon.started", {
                "concurrency": event.concurrency,
                "job_types": list(event.job_types),
                "queues": list(event.queues),
                "scheduler": event.scheduler,
            }
        case events.DaemonDisabled():
            return "daemon.disabled", {"hint": HOW_TO_ENABLE}
        case events.DaemonStopping():
            told = {"reason": event.reason, "running": event.running, "timeout_s": event.timeout_s}
            return "daemon.stopping", told
        case events.DaemonStopped():
            return stopped_line(event)
        case events.ScheduleBroken():
            return "schedule.broken", {"schedule": event.name, "error": event.error}
        case events.ScheduleEnded():
            return "schedule.ended", {"schedule": event.name}
        case events.SchedulePutRight():
            told = {"was": event.was.isoformat(), "next_run_at": event.next_run_at.isoformat()}
            return "schedule.put_right", {"schedule": event.name} | told
        case events.ScheduleRepaired():
            return "schedule.repaired", {"schedule": event.name}
        case events.ScheduleOverdue():
            return "schedule.overdue", {"schedule": event.name, "reason": event.reason, "error": event.message}
        case events.ScheduleRecovered():
            return "schedule.recovered", {"schedule": event.name}
        case events.AlertsUndelivered():
            return "alerts.undelivered", {"host": event.host, "error": event.error}
        case events.AlertsDelivered():
            return "alerts.delivered", {"host": event.host}
        case events.SettingsNoted():
            return "settings.noted", {"note": event.note}
        case events.EmbeddedDatabaseUsed():
            return "database.embedded", {"home": event.home}
        case events.SchemaMigrated():
            return "schema.migrated", {"migrations": list(event.migrations), "notices": list(event.notices)}
        case events.ApiStarted():
            return "api.started", {"url": event.url, "authentication": "token" if event.authenticated else "none"}
        case events.ApiUnavailable():
            return "api.unavailable", {"install": "pip install 'ayb-jobs[api]'"}
        case events.FirstSteps():
            return "daemon.hint", {"try": f"ayb-jobs jobs enqueue {event.job_type or 'TYPE'}"}
        case events.ApiFailed():
            return "api.failed", exception_fields(event.error)
        case events.TracingUnavailable():
            return "tracing.unavailable", {"reason": event.reason}
        case events.RequestFailed():
            return "request.failed", {"request": event.request} | exception_fields(event.error)
        case _:
            assert_never(event)


def action_fields(event: ActionTaken) -> dict[str, Any]:
    """Return who did what to which job or schedule, or to how many jobs."""
    about = {"count": event.count} if event.target is None else {"target": event.target}
    return {"action": event.action, "actor": event.actor, **about}


def stopped_line(event: events.DaemonStopped) -> tuple[str, dict[str, Any]]:
    """Return the name and fields of the last line: what was left behind, if anything."""
    counts = {"abandoned": event.abandoned, "unsettled": event.unsettled}
    left = {name: count for name, count in counts.items() if count}
    return ("daemon.abandoned", left) if left else ("daemon.stopped", {})


def retry_fields(retry_s: float, error: BaseException) -> dict[str, Any]:
    """Return what says why something failed and when it is tried again."""
    return {"retry_s": round(retry_s, 3)} | exception_fields(error)


def fire_line(advance: Advance, fire: Fire) -> tuple[str, dict[str, Any]]:
    """Return the name and fields of the line about a nominal fire."""
    fields = {"schedule": advance.schedule.name, "fire_at": fire.fire_at.isoformat(), "outcome": fire.outcome.value}
    if fire.outcome.makes_job:
        return "schedule.fired", fields
    return "schedule.passed", fields | ({"reason": fire.reason} if fire.reason else {})


def settled_line(ending: Settlement) -> tuple[str, dict[str, Any]]:
    """Return the name and fields of the line about an attempt's end."""
    fields = job_fields(ending.job) | {"duration_ms": round((ending.ended - ending.started) * 1000, 1)}
    if ending.records is not None:
        fields["records"] = ending.records
    match ending.outcome:
        case Outcome.COMPLETED:
            return "job.completed", fields
        case Outcome.SNOOZED:
            return "job.snoozed", fields | {"run_in_s": ending.delay_s}
        case Outcome.CANCELED:
            return "job.canceled", fields | {"reason": ending.error}
        case Outcome.FAILED | Outcome.TIMED_OUT | Outcome.DISCARDED | Outcome.LOST:
            fields |= {"max_attempts": ending.job.max_attempts, "outcome": ending.outcome.value}
            fields |= error_fields(ending.error or "")
            if ending.state is JobState.QUEUED:
                return "job.retried", fields | {"retry_in_s": round(ending.delay_s or 0.0, 1)}
            return "job.failed", fields
        case _:
            assert_never(ending.outcome)


def went_well(ending: Settlement) -> bool:
    """Tell whether an attempt ended as its handler wished."""
    return ending.outcome in (Outcome.COMPLETED, Outcome.SNOOZED, Outcome.CANCELED)


def job_fields(job: LeasedJob) -> dict[str, Any]:
    """Return what says which job a line is about."""
    return {"job_id": job.id, "job_type": job.type, "attempt": job.attempt}


def error_fields(text: str) -> dict[str, Any]:
    """Return an error's telling line, and the whole text beside it where there is more (a traceback)."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) <= 1:
        return {"error": text.strip()}
    return {"error": lines[-1] if lines[0].startswith("Traceback") else lines[0], "exception": text}


def exception_fields(error: BaseException) -> dict[str, Any]:
    """Return an exception's name and message; with its traceback where it is a surprise rather than an outage."""
    told: dict[str, Any] = {"error": f"{type(error).__name__}: {error}".strip()}
    foreseen = isinstance(error, AybJobsError | OSError) or type(error).__module__.startswith("psycopg")
    return told if foreseen else told | {"exc_info": error}

"""The words for everything that happens: the name and the fields of each event's line."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, assert_never

from ayb_jobs import events
from ayb_jobs.errors import AybJobsError
from ayb_jobs.events import Single
from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.batches import BatchState
from ayb_jobs.model.job import JobState, LeasedJob
from ayb_jobs.model.lifecycle import Outcome, Settlement
from ayb_jobs.model.schedules.fires import Advance, Fire

# Ids that one line names.
MOST_IDS = 5
# How the line is called about a job whose lease was lost, if it is not queued again.
RECOVERED: Mapping[str, str] = {JobState.FAILED: "job.failed", JobState.CANCELED: "job.canceled"}
HOW_TO_ENABLE = "set enabled = true under [jobs], or AYB_JOBS_ENABLED=true"


def event_line(event: Single) -> tuple[str, dict[str, Any]] | None:  # noqa: C901, PLR0911, PLR0912, PLR0915 - a table
    """Return the name and fields of an event's line; None if there is nothing to say."""
    match event:
        case events.JobsReleased():
            return ("jobs.released", {"count": len(event.job_ids)}) if event.job_ids else None
        case events.JobsCanceled():
            return "jobs.canceled", {"count": len(event.job_ids), "job_ids": list(event.job_ids[:MOST_IDS])}
        case events.SettlementRefused():
            return "settlement.refused", job_fields(event.job) | retry_fields(event.retry_s, event.error)
        case events.RemovalRefused():
            return "removal.refused", exception_fields(event.error)
        case events.ExecutionsDropped():
            return "executions.dropped", {"count": event.count, "job_id": event.job_id}
        case events.JobRecovered():
            job = event.job
            name = RECOVERED.get(job.state, "job.recovered")
            told = {"job_id": job.id, "job_type": job.type, "attempt": job.attempts, "crashes": job.crashes}
            return name, told | error_fields(job.error)
        case events.ChildrenResolved():
            told = {"count": len(event.canceled), "job_ids": list(event.canceled[:MOST_IDS])}
            return ("jobs.canceled_with_parent", told) if event.canceled else None
        case events.BatchesDone():
            ended = [each for each in event.batches if each.state is BatchState.FAILED]
            told = {"count": len(ended), "batch_ids": [each.id for each in ended[:MOST_IDS]]}
            return ("batches.failed", told) if ended else None
        case events.JobOverran():
            name = "job.abandoned" if event.abandoned else "job.overran"
            return name, job_fields(event.job) | {"timeout_s": event.timeout_s}
        case events.EventLoopBlocked():
            told = {"task": event.name} if event.job is None else job_fields(event.job)
            return "event_loop.blocked", told | {"where": event.where, "blocked_s": round(event.seconds, 3)}
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
        case events.RowsSetAside():
            return "row.set_aside", aside_fields(event)
        case events.RowsTakenUp():
            return "rows.taken_up", {"table": event.table, "count": len(event.row_ids)}
        case events.SettlementsTakenUp():
            return "settlements.taken_up", {"count": len(event.job_ids)}
        case events.RowsPrunable():
            return "rows.prunable", {"table": event.table}
        case events.AsideFull():
            return "rows.aside_full", {"loop": event.part, "table": event.table, "rows": event.most}
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
        case events.DaemonDraining():
            return "daemon.draining", {"reason": event.reason, "running": event.running}
        case events.DaemonReloaded():
            return "daemon.reloaded", {"changed": dict(event.changed)}
        case events.RestartNeeded():
            return "daemon.needs_restart", {"settings": list(event.settings)}
        case events.ReloadRefused():
            return "daemon.reload_refused", {"problems": list(event.problems)}
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
        case events.AddressGone():
            return "address.gone", {"job_type": event.job_type, "host": event.host}
        case events.AlertsUndelivered():
            return "alerts.undelivered", {"host": event.host, "error": event.error}
        case events.AlertsDelivered():
            return "alerts.delivered", {"host": event.host}
        case events.SettingsNoted():
            return "settings.noted", {"note": event.note}
        case events.EmbeddedDatabaseUsed():
            return "database.embedded", {"home": event.home}
        case events.SchemaWaits():
            return "schema.waiting", {"reason": event.reason}
        case events.SchemaMigrated():
            return "schema.migrated", {"migrations": list(event.migrations), "notices": list(event.notices)}
        case events.ApiStarted():
            return "api.started", {"url": event.url, "authentication": "token" if event.authenticated else "none"}
        case events.ApiUnavailable():
            return "api.unavailable", {"install": "pip install 'ayb-jobs[api]'"}
        case events.FirstSteps():
            return "daemon.hint", hints(event)
        case events.ApiFailed():
            return "api.failed", exception_fields(event.error)
        case events.TracingUnavailable():
            return "tracing.unavailable", {"reason": event.reason}
        case events.RequestFailed():
            return "request.failed", {"request": event.request} | exception_fields(event.error)
        case _:
            assert_never(event)


def aside_fields(event: events.RowsSetAside) -> dict[str, Any]:
    """Name a row that was set aside, or count the rows and name some of them."""
    ids = event.row_ids
    rows = {"id": ids[0]} if len(ids) == 1 else {"rows": len(ids), "ids": list(ids[:MOST_IDS])}
    return {"loop": event.part, "table": event.table} | rows | {"retry_s": event.retry_s} | error_fields(event.error)


def hints(event: events.FirstSteps) -> dict[str, Any]:
    """Return what to try from a second terminal, and where to look in a browser."""
    look = {"look": event.dashboard} if event.dashboard else {}
    return {"try": f"{event.program} jobs enqueue {event.job_type or 'TYPE'}"} | look


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


def fire_line(advance: Advance, fire: Fire, job_ids: Mapping[tuple[str, datetime], str]) -> tuple[str, dict[str, Any]]:
    """Return the name and fields of the line about a nominal fire, with the job that was made for it, if any."""
    fields = {"schedule": advance.schedule.name, "fire_at": fire.fire_at.isoformat(), "outcome": fire.outcome.value}
    if fire.outcome.makes_job:
        job_id = job_ids.get((advance.schedule.id, fire.fire_at))
        return "schedule.fired", fields | ({"job_id": job_id} if job_id else {})
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
    """Return an error's telling line, and the whole text beside it if there is more (a traceback)."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) <= 1:
        return {"error": text.strip()}
    return {"error": lines[-1] if lines[0].startswith("Traceback") else lines[0], "exception": text}


def exception_fields(error: BaseException) -> dict[str, Any]:
    """Return an exception's name and message; with its traceback if it is a surprise and not an outage."""
    told: dict[str, Any] = {"error": f"{type(error).__name__}: {error}".strip()}
    foreseen = isinstance(error, AybJobsError | OSError) or type(error).__module__.startswith("psycopg")
    return told if foreseen else told | {"exc_info": error}

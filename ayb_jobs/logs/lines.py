"""Every line that may be written: one closed list of names, each with its level and its meaning."""

from collections.abc import Mapping
from typing import NamedTuple


class Line(NamedTuple):
    """A line that may be written: its level and what it means."""

    level: str
    meaning: str


LINES: Mapping[str, Line] = {
    "daemon.started": Line("info", "The daemon runs: worker, concurrency, job types, queues."),
    "daemon.hint": Line(
        "info",
        "At a terminal, once the daemon has started: what you can try from a second one, and where the dashboard is.",
    ),
    "daemon.disabled": Line("warning", "`jobs.enabled` is false: nothing runs; `hint` says how to enable it."),
    "daemon.draining": Line("info", "The daemon was told to take no more jobs. It ends when its handlers have."),
    "daemon.reloaded": Line("info", "The settings were read again: `changed` are those that are in force from now on."),
    "daemon.needs_restart": Line(
        "warning", "The settings were read again: `settings` have changed and need a restart."
    ),
    "daemon.reload_refused": Line(
        "error", "The settings could not be read again: `problems` name each fault. Nothing was changed."
    ),
    "daemon.stopping": Line("info", "The daemon was told to stop. It waits for running handlers."),
    "daemon.stopped": Line("info", "The daemon has stopped."),
    "daemon.abandoned": Line(
        "warning",
        "The daemon has stopped although handlers ran or endings were not written; those jobs will run again.",
    ),
    "settings.noted": Line("warning", "What to know about the settings' sources, such as AYB's own file."),
    "database.embedded": Line("info", "No database is configured: the embedded one is used."),
    "schema.migrated": Line("info", "The schema was brought up to date."),
    "schema.waiting": Line(
        "warning", "The schema is not up to date yet: another session holds a lock, or migrates. It is tried on and on."
    ),
    "api.started": Line("info", "HTTP is served; without a token configured, `authentication` is `none`."),
    "api.unavailable": Line(
        "warning", "HTTP is not served, since the extra `api` is not installed; jobs run all the same."
    ),
    "api.failed": Line("error", "HTTP is not served; jobs go on."),
    "action.taken": Line("info", "Somebody changed something by the API: `action`, `actor` and `target`."),
    "jobs.enqueued": Line("debug", "This daemon put jobs into the queue, by type."),
    "jobs.leased": Line("debug", "A batch of jobs was leased."),
    "jobs.canceled": Line("info", "Jobs that were to be released ended canceled instead, as somebody had asked."),
    "jobs.released": Line("info", "Jobs that never started were released with their attempt."),
    "jobs.unclaimable": Line(
        "warning",
        "Due jobs wait that this daemon cannot run: of types that it does not know, of queues that it does not serve.",
    ),
    "jobs.claimable": Line("info", "No due job is left that this daemon cannot run."),
    "jobs.summary": Line("info", "Counts of jobs that had no line of their own in the last second."),
    "jobs.failures": Line("warning", "Counts of failures that had no line of their own in the last second."),
    "job.completed": Line("info", "A job completed."),
    "job.snoozed": Line("info", "A handler asked to run later; the attempt is not counted."),
    "job.canceled": Line("info", "A running job was canceled, by its handler or on request."),
    "job.retried": Line("warning", "An attempt failed; another follows in `retry_in_s`."),
    "job.failed": Line("error", "A job failed for good."),
    "job.recovered": Line("warning", "A job whose daemon was lost is queued again."),
    "jobs.canceled_with_parent": Line(
        "warning", "Jobs were canceled since one that they depended on did not complete."
    ),
    "batches.failed": Line("warning", "Batches are done of which a job failed or was canceled."),
    "job.overran": Line("warning", "A handler runs past its timeout and was told to stop."),
    "job.abandoned": Line("error", "A handler was told to stop and did not; its slot stays taken."),
    "event_loop.blocked": Line(
        "warning",
        "A step of an async handler takes over 0.1 s, and all others wait; `where` is the line of code.",
    ),
    "lease.lost": Line("warning", "Another daemon may have the job; the outcome is thrown away."),
    "request.failed": Line("error", "A request to the API failed through no fault of its caller's."),
    "schedule.fired": Line("info", "A schedule made the job `job_id` for its fire at `fire_at`."),
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
    "schedule.overdue": Line("error", "A schedule did not do what was expected of it: `reason` and `error` say what."),
    "schedule.recovered": Line("info", "A schedule that was overdue does its work again."),
    "alerts.undelivered": Line("warning", "An address takes no alerts; they are tried again."),
    "alerts.delivered": Line("info", "That address takes alerts again."),
    "address.gone": Line(
        "error", "The address of a job type answered 410: its job failed for good, and the type is paused."
    ),
    "cleanup.interrupted": Line(
        "info", "A cleanup stopped after a batch and its job was released; another daemon goes on."
    ),
    "cleanup.table_missing": Line(
        "warning",
        "The table does not exist, so the cleanup deleted nothing. Logged once for each start, then at debug.",
    ),
    "command.output": Line("info", "A line that a job's command wrote."),
    "command.output_skipped": Line("warning", "A command wrote more lines than the log takes; so many were left out."),
    "command.output_not_kept": Line("warning", "What a command wrote could not be kept with its attempt."),
    "command.note_refused": Line(
        "warning", "A command wrote to descriptor 3 something that is no note. Logged once for each attempt."
    ),
    "command.step_not_kept": Line("warning", "The database did not take a step that a command reported."),
    "command.progress_not_shown": Line("warning", "The database did not take the progress that a command reported."),
    "settlement.refused": Line(
        "error", "The database refuses to record how an attempt ended. The daemon tries again after `retry_s`."
    ),
    "settlements.taken_up": Line(
        "info", "Endings that the database had refused are recorded, or their leases were lost meanwhile."
    ),
    "removal.refused": Line(
        "warning", "Completed jobs cannot be removed: the daemon leaves them for a minute, and then to the pruner."
    ),
    "executions.dropped": Line(
        "error",
        "The database dropped the rows of attempts, as a trigger does that returns NULL. Their jobs are settled.",
    ),
    "rows.pruned": Line("info", "Retention removed rows."),
    "rows.unprunable": Line(
        "warning", "The database refuses to delete so many rows that retention would remove. The others were removed."
    ),
    "rows.prunable": Line("info", "Retention removed what the database had refused to delete."),
    "retention.deferred": Line(
        "warning", "Jobs from before the database was adopted will be removed; set `setting` to decide otherwise."
    ),
    "row.set_aside": Line(
        "error",
        "A part of the daemon cannot handle a row, or several, and tries again after `retry_s`. The others go on.",
    ),
    "rows.taken_up": Line("debug", "Rows that were set aside are handled, or gone."),
    "rows.aside_full": Line(
        "error", "A part of the daemon has set aside as many rows as it remembers. It tries the oldest again sooner."
    ),
    "loop.failed": Line(
        "error",
        "A part of the daemon fails and tries again after `retry_s`. The line comes again for as long as it fails.",
    ),
    "loop.failed_again": Line("debug", "That part failed again."),
    "loop.recovered": Line("info", "That part works again, after so many failures."),
    "notify.available": Line("info", "Notifications arrive again."),
    "notify.unavailable": Line("warning", "Notifications do not arrive; polling alone finds jobs."),
    "tracing.unavailable": Line("warning", "Tracing is configured and cannot work; jobs run without it."),
    "log.dropped": Line("warning", "So many lines were not written, because the reader is too slow."),
    "log.unrenderable": Line("error", "A line could not be rendered."),
    "library.message": Line("info", "A library or a handler wrote to Python's own logging; at its own level."),
}

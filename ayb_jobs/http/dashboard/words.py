"""The words that all pages share: sections, moods, spans of time, and what a press did."""

from collections.abc import Mapping
from datetime import timedelta

from ayb_jobs.checks.verdict import Mood

SECTIONS = (
    ("/", "Overview", ""),
    ("/jobs", "Jobs", ""),
    ("/failures", "Failures", "failures"),
    ("/schedules", "Schedules", "schedules"),
    ("/executions", "Executions", ""),
    ("/batches", "Batches", ""),
    ("/queues", "Queues", "queues"),
    ("/daemons", "Daemons", "daemons"),
    ("/audit", "Audit", ""),
)
# Which section a finding belongs to.
FLAGS: Mapping[str, str] = {
    "jobs.failing": "failures",
    "jobs.retrying": "failures",
    "schedules.overdue": "schedules",
    "alerts.undelivered": "schedules",
    "jobs.unclaimable": "queues",
    "jobs.late": "queues",
    "jobs.paused": "queues",
    "jobs.limited": "queues",
    "jobs.abandoned": "daemons",
    "daemon.none": "daemons",
    "daemon.gone": "daemons",
    "daemon.lifeless": "daemons",
    "daemon.stuck": "daemons",
    "handlers.stuck": "daemons",
    "rows.refused": "daemons",
}
MOODS: Mapping[Mood, tuple[str, str]] = {
    Mood.WELL: ("well", "All well"),
    Mood.READY: ("queued", "Ready"),
    Mood.NEEDED: ("overdue", "Needs you"),
    Mood.UNKNOWN: ("unknown", "Not known"),
}
# What was done to many jobs.
DONE = {"retry": "queued again", "cancel": "canceled", "cancel_running": "asked to end canceled"}
# What a press did, as the next page says it: by a word in its address, since no address may put words into a page.
TOLD: Mapping[str, str] = {
    "retried": "The job is queued again.",
    "canceled": "The job is canceled.",
    "canceling": "The job is to end canceled: its handler is told.",
    "enqueued": "The job is enqueued.",
    "found": "A job with this key was there already: this one.",
    "saved": "The schedule is saved.",
    "created": "The schedule is created.",
    "deleted": "The schedule is deleted; its jobs stay.",
    "enabled": "The schedule is enabled; its next run is the first one after now.",
    "disabled": "The schedule is disabled.",
    "batch_sealed": "The batch is sealed: it ends once its jobs have.",
    "batch_canceled": "The batch is canceled: it ends once none of its jobs runs.",
    "drained": "The daemon is asked to drain: it takes no more jobs, and ends when its handlers have.",
    "paused_queue": "The queue is paused. Daemons that may still start what they hold are named beside it.",
    "paused_type": "The type is paused. Daemons that may still start what they hold are named beside it.",
    "resumed_queue": "The queue is resumed.",
    "resumed_type": "The type is resumed.",
    "paused_key": "The key is paused. Daemons that may still start what they hold are named beside it.",
    "resumed_key": "The key is resumed.",
    "limit_set": "The limit is set. Daemons that may still start jobs beside it are named there.",
    "limit_removed": "The limit is removed.",
    "zone": "Times are in this zone from now on.",
}
SPANS: Mapping[str, tuple[str, timedelta | None]] = {
    "hour": ("last hour", timedelta(hours=1)),
    "day": ("last 24 hours", timedelta(days=1)),
    "week": ("last 7 days", timedelta(days=7)),
    "ever": ("ever", None),
}

"""Schedules as JSON text, as `wire` has jobs; apart from it, since not everyone who shows jobs needs cron."""

from ayb_jobs.model.schedules.schedule import Schedule
from ayb_jobs.wire.jobs import Stored, object_text


def schedule_text(schedule: Schedule) -> str:
    """Return a schedule's JSON: of its ping address, a secret, only the presence is told."""
    return object_text(
        {
            "id": schedule.id,
            "name": schedule.name,
            "jobType": schedule.job_type,
            "payload": Stored(schedule.payload_text),
            "cronExpr": schedule.cron,
            "timezone": schedule.timezone,
            "enabled": schedule.enabled,
            "state": schedule.state,
            "maxAttempts": schedule.max_attempts,
            "nextRunAt": schedule.next_run_at,
            "lastRunAt": schedule.last_run_at,
            "queue": schedule.queue,
            "priority": schedule.priority,
            "catchup": schedule.catchup,
            "catchupMax": schedule.catchup_max,
            "catchupWindowSec": schedule.catchup_window_s,
            "overlap": schedule.overlap,
            "dst": schedule.dst,
            "jitterSec": schedule.jitter_s,
            "timeoutSec": schedule.timeout_s,
            "expectSuccessWithinSec": schedule.expect_success_within_s,
            "pingUrlSet": schedule.ping_url is not None,
            "origin": schedule.origin,
            "lastFireAt": schedule.last_fire_at,
            "lastError": schedule.last_error,
            "createdAt": schedule.created_at,
            "updatedAt": schedule.updated_at,
        }
    )

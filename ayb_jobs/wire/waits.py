"""Why jobs wait, as the API shows it."""

from ayb_jobs.model.waiting import Wait
from ayb_jobs.wire.text import object_text


def wait_text(wait: Wait) -> str:
    """Return the JSON of a wait; `remedy` is left out if nothing needs to be done, and the job if there is none."""
    return object_text(
        {
            "kind": wait.reason.kind,
            "reason": wait.reason.words,
            "remedy": wait.reason.remedy,
            "jobs": wait.jobs,
            "atLeast": wait.cut,
            "jobId": wait.job_id,
            "type": wait.type,
            "queue": wait.queue,
        }
    )

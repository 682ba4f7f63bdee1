"""What is known of one attempt at a job, while it runs and after."""

from datetime import datetime

from ayb_jobs.frozen import frozen
from ayb_jobs.model.lifecycle import Outcome


@frozen
class Output:
    """The end of what the command of one attempt wrote."""

    attempt: int
    output: str


@frozen
class Execution:
    """One attempt at a job. `outcome` and `ended_at` are None while it runs."""

    id: int
    job_id: str
    job_type: str
    schedule_id: str | None
    attempt: int
    worker_id: str | None
    outcome: Outcome | None
    error: str | None
    records_processed: int | None
    started_at: datetime
    ended_at: datetime | None

    @property
    def success(self) -> bool | None:
        """Whether the attempt did what it should; None while it runs."""
        return None if self.outcome is None else self.outcome in (Outcome.COMPLETED, Outcome.SNOOZED)

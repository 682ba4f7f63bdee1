"""How a job ended, as the database tells it, and what that means for whoever waits: the same for every driver."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from ayb_jobs.client.steps import Row
from ayb_jobs.errors import InvalidInput, JobCanceled, JobFailed, NotFound
from ayb_jobs.model.checked import checked_id
from ayb_jobs.model.payload import decode_payload

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 1.0
GROWTH = 1.5
IN_TRANSACTION = "the connection is in a transaction; end it first: a job made in it does not exist yet, and a wait would hold it open"

# The log of attempts is asked only once the job has completed, or is gone. On a standby nobody can listen.
FIND_END = """
    SELECT job.state, job.last_error, returned.result::text, latest.outcome, latest.error, latest.records_processed,
        CASE WHEN pg_is_in_recovery() THEN 0 ELSE pg_backend_pid() END
    FROM (SELECT CAST(%(id)s AS text)::uuid AS id) AS asked
    LEFT JOIN _ayb_jobs AS job ON job.id = asked.id
    LEFT JOIN _ayb_job_results AS returned ON returned.job_id = asked.id
    LEFT JOIN LATERAL (
        SELECT outcome, error, records_processed
        FROM _ayb_job_executions
        WHERE job_id = asked.id AND (job.state IS NULL OR job.state::text = 'completed')
        ORDER BY id DESC
        LIMIT 1
    ) AS latest ON true
"""


class Ended(NamedTuple):
    """What a job that completed returned."""

    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which job is waited for, and how long."""

    job_id: str
    timeout_s: float

    @classmethod
    def of(cls, job_id: object, timeout_s: object) -> "Asked":
        """Return what was asked for; raises `InvalidInput`."""
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not timeout_s >= 0:
            raise InvalidInput(f"timeout_s is {timeout_s!r}; give a number of seconds, zero or more", field="timeout_s")
        return cls(job_id=checked_id(str(job_id), "job_id"), timeout_s=timeout_s)

    def ended(self, row: Row | None) -> Ended | None:
        """Return how the job ended, by a row of `FIND_END`; None if it has not.

        Raises what says that it did not complete. A count that was returned or reported is in the log of attempts.
        """
        state, error, result, outcome, last_error, records, _ = row or [None] * 7
        match state or outcome:
            case "completed":
                return Ended(records if result is None else decode_payload(result))
            case "canceled":
                raise JobCanceled(self.job_id, error or last_error)
            case "queued" | "running":
                return None
            case None if result is not None:  # neither the job nor its log is there any more
                return Ended(decode_payload(result))
            case None:
                raise NotFound(f"there is no job {self.job_id}")
            case _:
                raise JobFailed(self.job_id, error or last_error)


def pauses() -> Iterator[float]:
    """Yield how long to wait before each look, longer and longer."""
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(pause_s * GROWTH, LONGEST_PAUSE_S)

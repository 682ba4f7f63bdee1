"""Every exception that `ayb_jobs` raises. A class's docstring is its message where none is given.

The families decide how a door answers: `InvalidInput` is the caller's mistake, `NotFound` and `Conflict` say what the
database holds, `ConfigError` and `MigrationError` keep the daemon from starting.
"""


class AybJobsError(Exception):
    """Something went wrong in ayb-jobs."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class InvalidInput(AybJobsError):
    """A value was refused; nothing was changed.

    `field` is the name of the value as its user wrote it, or "" where the whole was refused.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class NotTaken(InvalidInput, TypeError):
    """This kind of value is not taken; nothing was changed."""


class NotFound(AybJobsError):
    """There is no such thing."""


class Conflict(AybJobsError):
    """The state of things does not allow it."""


class ConfigError(AybJobsError):
    """The configuration is invalid. `problems` holds one line for each fault."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class PortInUse(AybJobsError):
    """Another program listens on the port. That passes, so a restart may help."""


class DatabaseError(AybJobsError):
    """The database cannot be used."""


class TookTooLong(DatabaseError):
    """A statement took longer than a request may; nothing was written."""


class ConnectionLost(DatabaseError):
    """The connection ended while it was used. The next one may be had at once."""


class RightMissing(DatabaseError):
    """The database's user lacks a right that the statement needs; `fact` is the message without what to do."""

    def __init__(self, fact: str, remedy: str = "") -> None:
        super().__init__(f"{fact}; {remedy}" if remedy else fact)
        self.fact = fact


class MigrationError(DatabaseError):
    """The schema is not the one that is needed."""


class LeaseLost(AybJobsError):
    """The lease of this job was lost; another daemon may be running it, so stop."""


class JobFailed(AybJobsError):
    """The job that was waited for has failed. `error` is its last error, if it is known."""

    def __init__(self, job_id: str, error: str | None) -> None:
        super().__init__(f"job {job_id} failed: {error or 'its error is not known'}")
        self.job_id = job_id
        self.error = error


class JobCanceled(AybJobsError):
    """The job that was waited for was canceled. `reason` is what its handler said, if it was the one who did."""

    def __init__(self, job_id: str, reason: str | None) -> None:
        super().__init__(f"job {job_id} was canceled" + (f": {reason}" if reason else ""))
        self.job_id = job_id
        self.reason = reason


class WaitTimedOut(AybJobsError, TimeoutError):
    """The job that was waited for has not ended in time."""


class PayloadUndecodable(AybJobsError):
    """The payload cannot be decoded."""


class Discard(AybJobsError):
    """The handler discarded the job: it fails now, without another attempt.

    With `pause_type` its job type is paused as well, since no other job of it can do better.
    """

    def __init__(self, message: str | None = None, *, pause_type: bool = False) -> None:
        super().__init__(message or "The handler discarded the job: it fails now, without another attempt.")
        self.pause_type = pause_type


class ChildDied(AybJobsError):
    """The child process of an isolated handler ended before its handler did."""


class AttemptFailed(AybJobsError):
    """The attempt failed.

    `retry_after_s` is how long to wait for the next one; None if the usual backoff holds.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TransactionLost(AybJobsError):
    """The transaction was rolled back inside its block, so nothing that was done in it is kept."""


class Stopped(AybJobsError):
    """The handler was asked to stop. `reason` says why: `shutdown`, `timeout` or `canceled`."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the handler was asked to stop ({reason})")
        self.reason = reason

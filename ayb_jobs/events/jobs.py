"""What happens to jobs and to the handlers that run them."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

from ayb_jobs.frozen import frozen
from ayb_jobs.model.batches import EndedBatch
from ayb_jobs.model.job import LeasedJob, RecoveredJob
from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.model.tally import Tally, tallied_by_type


@frozen
class JobsLeased:
    """The producer leased these jobs."""

    jobs: Sequence[LeasedJob]


@frozen
class JobsSettled:
    """The completer settled these attempts."""

    settlements: Sequence[Settlement]
    now: float  # on the clock of `Settlement.started`

    @cached_property
    def tallies(self) -> Mapping[str, Tally]:
        """What they add up to, by job type; counted once for all who listen."""
        return tallied_by_type(self.settlements)


@frozen
class LeasesLost:
    """These jobs are no longer ours, or may soon not be.

    `during` is the write that found it: settle, release or extend; or it is watch, if extending was not possible.
    """

    job_ids: Sequence[str]
    during: str


@frozen
class SettlementRefused:
    """The database refuses what is to be written about the end of this attempt. It is tried again after `retry_s`."""

    job: LeasedJob
    error: BaseException
    retry_s: float = 0.0


@frozen
class SettlementsTakenUp:
    """Endings that the database refused are settled after all, or their leases were lost."""

    job_ids: Sequence[str]


@frozen
class RemovalRefused:
    """The database refuses to remove jobs as they complete. They are kept for a while, and left to the pruner."""

    error: BaseException


@frozen
class ExecutionsDropped:
    """The database dropped the rows of so many attempts that ended, one of them of `job_id`. The jobs are settled."""

    count: int
    job_id: str


@frozen
class JobsReleased:
    """These jobs were released unstarted, with their attempt."""

    job_ids: Sequence[str]


@frozen
class JobsCanceled:
    """These jobs were to be released, or to run again, and ended canceled instead, as somebody had asked."""

    job_ids: Sequence[str]


@frozen
class JobRecovered:
    """A lost lease was found; the job was queued again, failed if its attempts or crashes were used up, or canceled."""

    job: RecoveredJob


@frozen
class ChildrenResolved:
    """Jobs that waited for others were freed, or canceled since one of these failed or was canceled."""

    freed: Sequence[str]
    canceled: Sequence[str]


@frozen
class BatchesDone:
    """All members of these batches have ended. Their callbacks are enqueued."""

    batches: Sequence[EndedBatch]


@frozen
class JobOverran:
    """A handler runs past its timeout; `abandoned` once it was told to stop and did not."""

    job: LeasedJob
    timeout_s: float
    abandoned: bool


@frozen
class EventLoopBlocked:
    """One step of an asynchronous handler has taken `seconds` already, and goes on: all others wait for it.

    `job` is None if the step is of a task that a handler made; `name` is the task's, `where` the line of code.
    """

    job: LeasedJob | None
    name: str
    where: str
    seconds: float


@frozen
class JobsUnclaimable:
    """Due jobs that this daemon cannot run: of types that it does not know, and of queues that it does not serve.

    Both are empty once there are none left.
    """

    counts: Mapping[str, int]
    queues: Mapping[str, int] = MappingProxyType({})


@frozen
class AddressGone:
    """The address of a job type (its host alone) answered that it is gone for good; the job was discarded."""

    job_type: str
    host: str


# Those that are rare, or come one at a time.
AboutJobs = (
    SettlementRefused
    | SettlementsTakenUp
    | RemovalRefused
    | ExecutionsDropped
    | JobsReleased
    | JobsCanceled
    | JobRecovered
    | ChildrenResolved
    | BatchesDone
    | JobOverran
    | EventLoopBlocked
    | AddressGone
)

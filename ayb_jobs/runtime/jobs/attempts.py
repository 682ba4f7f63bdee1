"""How an attempt begins, and what its end does to its job, whatever runs it."""

import random
import time
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from ayb_jobs.errors import AttemptFailed, AybJobsError, Discard, PayloadUndecodable, Stopped
from ayb_jobs.handlers.context import JobContext, StopReason
from ayb_jobs.handlers.job_type import JobType
from ayb_jobs.handlers.services import ContextServices
from ayb_jobs.model.backoff import Backoff
from ayb_jobs.model.job import LeasedJob
from ayb_jobs.model.lifecycle import CANCELED_WHILE_IT_RAN, Outcome, Settlement, settle_failure, settle_result
from ayb_jobs.model.results import Cancel, Result
from ayb_jobs.runtime.jobs.error_text import error_text, masked
from ayb_jobs.runtime.jobs.in_flight import Held
from ayb_jobs.runtime.jobs.paused import Paused

NEVER_BEGAN = "canceled before its handler began"
DROPPED = "the daemon failed around the handler (%s); its log has the details at loop.failed"
# A handler that we stop for our own sake has not failed. Its job is perhaps still ours: then it goes back.
NOT_COUNTED = frozenset[StopReason | None]({"shutdown", "lease_lost"})


class Endings(NamedTuple):
    """Who is told how attempts end.

    `settle` takes the ending of each attempt. `release` takes back a job whose handler never began, or ended because
    the daemon stops or may lose the lease. The attempt is not counted. `late` hears of a handler that ends after its
    attempt was settled, and fills no slot any more.
    """

    settle: Callable[[Held, Settlement], None]
    release: Callable[[Held], None]
    late: Callable[[Held], None] = lambda _: None


class Attempts:
    """Begins attempts and hands over how they ended; it is called in the thread that runs the handler.

    What is `paused` is to be given up instead of begun.
    """

    def __init__(
        self, *, services: ContextServices, backoff: Backoff, endings: Endings, paused: Paused | None = None
    ) -> None:
        self.paused = Paused() if paused is None else paused
        self.services = services
        self._backoff = backoff
        self._settle = endings.settle
        self._release = endings.release
        self._late = endings.late

    def begin(self, held: Held, job: LeasedJob, job_type: JobType | None) -> JobContext:
        """Return the context of an attempt that begins. `job` is the held one with its whole payload."""
        started = time.monotonic()
        timeout_s = job.timeout_s or (job_type.timeout_s if job_type else None)
        context = JobContext(job, self.services, started + timeout_s if timeout_s else None, started)
        held.started = started
        held.context = context
        if held.lost:  # since it was taken; who let it go may have seen no context to tell
            held.lost = not held.canceling
            context.stop("canceled" if held.canceling else "lease_lost")
        return context

    def without_payload(self, held: Held) -> JobContext:
        """Return a context for a job whose payload was not fetched, or need not be kept until it is settled."""
        return JobContext(held.job, self.services)

    def give_up(self, held: Held) -> None:
        """Give back a job whose handler never began, with its attempt. One that is to end canceled does.

        If its lease is lost, that changes nothing; but it may be one that we gave up and nobody took.
        """
        if held.canceling:
            now = time.monotonic()
            self._hand_over(held, settle_result(held.job, Cancel(NEVER_BEGAN), now, now))
        else:
            self._give_back(held)

    def returned(self, held: Held, context: JobContext, result: Result, ended: float) -> None:
        """Hand over what a handler returned."""
        if held.abandoned or context.settled:
            self._tell_late(held)
            return
        if result is not None and isinstance(result, Cancel):
            result = Cancel(masked(result.reason, self.services.mask))
        # What `_hand_over` does: each job comes by here.
        self._settle(held, settle_result(held.job, result, held.started, ended, reported=context.records_processed))
        held.handed_over = True

    def raised(self, held: Held, context: JobContext, error: BaseException, started: float, ended: float) -> None:
        """Hand over what a handler raised."""
        if held.abandoned or context.settled:
            self._tell_late(held)
            return
        if isinstance(error, Discard) and error.pause_type:
            self.paused.ask_for(held.job.type, masked(str(error), self.services.mask))
        if context.stop_reason == "canceled" and isinstance(error, Stopped):
            canceled = settle_result(held.job, Cancel(CANCELED_WHILE_IT_RAN), started, ended)
            self._hand_over(held, canceled._replace(records=context.records_processed))
            return
        if context.stop_reason in NOT_COUNTED and not isinstance(error, Discard):
            self._give_back(held)
            return
        self._hand_over(
            held,
            settle_failure(
                held.job,
                masked(error_text(error), self.services.mask),
                started,
                ended,
                backoff=self._backoff,
                chance=random.random(),
                outcome=outcome_of(error, context),
                records=context.records_processed,
                retry_after_s=error.retry_after_s if isinstance(error, AttemptFailed) else None,
            ),
        )

    def dropped(self, held: Held, error: BaseException) -> None:
        """Hand over an ending of a job whose handler's surroundings failed with `error`, unless it has one.

        Its attempt failed, so that a job which can never begin comes to an end. If its handler has not begun, it goes
        back for what is not the job's fault: want of memory, the end of what runs handlers, a lost lease. If not even
        that can be handed over, its lease is extended no longer, so that the job is recovered.
        """
        if held.handed_over:
            return
        try:
            is_blameless = held.lost or isinstance(error, MemoryError) or not isinstance(error, Exception)
            if is_blameless and held.context is None and not held.sent:
                self.give_up(held)
                return
            now = time.monotonic()
            context = held.context or self.without_payload(held)
            self.raised(held, context, AybJobsError(DROPPED % type(error).__name__), held.started or now, now)
        except BaseException:
            held.lost, held.canceling = True, False
            raise

    def _hand_over(self, held: Held, settlement: Settlement) -> None:
        self._settle(held, settlement)
        held.handed_over = True

    def _give_back(self, held: Held) -> None:
        self._release(held)
        held.handed_over = True

    def _tell_late(self, held: Held) -> None:
        self._late(held)
        held.handed_over = True


def readable(context: JobContext) -> JobContext:
    """Decode the payload before the handler runs, so that a payload nobody can read is told apart from its faults."""
    _ = context.payload
    return context


def unknown(job: LeasedJob) -> NoReturn:
    """Fail a job of a type that is not registered; the producer leases none."""
    raise AybJobsError(f"no handler is registered for job type {job.type}")


def outcome_of(error: BaseException, context: JobContext) -> Outcome:
    """Tell how an attempt ended that ended with this exception."""
    if isinstance(error, Discard | PayloadUndecodable):
        return Outcome.DISCARDED
    return Outcome.TIMED_OUT if context.stop_reason == "timeout" else Outcome.FAILED

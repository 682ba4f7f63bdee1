"""Leasing under a limit although the database refuses some of its jobs: these are set aside, and the others go on."""

from collections.abc import Callable, Sequence
from functools import partial

from ayb_jobs.events import Emit
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.jobs.leasing import Leasing
from ayb_jobs.runtime.jobs.refused_jobs import RefusedJobs
from ayb_jobs.runtime.narrowing import narrowed
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import RowUnchanged, was_refused
from ayb_jobs.storage.queue.limited import Limited, find_first_limited, find_limits_of
from ayb_jobs.storage.queue.unleasable import find_unleasable

BATCH = 500
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0
# So many jobs are tried at once if one is refused.
FOUND_AT_ONCE = 1000
# So many are tried again before the others have their turn.
TRIED_AGAIN_AT_ONCE = 16

# Queues, and what tells how many of their jobs may be leased.
Group = tuple[list[str], Callable[[], int]]


class CarefulLimited:
    """Finds out which jobs under limits are refused, leases the others in halves, and tries the refused ones again.

    `lease` leases those of the given jobs, under a limit from some queues, that there is room for. `after` tells behind
    which key the next look under a limit begins.
    """

    def __init__(
        self,
        *,
        database: Database,
        leasing: Leasing,
        emit: Emit,
        lease: Callable[[str, Sequence[str], int, Sequence[str]], Limited],
        after: Callable[[str], str],
    ) -> None:
        self._database = database
        self.leasing = leasing
        self._lease = lease
        self._after = after
        self._refused = RefusedJobs(
            Aside(emit, part="limits", table="_ayb_jobs", first_s=FIRST_RETRY_S, longest_s=LONGEST_RETRY_S)
        )

    def passed_over(self) -> Sequence[str]:
        """Return the ids of the jobs that the usual look is to pass over."""
        return self._refused.passed_over()

    def forget(self, job_ids: Sequence[str]) -> None:
        """Forget jobs that were leased after all."""
        for job_id in job_ids:
            self._refused.forget(job_id)

    def refuse(self, job_ids: Sequence[str], name: str, queues: Sequence[str]) -> None:
        """Set jobs aside that a trigger kept from being leased, without an error, and which others are refused."""
        self._refused.put_all([(job_id, RowUnchanged()) for job_id in job_ids])
        self._set_unleasable_aside(name, queues)

    def lease(self, name: str, queues: Sequence[str], room: int) -> Limited | None:
        """Lease under a limit behind jobs that are refused; None if some are known only now, so that a look is due."""
        if self._set_unleasable_aside(name, queues):
            return None
        with self._database.connection() as conn:
            ids = self._find_first(conn, name, queues, room)
        done = self._lease_these(ids, name, queues, room)
        return done[-1] if done else Limited([], self._after(name))

    def try_again(self, names: Sequence[str], groups: Sequence[Group]) -> None:
        """Try jobs again whose wait is over; those for which there is no place take their turn like any other."""
        due = self._refused.due(TRIED_AGAIN_AT_ONCE)
        known = [*due, *self._refused.in_turn(TRIED_AGAIN_AT_ONCE)]
        if not known:
            return
        with self._database.connection() as conn:
            limits = find_limits_of(conn, known)
        self.forget(list(set(known).difference(limits)))
        for name in set(names).intersection(limits.values()):
            ids = [job_id for job_id in due if limits.get(job_id) == name]
            for queues, most in groups:
                if (room := min(most(), BATCH)) > 0:
                    self._lease_these(ids, name, queues, room)
        self._refused.take_turn(set(limits).intersection(self._refused.due(TRIED_AGAIN_AT_ONCE)))

    def _set_unleasable_aside(self, name: str, queues: Sequence[str]) -> bool:
        """Set aside which of the first jobs under a limit the database refuses; tell whether there are any."""
        with self._database.connection() as conn:
            ids = self._find_first(conn, name, queues, FOUND_AT_ONCE)
            refused = find_unleasable(
                conn, ids, worker_id=self.leasing.worker_id, lease_s=self.leasing.lease_s, enough=len(ids)
            )
        self._refused.put_all(refused)
        return bool(refused)

    def _find_first(self, conn: Connection, name: str, queues: Sequence[str], limit: int) -> list[str]:
        return find_first_limited(
            conn,
            name,
            types=self.leasing.types,
            queues=queues,
            after=self._after(name),
            aside=self._refused.passed_over(),
            limit=limit,
        )

    def _lease_these(self, ids: Sequence[str], name: str, queues: Sequence[str], room: int) -> Sequence[Limited]:
        result = narrowed(ids, partial(self._lease, name, queues, room), blames=was_refused)
        unchanged = [(job_id, RowUnchanged()) for found in result.done for job_id in found.unchanged]
        self._refused.put_all([*result.refused, *unchanged])
        if result.left and not result.done:
            raise result.refused[-1].error
        return result.done

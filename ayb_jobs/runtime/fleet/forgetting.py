"""Removes the rows of daemons that are gone, though an application's foreign key or trigger may keep some."""

from collections.abc import Sequence

from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.narrowing import narrowed
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.faults import was_refused
from ayb_jobs.storage.fleet.daemons import forget_daemons


def forget_each(database: Database, worker_ids: Sequence[str], aside: Aside) -> None:
    """Remove the rows of these daemons; one that the database refuses to remove is set `aside`."""

    def forget(ids: Sequence[str]) -> None:
        with database.transaction() as conn:
            forget_daemons(conn, ids)

    waiting = set(aside.ids())
    result = narrowed([each for each in worker_ids if each not in waiting], forget, blames=was_refused)
    aside.put_all(result.refused)

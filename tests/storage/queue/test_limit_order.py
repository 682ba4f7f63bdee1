"""Workers that lease under several limits in one transaction never wait for each other in a circle."""

from collections.abc import Sequence

import pytest

from ayb_jobs.model.limits import NewLimit
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet import limits
from ayb_jobs.storage.rows import one_row
from tests.factories import make_job
from tests.interleaving import Actor, Step, actors, begun, commit, play, schedules
from tests.sql_workers import lease

NAMES = ("one", "two")
FUNCTION = "SELECT pg_get_functiondef('ayb_jobs.ayb_jobs_lease'::regproc)"
ORDER = "IF found.name < held_limit THEN"
CIRCLE = """
    SELECT count(*) > 0
    FROM pg_stat_activity AS one JOIN pg_stat_activity AS other ON other.pid = ANY (pg_blocking_pids(one.pid))
    WHERE one.datname = current_database() AND one.pid = ANY (pg_blocking_pids(other.pid))
"""


def leasing(names: Sequence[str]) -> list[Step]:
    """Return the steps of a worker that leases under one limit after the other, in one transaction."""

    def look(name: str) -> Step:
        return lambda conn: lease(conn, name, worker=f"w{conn.info.backend_pid}", n=1)

    first, *others = names
    return [begun(look(first)), *map(look, others), commit]


def has_circle(conn: Connection, cast: Sequence[Actor]) -> bool:
    """Tell whether two workers that meet the limits in opposite orders wait for each other in any interleaving."""
    for name in NAMES:
        with conn.transaction():
            limits.set_limit(conn, NewLimit(name=name, types=[name], max_running=1000), by="ada")
        for _ in range(60):
            make_job(conn, type=name, limited_by=name, limited_key="", priority=6)
    for schedule in schedules([3, 3]):
        scripts = [leasing(NAMES), leasing(NAMES[::-1])]
        for actor, steps in zip(cast, scripts, strict=True):
            actor.begin(steps)
        for number in schedule:
            cast[number].take()
            if one_row(conn.execute(CIRCLE))[0]:
                play([], cast, [actor.left for actor in cast])
                return True
        play([], cast, [actor.left for actor in cast])
    return False


@pytest.mark.parametrize("ordered", [True, False], ids=["in order", "in any order"])
def test_workers_that_lease_under_two_limits_wait_for_each_other_in_a_circle_only_without_the_order(
    database_url: str, conn: Connection, *, ordered: bool
) -> None:
    if not ordered:
        text = str(one_row(conn.execute(FUNCTION))[0])
        assert ORDER in text
        conn.execute(text.replace(ORDER, "IF false THEN").encode())
    with actors(database_url, 2) as cast:
        assert has_circle(conn, cast) is not ordered

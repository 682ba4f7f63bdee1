"""Every interleaving of a worker's leases with a pause and with the question whether it is in force.

Once it is said to be in force, nothing of it is leased. The same walk with workers that hold no lock while they lease
finds a lease behind that answer: so the walk would see one.
"""

import pytest

from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet import pausable, pauses
from ayb_jobs.storage.rows import one_row
from tests.factories import make_job
from tests.interleaving import actors, begun, commit, play, schedules
from tests.sql_workers import lease

NAMES = {PauseKind.TYPE: "test", PauseKind.QUEUE: "default"}
RUNNING = "SELECT count(*) FROM _ayb_jobs WHERE state = 'running'"
UNLOCKED = """
    CREATE OR REPLACE FUNCTION _ayb_job_begin_leasing() RETURNS void LANGUAGE plpgsql VOLATILE AS 'BEGIN END'
"""


def starts_beside(conn: Connection, url: str, kind: PauseKind) -> bool:
    """Tell whether in any interleaving something is leased though the pause is in force."""
    in_force: list[int] = []

    def take(one: Connection) -> None:
        lease(one, worker=f"w{one.info.backend_pid}", n=1)

    def pause(one: Connection) -> None:
        pauses.pause(one, NewPause(kind=kind, name=NAMES[kind]), by="ada")

    def ask(one: Connection) -> None:
        if not pausable.find_pausable(one, kind, NAMES[kind]).waiting_for:
            in_force.append(one_row(one.execute(RUNNING))[0])

    with actors(url, 2) as cast:
        for schedule in schedules([4, 4]):
            conn.execute("TRUNCATE _ayb_jobs, _ayb_job_pauses, _ayb_job_workers CASCADE")
            in_force.clear()
            for _ in range(3):
                make_job(conn)
            play(schedule, cast, [[begun(take), commit, begun(take), commit], [begun(pause), commit, ask, ask]])
            if any(running != one_row(conn.execute(RUNNING))[0] for running in in_force):
                return True
    return False


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("locked", [True, False], ids=["with the lock", "without"])
def test_nothing_is_leased_once_a_pause_is_in_force_in_any_interleaving(
    database_url: str, conn: Connection, kind: PauseKind, *, locked: bool
) -> None:
    if not locked:
        conn.execute(UNLOCKED)
    assert starts_beside(conn, database_url, kind) is not locked

"""How often lost leases are looked for: seldom, and at once when one runs out."""

from psycopg.sql import SQL

from ayb_jobs.model.backoff import Backoff
from ayb_jobs.runtime.recoverer import LONGEST_TURN_S, SHORTEST_TURN_S, Recoverer
from ayb_jobs.storage.database import Connection, Database
from tests.eventually import eventually
from tests.factories import make_job


def recoverer(db: Database, *, lease_s: float = 30) -> Recoverer:
    return Recoverer(database=db, emit=lambda _: None, backoff=Backoff(), max_crashes=3, lease_s=lease_s)


def test_looks_are_rare_while_no_lease_is_about_to_run_out(db: Database, conn: Connection) -> None:
    assert recoverer(db).tick() == LONGEST_TURN_S
    make_job(conn, "running")
    assert recoverer(db).tick() == LONGEST_TURN_S


def test_the_next_look_comes_when_the_next_lease_runs_out(db: Database, conn: Connection) -> None:
    make_job(conn, "running", lease_until=SQL("now() + interval '3 seconds'"))
    make_job(conn, "running", lease_until=SQL("now() - interval '1 second'"))
    looking = recoverer(db)
    assert looking.tick() == 0  # it found one, and there may be more
    assert SHORTEST_TURN_S <= looking.tick() < 3.1


def test_looks_are_never_hasty(db: Database, conn: Connection) -> None:
    looking = recoverer(db)

    def look() -> float:
        """Look at a lease that is about to run out; 0 where it has run out by the time of the look."""
        make_job(conn, "running", lease_until=SQL("now() + interval '0.1 seconds'"))
        return looking.tick()

    assert eventually(look) == SHORTEST_TURN_S


def test_a_lease_given_after_a_look_is_never_lost_before_the_next(db: Database) -> None:
    assert recoverer(db, lease_s=2).tick() == 2

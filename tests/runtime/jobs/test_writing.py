"""What the completer writes: under a number of the attempt's own, once, and told if its row is dropped."""

from collections.abc import Sequence

import pytest
from psycopg import OperationalError

from ayb_jobs.events import ExecutionsDropped, JobsSettled, LeasesLost
from ayb_jobs.model.lifecycle import Settlement
from ayb_jobs.runtime.aside import Aside
from ayb_jobs.runtime.jobs import writing
from ayb_jobs.runtime.jobs.buffer import Buffer
from ayb_jobs.runtime.jobs.in_flight import InFlight
from ayb_jobs.runtime.jobs.releaser import Releaser, release_each
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.settling import Settled, settle_jobs
from tests.completing import Completing, lease
from tests.factories import make_job

DROP_EXECUTIONS = """
    CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
    CREATE TRIGGER drop_row BEFORE INSERT ON _ayb_job_executions FOR EACH ROW EXECUTE FUNCTION drop_row()
"""
KEEP_RUNNING = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
    CREATE TRIGGER refuse BEFORE UPDATE ON _ayb_jobs FOR EACH ROW WHEN (new.state = 'queued') EXECUTE FUNCTION refuse()
"""
TAKE_NUMBERS = """
    INSERT INTO _ayb_job_executions (id, job_id, job_type, lease_id, attempt, worker_id, outcome, started_at, ended_at)
    SELECT execution_id, gen_random_uuid(), 'other', gen_random_uuid(), 1, 'other', 'completed', now(), now()
    FROM _ayb_jobs
"""
LOSE_LEASES = "UPDATE _ayb_jobs SET lease_id = gen_random_uuid(), worker_id = 'successor'"


def lose_connection() -> None:
    raise OperationalError("the connection is lost")


def outcomes(conn: Connection, job_ids: Sequence[str]) -> list[tuple[object, ...]]:
    return conn.execute(
        "SELECT job_id, outcome FROM _ayb_job_executions WHERE job_id = ANY (%s) ORDER BY id", (list(job_ids),)
    ).fetchall()


@pytest.mark.parametrize("remove_completed", [False, True])
def test_attempts_whose_numbers_are_taken_are_settled_under_others(
    db: Database, conn: Connection, *, remove_completed: bool
) -> None:
    completing = Completing(db, conn, remove_completed=remove_completed)
    jobs = [completing.end_one() for _ in range(3)]
    conn.execute(TAKE_NUMBERS)
    completing.completer.tick()
    assert sorted(outcomes(conn, jobs)) == sorted((job, "completed") for job in jobs)
    assert [len(event.settlements) for event in completing.told] == [3]


def test_an_answer_that_is_lost_after_a_new_number_was_given_is_no_lost_lease(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    completing = Completing(db, conn)
    job_id = completing.end_one()
    conn.execute(TAKE_NUMBERS)

    def settle_without_answer(conn: Connection, batch: Sequence[Settlement], **options: object) -> Settled:
        settle_jobs(conn, batch, worker_id="w", now=0.0)  # the first time, the number is taken
        raise OperationalError("the connection is lost")

    with monkeypatch.context() as outage:
        outage.setattr(writing, "settle_jobs", settle_without_answer)
        with pytest.raises(OperationalError):
            completing.completer.tick()
    assert outcomes(conn, [job_id]) == [(job_id, "completed")]
    completing.completer.tick()
    assert completing.of(JobsSettled)
    assert not completing.of(LeasesLost)
    assert outcomes(conn, [job_id]) == [(job_id, "completed")]


@pytest.mark.parametrize("remove_completed", [False, True])
def test_attempts_whose_rows_a_trigger_drops_are_told_once_a_minute(
    db: Database, conn: Connection, *, remove_completed: bool
) -> None:
    completing = Completing(db, conn, remove_completed=remove_completed)
    conn.execute(DROP_EXECUTIONS)
    jobs = [completing.end_one() for _ in range(2)]
    completing.completer.tick()
    completing.end_one()
    completing.completer.tick()
    assert [(event.count, event.job_id in jobs) for event in completing.of(ExecutionsDropped)] == [(2, True)]
    assert sum(len(event.settlements) for event in completing.of(JobsSettled)) == 3
    assert not conn.execute("SELECT FROM _ayb_jobs WHERE state = 'running'").fetchall()


def test_the_end_of_a_job_that_plain_sql_has_ended_is_lost_and_nobodys_fault(db: Database, conn: Connection) -> None:
    completing = Completing(db, conn)
    completing.end_one()
    conn.execute("UPDATE _ayb_jobs SET state = 'canceled', canceled_at = now()")
    completing.completer.tick()
    assert [type(event) for event in completing.told] == [LeasesLost]
    assert conn.execute("SELECT state FROM _ayb_jobs").fetchone() == ("canceled",)


def test_what_is_lost_is_not_set_aside_any_more(db: Database, conn: Connection) -> None:
    conn.execute(KEEP_RUNNING)
    make_job(conn)
    job = lease(conn)
    aside = Aside(lambda _: None, part="test", table="_ayb_jobs")
    assert release_each(db, [job.lease], aside, worker_id="w").refused
    assert aside.ids() == [job.id]
    conn.execute(LOSE_LEASES)
    release_each(db, [job.lease], aside, worker_id="w")
    assert aside.waits.all() == []


def test_an_orphan_that_is_lost_is_not_set_aside_any_more(db: Database, conn: Connection) -> None:
    conn.execute(KEEP_RUNNING)
    make_job(conn)
    lease(conn)
    releaser = Releaser(
        database=db, buffers=[Buffer(on_low=lambda: None)], in_flight=InFlight(), emit=lambda _: None, worker_id="w"
    )
    with pytest.raises(OperationalError), releaser.answer_expected():
        lose_connection()
    releaser.release_orphans()
    left = [releaser.orphans_left]
    conn.execute(LOSE_LEASES)
    releaser.release_orphans()
    assert [*left, releaser.orphans_left] == [True, False]
    assert releaser._aside.waits.all() == []

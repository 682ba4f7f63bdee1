"""Jobs that the database refuses to change for a worker: told, remembered, passed over, and tried again."""

from typing import Any

import pytest
from psycopg import sql

from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.waiting import WaitKind
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet import limits
from ayb_jobs.storage.fleet.waiting import why_waiting
from ayb_jobs.storage.queue.jobs import get_job
from tests.factories import make_job, payload_bomb
from tests.sql_workers import extend, lease

# More than one call passes over.
MANY = 1100


def set_limit(conn: Connection, **given: Any) -> None:
    with conn.transaction():
        limits.set_limit(conn, NewLimit(**{"name": "few", "types": ["test"], "max_running": 1000, **given}), by="ada")


def judge(conn: Connection, answer: str, *, when: str = "true") -> None:
    """Have a trigger give an answer for each change of a job whose payload is `"bad"`."""
    conn.execute(
        f"""
        CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.payload = '"bad"' AND ({when}) THEN {answer}; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER judge BEFORE UPDATE ON _ayb_jobs FOR EACH ROW EXECUTE FUNCTION judge();
        """.encode()
    )


def make_bad(conn: Connection, state: str = "queued", **given: Any) -> str:
    return make_job(conn, state, payload=sql.SQL("'\"bad\"'"), **given)


def make_many_bad(conn: Connection, **columns: Any) -> None:
    conn.execute(
        """
        INSERT INTO _ayb_jobs (type, payload, run_at, priority, limited_by, limited_key)
        SELECT 'test', '"bad"', now() - interval '1 hour', %(priority)s, %(limited_by)s, %(limited_key)s
        FROM generate_series(1, %(many)s)
        """,
        {"priority": 2, "limited_by": None, "limited_key": None, "many": MANY, **columns},
    )


def told_by(conn: Connection) -> list[str]:
    told: list[str] = []
    conn.add_notice_handler(lambda notice: told.append(str(notice.message_primary)))
    return told


REFUSAL = "SELECT retry_s, worker_id, error FROM _ayb_job_refusals WHERE job_id = %s"


def refusal(conn: Connection, job_id: str) -> tuple[Any, ...] | None:
    return conn.execute(REFUSAL, (job_id,)).fetchone()


def end_wait(conn: Connection) -> None:
    conn.execute("UPDATE _ayb_job_refusals SET retry_at = now()")


@pytest.mark.parametrize("answer", ["RETURN NULL", "RAISE EXCEPTION 'no'"])
@pytest.mark.parametrize("where", ["plain", "to be limited", "limited"])
def test_however_many_jobs_are_refused_at_the_front_the_next_calls_get_to_those_behind(
    conn: Connection, answer: str, where: str
) -> None:
    columns: dict[str, Any] = {}
    if where != "plain":
        set_limit(conn)
    if where == "limited":
        columns = {"priority": 6, "limited_by": "few", "limited_key": ""}
    make_many_bad(conn, **columns)
    good = {make_job(conn, **columns) for _ in range(5)}
    judge(conn, answer)
    leased = [job.id for _ in range(3) for job in lease(conn, n=10)]
    assert sorted(leased) == sorted(good)


def test_a_refused_job_is_tried_again_at_growing_intervals_and_forgotten_once_it_is_leased(conn: Connection) -> None:
    bad = make_bad(conn)
    judge(conn, "RAISE EXCEPTION 'no'")
    told = told_by(conn)
    for retry_s in (15, 30, 60, 60):
        assert lease(conn) == []
        assert refusal(conn, bad) == (retry_s, "w", "no")
        assert lease(conn, worker="another") == [], "its wait is not over, for nobody"
        assert len(told) == 1
        told.clear()
        end_wait(conn)
    conn.execute("DROP TRIGGER judge ON _ayb_jobs")
    assert [job.id for job in lease(conn)] == [bad]
    assert refusal(conn, bad) is None


def test_a_refusal_that_may_pass_is_tried_again_soon(conn: Connection) -> None:
    bad = make_bad(conn)
    judge(conn, "RAISE EXCEPTION 'busy' USING ERRCODE = '40001'")
    assert lease(conn) == []
    assert refusal(conn, bad) == (1, "w", "busy")


@pytest.mark.parametrize(
    "at", ["now() - interval '11 minutes'", "now() + interval '1 day'", "'infinity'", "'-infinity'"]
)
def test_a_refusal_of_another_time_keeps_no_job_back(conn: Connection, at: str) -> None:
    job_id = make_job(conn)
    conn.execute(f"INSERT INTO _ayb_job_refusals VALUES ('{job_id}', 'w', 'no', 60, {at})".encode())
    assert [job.id for job in lease(conn)] == [job_id]


def test_why_tells_who_was_refused_a_job_and_what_the_database_said(conn: Connection) -> None:
    bad = make_bad(conn)
    judge(conn, "RAISE EXCEPTION 'not on a Sunday'")
    assert lease(conn) == []
    reason = why_waiting(conn, get_job(conn, bad))
    assert reason is not None
    assert reason.kind is WaitKind.SET_ASIDE
    assert reason.words == "worker w set it aside, and tries it again from time to time: not on a Sunday"


def test_a_lease_that_cannot_be_extended_is_told_and_the_others_are_extended(conn: Connection) -> None:
    good, bad = make_job(conn), make_bad(conn)
    leases = {job.id: job.lease_id for job in lease(conn, lease_s=60)}
    judge(conn, "RAISE EXCEPTION 'no'")
    told = told_by(conn)
    became = extend(conn, *leases.items(), lease_s=600)
    assert became == {leases[good]: "extended", leases[bad]: "unchanged"}
    assert told == [f"the lease of job {bad} was not extended: no"]
    left = "SELECT lease_until > now() + interval '5 minutes' FROM _ayb_jobs WHERE id = %s"
    assert conn.execute(left, (good,)).fetchone() == (True,)


def test_a_running_job_that_cannot_be_put_under_a_limit_keeps_no_other_from_it_and_nothing_from_being_leased(
    conn: Connection,
) -> None:
    good, bad = make_job(conn), make_bad(conn)
    assert len(lease(conn)) == 2
    judge(conn, "RAISE EXCEPTION 'no'")
    set_limit(conn)
    told = told_by(conn)
    other = make_job(conn, type="other")
    assert [job.id for job in lease(conn, "test", "other")] == [other]
    assert told == [f"job {bad} was not put under its limit: no"]
    under = "SELECT limited_by FROM _ayb_jobs WHERE id = ANY (%s::uuid[]) ORDER BY id = %s"
    assert conn.execute(under, ([good, bad], bad)).fetchall() == [("few",), (None,)]
    confirmed = "SELECT coalesce(limits_confirmed, 0) FROM _ayb_job_workers"
    assert conn.execute(confirmed).fetchone() == (0,), "one of its jobs does not count yet"


def test_a_payload_that_cannot_be_written_hides_no_other_though_a_trigger_keeps_its_job(conn: Connection) -> None:
    bomb = make_job(conn, payload=payload_bomb(600))
    good = make_job(conn)
    conn.execute("""
        CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
        CREATE TRIGGER judge BEFORE UPDATE ON _ayb_jobs FOR EACH ROW WHEN (NEW.state = 'failed') EXECUTE FUNCTION judge();
    """)
    told = told_by(conn)
    assert [job.id for job in lease(conn)] == [good]
    assert told == [f"job {bomb} was not settled: no"]


def test_refused_jobs_that_have_no_place_keep_no_other_from_being_tried_again(conn: Connection) -> None:
    set_limit(conn)
    judge(conn, "RETURN NULL")
    make_many_bad(conn, priority=6, limited_by="few", limited_key="", many=40)
    beside = make_bad(conn, type="other")
    lease(conn, "test", "other")
    assert conn.execute("SELECT FROM _ayb_job_refusals").rowcount == 41
    conn.execute("DROP TRIGGER judge ON _ayb_jobs")
    set_limit(conn, max_running=0)
    end_wait(conn)
    conn.execute("UPDATE _ayb_job_refusals SET retry_at = now() - interval '1 minute' WHERE job_id <> %s", (beside,))
    leased = [job.id for _ in range(60) for job in lease(conn, "test", "other")]
    assert leased == [beside]

"""Enqueueing, looking, retrying and canceling, one job at a time."""

import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from ayb_jobs.client.enqueueing import enqueue
from ayb_jobs.client.steps import Enqueued
from ayb_jobs.errors import Conflict, InvalidInput, NotFound
from ayb_jobs.model.filters import Filter
from ayb_jobs.model.job import Job, JobState
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.queue import jobs
from tests.eventually import eventually
from tests.factories import make_job, payload_bomb

NOWHERE = "01890000-0000-7000-8000-000000000000"


def count(conn: Connection) -> int:
    row = conn.execute("SELECT count(*) FROM _ayb_jobs").fetchone()
    assert row is not None
    return int(row[0])


def test_an_enqueued_job_is_stored_as_it_was_asked_for(conn: Connection) -> None:
    asked = NewJob(
        type="mail", payload={"to": "ü", "n": 1.5}, queue="slow", priority=1, max_attempts=7,
        idempotency_key="k", traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )  # fmt: skip
    made = enqueue(conn, asked)
    job = jobs.get_job(conn, made.id)
    assert made.created
    assert (job.type, job.queue, job.priority, job.max_attempts) == ("mail", "slow", 1, 7)
    assert (job.payload_text, job.idempotency_key) == ('{"n": 1.5, "to": "ü"}', "k")
    assert (job.state, job.attempts, job.crashes) == (JobState.QUEUED, 0, 0)
    assert job.run_at == job.created_at
    assert conn.execute("SELECT traceparent FROM _ayb_jobs").fetchone() == (asked.traceparent,)


def test_ids_are_in_the_order_of_enqueueing(conn: Connection) -> None:
    ids = []
    for _ in range(5):
        ids.append(enqueue(conn, NewJob(type="a")).id)
        conn.execute("SELECT pg_sleep(0.002)")
    assert ids == sorted(ids)
    assert {id_[14] for id_ in ids} == {"7"}


def test_a_delay_counts_by_the_databases_clock_and_an_instant_stands_as_given(conn: Connection) -> None:
    at = datetime(2040, 1, 1, 12, tzinfo=UTC)
    assert jobs.get_job(conn, enqueue(conn, NewJob(type="a", run_at=at)).id).run_at == at
    delayed = jobs.get_job(conn, enqueue(conn, NewJob(type="a", delay=timedelta(hours=2))).id)
    assert delayed.run_at - delayed.created_at == timedelta(hours=2)


@pytest.mark.parametrize("state", list(JobState))
def test_a_taken_key_answers_with_its_job_in_whatever_state(conn: Connection, state: JobState) -> None:
    first = make_job(conn, state, idempotency_key="k")
    assert enqueue(conn, NewJob(type="a", idempotency_key="k")) == (first, False)
    assert count(conn) == 1


def test_a_key_that_is_taken_while_we_insert_answers_with_the_other_job(conn: Connection, database_url: str) -> None:
    answers: list[Enqueued] = []
    with psycopg.connect(database_url) as other:
        first = enqueue(other, NewJob(type="a", idempotency_key="k"))
        second = threading.Thread(target=lambda: answers.append(enqueue(conn, NewJob(type="a", idempotency_key="k"))))
        second.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%_ayb_jobs%%'"
        with closing(connect(database_url)) as watcher:
            eventually(lambda: watcher.execute(waiting).fetchone() == (1,))
        other.commit()
        second.join()
    assert answers == [(first.id, False)]


def test_a_key_that_its_holder_gave_up_is_ours(conn: Connection, database_url: str) -> None:
    with psycopg.connect(database_url) as other:
        enqueue(other, NewJob(type="a", idempotency_key="k"))
        other.rollback()
    assert enqueue(conn, NewJob(type="a", idempotency_key="k")).created


def test_a_key_of_a_job_that_cannot_be_seen_is_no_endless_question(conn: Connection) -> None:
    make_job(conn, type="hidden", idempotency_key="k")
    conn.execute("CREATE ROLE short_sighted")
    try:
        conn.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO short_sighted")
        conn.execute("CREATE POLICY blind ON _ayb_jobs FOR SELECT TO short_sighted USING (type <> 'hidden')")
        conn.execute("CREATE POLICY writes ON _ayb_jobs FOR INSERT TO short_sighted WITH CHECK (true)")
        conn.execute("ALTER TABLE _ayb_jobs ENABLE ROW LEVEL SECURITY")
        conn.execute("SET ROLE short_sighted")
        with pytest.raises(Conflict, match="cannot see"):
            enqueue(conn, NewJob(type="a", idempotency_key="k"))
    finally:
        conn.execute("RESET ROLE")
        conn.execute("DROP OWNED BY short_sighted")
        conn.execute("DROP ROLE short_sighted")


def test_a_job_exists_once_its_callers_transaction_commits(conn: Connection, database_url: str) -> None:
    with psycopg.connect(database_url) as application:
        enqueue(application, NewJob(type="a"))
        assert count(conn) == 0
        application.rollback()
        enqueue(application, NewJob(type="b"))
        application.commit()
    assert [job.type for job in jobs.list_jobs(conn)] == ["b"]


def test_an_application_may_use_its_own_rows_and_cursors(conn: Connection, database_url: str) -> None:
    with psycopg.connect(database_url, row_factory=dict_row, cursor_factory=psycopg.ClientCursor) as application:
        made = enqueue(application, NewJob(type="a", idempotency_key="k"))
        assert enqueue(application, NewJob(type="a", idempotency_key="k")) == (made.id, False)
    assert jobs.get_job(conn, made.id).type == "a"


def test_a_due_job_notifies_once_and_a_later_one_does_not(conn: Connection, notified: Callable[[], int]) -> None:
    enqueue(conn, NewJob(type="a"))
    assert notified() == 1
    enqueue(conn, NewJob(type="a", delay=timedelta(hours=1)))
    assert notified() == 0


@pytest.mark.parametrize(
    ("job", "word"),
    [
        (NewJob(type="a", traceparent="x" * 56), "too long"),
        (NewJob(type="a", payload={"x": "\ud800"}), "surrogate"),
        (NewJob(type="a", payload={"x": "\x00"}), "NUL"),
        (NewJob(type="a", payload=object()), "cannot be stored"),
    ],
)
def test_what_the_database_cannot_store_is_refused_in_words(conn: Connection, job: NewJob, word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        enqueue(conn, job)
    assert count(conn) == 0


def test_only_failed_jobs_are_retried_and_begin_anew(conn: Connection, notified: Callable[[], int]) -> None:
    job_id = make_job(conn, "failed", attempts=3, crashes=2, run_at=sql.SQL("now() - interval '1 day'"))
    job = jobs.retry_job(conn, job_id)
    assert (job.id, job.state, job.attempts, job.crashes) == (job_id, JobState.QUEUED, 0, 0)
    assert job.run_at == job.updated_at
    assert notified() == 1


def test_only_queued_jobs_are_canceled(conn: Connection) -> None:
    job = jobs.cancel_job(conn, make_job(conn, "queued"))
    assert job.state == JobState.CANCELED
    assert job.canceled_at == job.updated_at


@pytest.mark.parametrize("change", [jobs.retry_job, jobs.cancel_job])
@pytest.mark.parametrize("state", list(JobState))
def test_any_other_state_is_named_and_kept(conn: Connection, change: jobs.Change, state: JobState) -> None:
    if (change, state) in {(jobs.retry_job, JobState.FAILED), (jobs.cancel_job, JobState.QUEUED)}:
        return
    job_id = make_job(conn, state)
    before = jobs.get_job(conn, job_id)
    with pytest.raises(Conflict, match=f"is {state};"):
        change(conn, job_id)
    assert jobs.get_job(conn, job_id) == before


@pytest.mark.parametrize("change", [jobs.get_job, jobs.retry_job, jobs.cancel_job])
def test_a_missing_job_and_a_bad_id_are_told_apart(conn: Connection, change: jobs.Change) -> None:
    with pytest.raises(NotFound, match=NOWHERE):
        change(conn, NOWHERE)
    for bad in ("", "x", "\x00", NOWHERE + "0", "' OR 1=1 --"):
        with pytest.raises(InvalidInput, match="not a UUID"):
            change(conn, bad)


def test_a_list_is_newest_first_filtered_and_paged(conn: Connection) -> None:
    for number in range(6):
        make_job(
            conn, "failed" if number % 2 else "completed", type=f"t{number % 3}", queue=f"q{number // 3}",
            created_at=datetime(2026, 1, 1, number // 2, tzinfo=UTC),
        )  # fmt: skip
    everything = jobs.list_jobs(conn)
    assert [(job.created_at, job.id) for job in everything] == sorted(
        ((job.created_at, job.id) for job in everything), reverse=True
    )
    assert {job.state for job in jobs.list_jobs(conn, state=JobState.FAILED)} == {JobState.FAILED}
    assert [job.type for job in jobs.list_jobs(conn, wanted=Filter(type="t1"))] == ["t1", "t1"]
    assert len(jobs.list_jobs(conn, wanted=Filter(queue="q0"), state=JobState.FAILED)) == 1
    assert jobs.list_jobs(conn, limit=2, offset=3) == everything[3:5]
    paged: list[Job] = []
    page = jobs.list_page(conn, limit=1)
    while page.next:
        paged += page.jobs
        page = jobs.list_page(conn, limit=1, before=page.next)
    assert paged == everything


def test_rows_that_python_cannot_hold_never_break_a_list(conn: Connection) -> None:
    deep = "[" * 3000 + "]" * 3000
    hostile = [
        make_job(conn, payload=sql.SQL(f"'{deep}'::jsonb"), progress=sql.SQL(f"'{deep}'::jsonb")),
        make_job(conn, payload=sql.SQL(f"'{'9' * 5000}'::jsonb")),
        make_job(conn, run_at=sql.SQL("'infinity'"), created_at=sql.SQL("'20000-01-01'")),
        make_job(conn, run_at=sql.SQL("'-infinity'"), created_at=sql.SQL("'0044-03-15 BC'")),
    ]
    assert {job.id for job in jobs.list_jobs(conn)} == set(hostile)
    shown = jobs.get_job(conn, hostile[0])
    assert len(shown.payload_text) == 6000
    assert isinstance(shown.progress, list) or shown.progress == shown.payload_text  # Python 3.13 can hold it


def plan(conn: Connection, statement: str, **values: object) -> str:
    filled_in = {
        "state": None,
        **Filter().values(),
        "before_at": None,
        "before_id": None,
        "limit": 50,
        "offset": 0,
    }
    rows = conn.execute(f"EXPLAIN {statement}", {**filled_in, **values}, prepare=False)
    return "\n".join(row[0] for row in rows)


@pytest.mark.parametrize("analyzed", [True, False])
def test_lists_walk_an_index(conn: Connection, *, analyzed: bool) -> None:
    conn.execute("""
        INSERT INTO _ayb_jobs (type, state, created_at)
        SELECT 'a', CASE number % 100 WHEN 0 THEN 'failed' WHEN 1 THEN 'canceled' ELSE 'completed' END,
            now() - make_interval(secs => number)
        FROM generate_series(1, 20000) AS number
    """)
    if analyzed:
        conn.execute("ANALYZE _ayb_jobs")
    assert "idx_ayb_jobs_created" in plan(conn, jobs.LIST_JOBS)
    assert "idx_ayb_jobs_created" in plan(conn, jobs.LIST_JOBS, before_at=datetime.now(UTC), before_id=NOWHERE)
    assert "idx_ayb_jobs_failed" in plan(conn, jobs.LIST_JOBS, state="failed")
    assert "idx_ayb_jobs_failed" in plan(conn, jobs.LIST_JOBS, state="failed", type="a")
    assert "idx_ayb_jobs_failed" in plan(conn, jobs.LIST_JOBS, state="failed", error="a", since=datetime.now(UTC))
    assert "idx_ayb_jobs_canceled" in plan(conn, jobs.LIST_JOBS, state="canceled")
    assert "Seq Scan" not in plan(conn, jobs.LIST_JOBS, state="running")


def test_a_payload_too_large_as_text_hides_no_other_job(conn: Connection) -> None:
    bomb = make_job(conn, "failed", payload=payload_bomb(600), progress=payload_bomb(600))
    make_job(conn)
    assert sorted("unreadable" in job.payload_text for job in jobs.list_jobs(conn)) == [False, True]
    assert jobs.get_job(conn, bomb).progress is None
    assert jobs.retry_job(conn, bomb).state == JobState.QUEUED

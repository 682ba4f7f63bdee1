"""Whoever cancels a queued job for which others wait says so to the daemons, by whatever call."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing

import pytest

from ayb_jobs import request_cancel
from ayb_jobs.model.filters import Filter
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.hearing import Heard
from ayb_jobs.storage.queue.bulk import cancel_jobs
from ayb_jobs.storage.queue.canceling import cancel_running_job
from ayb_jobs.storage.queue.jobs import cancel_job
from tests.factories import make_job

WAYS: Mapping[str, Callable[[Connection, str], object]] = {
    "one": cancel_job,
    "one that may run": cancel_running_job,
    "many": lambda conn, _: cancel_jobs(conn, wanted=Filter(type="wanted")),
    "an application's": request_cancel,
    "SQL": lambda conn, job_id: conn.execute("SELECT ayb_jobs.ayb_jobs_cancel(%s)", (job_id,)),
}


@pytest.fixture
def words(database_url: str) -> Iterator[Callable[[], list[str]]]:
    """Return what was said on the daemons' channel since the last call."""
    with closing(connect(database_url, name="listener")) as connection:
        heard = Heard(connection)
        connection.execute("LISTEN ayb_jobs")

        def said() -> list[str]:
            connection.execute("SELECT 1")
            return sorted(each.payload for each in heard.take())

        yield said


@pytest.mark.parametrize("way", WAYS)
def test_a_job_for_which_others_wait_is_told(conn: Connection, words: Callable[[], list[str]], way: str) -> None:
    job = make_job(conn, type="wanted")
    child = make_job(conn, run_at="9999-12-31", blocked_run_at="now")
    conn.execute(
        "INSERT INTO _ayb_job_dependencies (child_id, parent_id, rule) VALUES (%s, %s, 'cancel')", (child, job)
    )
    words()
    WAYS[way](conn, job)
    assert words() == [f"ended {job}"]


@pytest.mark.parametrize("way", WAYS)
def test_a_member_of_a_batch_is_told(conn: Connection, words: Callable[[], list[str]], way: str) -> None:
    (batch,) = conn.execute("INSERT INTO _ayb_job_batches (id) VALUES (gen_random_uuid()) RETURNING id").fetchall()[0]
    job = make_job(conn, type="wanted", batch_id=batch)
    words()
    WAYS[way](conn, job)
    assert words() == [f"ended {job}"]


@pytest.mark.parametrize("way", WAYS)
def test_a_job_for_which_nobody_waits_is_not_told(conn: Connection, words: Callable[[], list[str]], way: str) -> None:
    job = make_job(conn, type="wanted")
    words()
    WAYS[way](conn, job)
    assert words() == []


def test_one_member_tells_of_a_batch(conn: Connection, words: Callable[[], list[str]]) -> None:
    (batch,) = conn.execute("INSERT INTO _ayb_job_batches (id) VALUES (gen_random_uuid()) RETURNING id").fetchall()[0]
    for _ in range(3):
        make_job(conn, batch_id=batch)
    words()
    cancel_jobs(conn)
    assert len(words()) == 1

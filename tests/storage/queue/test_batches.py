"""Batches: the callbacks are enqueued once, after the last member has ended, whatever happens at the same time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from ayb_jobs import Batch, Conflict, InvalidInput, NewJob, NotFound, Unique, batch, enqueue, enqueue_many, retry_job
from ayb_jobs.model.batches import BatchState, EndedBatch
from ayb_jobs.model.job import JobState
from ayb_jobs.operations import batches as operations
from ayb_jobs.operations.acting import Actor
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.faults import RowUnchanged
from ayb_jobs.storage.queue import batch_views, batches
from ayb_jobs.storage.queue.batches import close_batches, delete_batches, find_old_batches, find_sealed, look_at_batches
from ayb_jobs.storage.queue.jobs import get_job
from ayb_jobs.storage.queue.pruning import delete_jobs, prune_jobs
from ayb_jobs.storage.rows import one_row
from tests.factories import make_job
from tests.interleaving import Step, actors, begun, commit, play, schedules
from tests.storage.queue.test_unique import end

GONE = "01890000-0000-7000-8000-0000000000ff"
MEMBER = NewJob(type="test")
CALLED: dict[str, Any] = {
    f"on_{event}": NewJob(type=event, payload={"say": "hi"}) for event in ("success", "failure", "done")
}


def made(conn: Connection, count: int = 2, **values: Any) -> tuple[str, list[str]]:
    """Make a sealed batch; return its id and those of its members."""
    with batch(conn, **(values or CALLED)) as one:
        members = [one.enqueue(MEMBER).id for _ in range(count)]
    return one.id, members


def look(conn: Connection) -> list[str]:
    """Look at all batches, as a sweep does; return those that are done."""
    seen = look_at_batches(conn, [(id_, None) for id_ in find_sealed(conn, limit=10_000)])
    with conn.transaction():
        return [each.id for each in close_batches(conn, [each.id for each in seen if each.witness is None])]


def called(conn: Connection) -> list[tuple[str, dict[str, Any]]]:
    rows = conn.execute("SELECT type::text, payload FROM _ayb_jobs WHERE payload ? 'batch' ORDER BY type").fetchall()
    return [(row[0], row[1]) for row in rows]


def events(conn: Connection) -> list[str]:
    return [event for event, _ in called(conn)]


def test_the_callbacks_come_once_all_members_have_completed(conn: Connection, notified: Callable[[], int]) -> None:
    batch_id, members = made(conn)
    for member in members:
        assert look(conn) == []
        end(conn, member)
    notified()
    assert look(conn) == [batch_id]
    assert notified() == 1
    counts = {"total": 2, "completed": 2, "failed": 0, "canceled": 0}
    assert called(conn) == [
        (event, {"say": "hi", "batch": {"id": batch_id, "event": event, **counts}}) for event in ("done", "success")
    ]
    assert look(conn) == []
    assert conn.execute("SELECT min(run_at) <= now() FROM _ayb_jobs WHERE payload ? 'batch'").fetchone() == (True,)


@pytest.mark.parametrize("ending", ["failed", "canceled"])
def test_a_batch_of_which_one_did_not_complete_has_failed(conn: Connection, ending: str) -> None:
    batch_id, [first, second] = made(conn)
    end(conn, first, ending)
    assert look(conn) == []
    conn.execute("UPDATE _ayb_jobs SET last_error = 'it broke' WHERE id = %s", (first,))
    end(conn, second)
    assert look(conn) == [batch_id]
    assert events(conn) == ["done", "failure"]
    told = called(conn)[0][1]["batch"]
    assert (told["completed"], told[ending]) == (1, 1)
    assert told.get("first_failed") == (first if ending == "failed" else None)
    assert told.get("first_error") == ("it broke" if ending == "failed" else None)


@pytest.mark.parametrize("count", [0, 1])
def test_a_canceled_batch_has_failed_however_its_jobs_end(conn: Connection, count: int) -> None:
    batch_id, members = made(conn, count)
    conn.execute("UPDATE _ayb_jobs SET state = 'running' WHERE batch_id = %s", (batch_id,))
    batch_views.cancel_batch(conn, batch_id)
    for member in members:
        end(conn, member)
    assert look(conn) == [batch_id]
    assert events(conn) == ["done", "failure"]
    assert batch_views.get_batch(conn, batch_id).state == "failed"
    assert [one.id for one in batch_views.list_batches(conn, state=BatchState.FAILED)] == [batch_id]
    assert batch_views.list_batches(conn, state=BatchState.SUCCEEDED) == []
    assert EndedBatch(batch_id, count, 0, 0, is_canceled=True).state == "failed"


def test_an_empty_batch_succeeds(conn: Connection, notified: Callable[[], int]) -> None:
    notified()
    batch_id, _ = made(conn, 0)
    assert notified() == 1  # a daemon is told that there is nothing to wait for
    assert look(conn) == [batch_id]
    assert events(conn) == ["done", "success"]


def test_members_that_end_before_the_batch_is_sealed_end_it_once_it_is(
    conn: Connection, notified: Callable[[], int]
) -> None:
    with batch(conn, **CALLED) as one:
        first = one.enqueue(MEMBER).id
        end(conn, first)
        assert look_at_batches(conn, [(one.id, None)]) == [(one.id, False, None, False)]
        with conn.transaction():
            assert close_batches(conn, [one.id]) == []
        notified()
    assert notified() == 1
    assert look(conn) == [one.id]


def test_a_batch_whose_block_raises_is_not_sealed(conn: Connection) -> None:
    def broken() -> None:
        with batch(conn, **CALLED) as one:
            end(conn, one.enqueue(MEMBER).id)
            raise OverflowError

    with pytest.raises(OverflowError):
        broken()
    assert look(conn) == []
    one = Batch(conn, one_row(conn.execute("SELECT id::text FROM _ayb_job_batches"))[0])
    one.seal()
    one.seal()
    assert look(conn) == [one.id]


def test_a_member_that_failed_and_is_retried_before_the_end_counts_as_it_ends(conn: Connection) -> None:
    batch_id, [first, second] = made(conn)
    end(conn, first, "failed")
    retry_job(conn, first)
    end(conn, second)
    assert look(conn) == []
    end(conn, first)
    assert look(conn) == [batch_id]
    assert events(conn) == ["done", "success"]


def test_a_retry_after_the_end_changes_nothing_of_the_batch(conn: Connection) -> None:
    batch_id, [member] = made(conn, 1)
    end(conn, member, "failed")
    assert look(conn) == [batch_id]
    retry_job(conn, member)
    assert look(conn) == []
    end(conn, member)
    assert look(conn) == []
    assert events(conn) == ["done", "failure"]
    row = conn.execute("SELECT completed, failed FROM _ayb_job_batches").fetchone()
    assert row == (0, 1)


def test_a_member_may_add_another_until_the_batch_is_done(conn: Connection) -> None:
    batch_id, [member] = made(conn, 1)
    added = enqueue(conn, NewJob(type="test", batch_id=batch_id))
    end(conn, member)
    assert look(conn) == []
    end(conn, added.id)
    assert look(conn) == [batch_id]
    told = f"batch {batch_id} is done; it takes no more jobs"
    many = [MEMBER, NewJob(type="test", batch_id=batch_id)]
    for add in (
        lambda: enqueue(conn, many[1]),
        lambda: enqueue_many(conn, many),
        lambda: Batch(conn, batch_id).enqueue_many([MEMBER] * 3),
        lambda: enqueue(conn, NewJob(type="test", batch_id=batch_id, depends_on=[GONE])),
    ):
        with pytest.raises(Conflict, match=told):
            add()
    assert conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state = 'queued' AND type = 'test'").fetchone() == (0,)
    with pytest.raises(NotFound, match=f"there is no batch {GONE}"):
        enqueue(conn, NewJob(type="test", batch_id=GONE))


def test_many_are_added_whatever_they_need(conn: Connection) -> None:
    with batch(conn, **CALLED) as one:
        assert one.enqueue_many([MEMBER, NewJob(type="test", delay=timedelta(hours=1))]) == 2
        parent = one.enqueue(NewJob(type="test", idempotency_key="k"))
        assert not one.enqueue(NewJob(type="test", idempotency_key="k")).created
        child = one.enqueue(NewJob(type="test", depends_on=[parent], limit_key="l"))
        assert one.enqueue_many([NewJob(type="test", depends_on=[parent]), NewJob(type="test", limit_key="l")]) == 2
        with pytest.raises(InvalidInput, match="the job is a member of batch"):
            one.enqueue_many([MEMBER, NewJob(type="test", batch_id=GONE)])
        with pytest.raises(InvalidInput, match="give batch_id or a unique key, not both"):
            one.enqueue(NewJob(type="test", unique=Unique(key="k")))
    assert conn.execute("SELECT count(*) FROM _ayb_jobs WHERE batch_id = %s", (one.id,)).fetchone() == (6,)
    assert get_job(conn, child.id).batch_id == one.id


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"on_done": "mail"}, "on_done is a str; a NewJob is needed"),
    ({"on_done": NewJob(type="a", delay=timedelta(1))}, "on_done has delay; a callback takes type, payload, queue"),
    ({"on_success": NewJob(type="a", payload=[1])}, "the payload of on_success must be an object without a field"),
    ({"on_failure": NewJob(type="a", payload={"batch": 1})}, "the payload of on_failure must be an object"),
    ({"description": "d" * 201}, "description has 201 characters; at most 200 are allowed"),
]


@pytest.mark.parametrize(("values", "words"), WRONG)
def test_what_makes_no_sense_is_refused(conn: Connection, values: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words), batch(conn, **values):
        pass
    assert conn.execute("SELECT count(*) FROM _ayb_job_batches").fetchone() == (0,)


@pytest.mark.parametrize("ending", ["completed", "failed", "canceled"])
def test_retention_leaves_members_until_their_batch_is_done(conn: Connection, ending: str) -> None:
    batch_id, [first, second] = made(conn)
    plain = make_job(conn, "completed")
    end(conn, first, ending)
    conn.execute("UPDATE _ayb_jobs SET created_at = now() - interval '9 days', updated_at = now() - interval '9 days'")
    conn.execute(
        "UPDATE _ayb_jobs SET completed_at = CASE state WHEN 'completed' THEN updated_at END,"
        " canceled_at = CASE state WHEN 'canceled' THEN updated_at END WHERE state <> 'queued'"
    )
    prune = partial(prune_jobs, conn, state=JobState(ending), keep=timedelta(0))
    prune()
    assert delete_jobs(conn, [first], state=JobState(ending)).rows == 0
    assert get_job(conn, first).state == ending
    if ending == "completed":
        with pytest.raises(NotFound):
            get_job(conn, plain)
    end(conn, second)
    assert look(conn) == [batch_id]
    assert prune().rows >= 1
    with pytest.raises(NotFound):
        get_job(conn, first)


def test_a_batch_goes_a_day_after_its_end_once_its_members_are_gone(conn: Connection) -> None:
    batch_id, [member] = made(conn, 1)
    end(conn, member)
    look(conn)
    assert find_old_batches(conn).ids == []
    conn.execute("UPDATE _ayb_job_batches SET done_at = now() - interval '25 hours'")
    assert find_old_batches(conn).ids == []
    conn.execute("DELETE FROM _ayb_jobs")
    assert find_old_batches(conn).ids == [batch_id]
    assert delete_batches(conn, [batch_id]).rows == 1
    assert conn.execute("SELECT count(*) FROM _ayb_job_batch_callbacks").fetchone() == (0,)


def test_a_trigger_that_drops_a_callback_keeps_its_batch_from_ending(conn: Connection) -> None:
    made(conn, 0)
    conn.execute("""
        CREATE FUNCTION drop_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER drop_it BEFORE INSERT ON _ayb_jobs FOR EACH ROW WHEN (NEW.type = 'success') EXECUTE FUNCTION drop_it()
    """)
    with pytest.raises(RowUnchanged):
        look(conn)
    assert conn.execute("SELECT done_at FROM _ayb_job_batches").fetchone() == (None,)
    assert events(conn) == []


# Each transaction of a resolver, step by step. Without the lock its look is as old as the beginning of its write.
def ending(batch_id: str, *, locks: bool = True) -> list[Step]:
    def run(statement: Any, conn: Connection) -> None:
        conn.execute(statement, {"ids": [batch_id], "patience": "10s"})

    close = partial(run, batches.CLOSE_BATCHES)
    return [begun(partial(run, batches.LOCK_BATCHES)), close, commit] if locks else [begun(close), commit]


def outcomes(
    conn: Connection, url: str, scripts: Callable[[str, list[str]], Sequence[Sequence[Step]]], *, sealed: bool = True
) -> set[tuple[str, ...]]:
    """Return, for all interleavings, the callbacks that were made, and `left` for each open member of a done batch."""
    found = set()
    with actors(url, 2) as cast:
        for schedule in schedules([len(script) for script in scripts(GONE, [GONE, GONE])]):
            conn.execute("TRUNCATE _ayb_jobs, _ayb_job_batches, _ayb_job_batch_callbacks CASCADE")
            batch_id, members = made(conn)
            if not sealed:
                conn.execute("UPDATE _ayb_job_batches SET sealed_at = NULL")
            play(schedule, cast, scripts(batch_id, members))
            left = conn.execute(
                "SELECT FROM _ayb_jobs AS job JOIN _ayb_job_batches AS batch ON batch.id = job.batch_id"
                " WHERE batch.done_at IS NOT NULL AND job.state = 'queued'"
            ).fetchall()
            found.add((*events(conn), *["left" for _ in left]))
    return found


def ends(job_id: str) -> Step:
    return lambda conn: end(conn, job_id)


def test_the_last_two_members_that_end_at_once_end_their_batch_once_in_every_interleaving(
    conn: Connection, database_url: str
) -> None:
    def scripts(batch_id: str, members: list[str]) -> list[list[Step]]:
        return [[ends(member), *ending(batch_id)] for member in members]

    assert outcomes(conn, database_url, scripts) == {("done", "success")}


@pytest.mark.parametrize("locks", [True, False], ids=["with the lock", "without"])
def test_a_member_that_is_added_while_its_batch_ends_is_waited_for_or_refused_in_every_interleaving(
    conn: Connection, database_url: str, *, locks: bool
) -> None:
    def add(batch_id: str, one: Connection) -> None:
        with suppress(Conflict):
            enqueue(one, NewJob(type="test", batch_id=batch_id))

    def scripts(batch_id: str, members: list[str]) -> list[list[Step]]:
        def all_end(one: Connection) -> None:
            for member in members:
                end(one, member)

        return [[begun(partial(add, batch_id)), commit], [all_end, *ending(batch_id, locks=locks)]]

    found = outcomes(conn, database_url, scripts)
    # Without the lock, the look is older than the end of the transaction that it waited for.
    assert found == ({(), ("done", "success")} if locks else {(), ("done", "success"), ("done", "success", "left")})


def test_a_batch_that_is_canceled_while_jobs_are_added_keeps_none_waiting_in_any_interleaving(
    conn: Connection, database_url: str
) -> None:
    def add(batch_id: str, one: Connection) -> None:
        with suppress(Conflict):
            enqueue(one, NewJob(type="test", batch_id=batch_id))

    def cancel(batch_id: str, one: Connection) -> None:
        @contextmanager
        def begin() -> Iterator[Connection]:
            with one.transaction():
                yield one

        operations.cancel(begin, batch_id, actor=Actor(name="ann"))

    with actors(database_url, 2) as cast:
        for schedule in schedules([2, 1]):
            conn.execute("TRUNCATE _ayb_jobs, _ayb_job_batches, _ayb_job_batch_callbacks CASCADE")
            batch_id, _ = made(conn, 1)
            conn.execute("UPDATE _ayb_job_batches SET sealed_at = NULL")
            play(schedule, cast, [[begun(partial(add, batch_id)), commit], [partial(cancel, batch_id)]])
            assert conn.execute("SELECT FROM _ayb_jobs WHERE state = 'queued'").fetchall() == []
            assert look(conn) == [batch_id]
            assert events(conn) == ["done", "failure"]


def test_sealing_a_batch_while_its_last_member_ends_loses_no_end_to_a_sweep(
    conn: Connection, database_url: str
) -> None:
    def scripts(batch_id: str, members: list[str]) -> list[list[Step]]:
        def all_end(one: Connection) -> None:
            for member in members:
                end(one, member)

        return [[begun(lambda one: Batch(one, batch_id).seal()), commit], [all_end, *ending(batch_id)]]

    assert outcomes(conn, database_url, scripts, sealed=False) <= {(), ("done", "success")}
    for batch_id in find_sealed(conn, limit=10):
        assert look(conn) == [batch_id]


ROWS_READ = """
    SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = '_ayb_jobs'
"""


@pytest.mark.parametrize("state", ["queued", "running"])
def test_sealing_a_batch_reads_no_jobs_of_others(conn: Connection, state: str) -> None:
    conn.execute(
        "INSERT INTO _ayb_jobs (type, batch_id, state) SELECT 'test', gen_random_uuid(), %s FROM generate_series(1, 1000)",
        (state,),
    )
    for _ in range(7):  # the plan for any batch comes after five for one
        batch_id = plain_batch(conn)
        Batch(conn, batch_id).enqueue(MEMBER)
        conn.execute("UPDATE _ayb_jobs SET state = %s WHERE batch_id = %s", (state, batch_id))
        with conn.transaction():
            before = one_row(conn.execute(ROWS_READ))[0]
            Batch(conn, batch_id).seal()
            assert one_row(conn.execute(ROWS_READ))[0] - before <= 1


def plain_batch(conn: Connection) -> str:
    return str(one_row(conn.execute("SELECT ayb_jobs.ayb_jobs_batch()"))[0])


def test_a_batch_of_twenty_thousand_ends_by_one_look(conn: Connection) -> None:
    with batch(conn, **CALLED) as one:
        assert one.enqueue_many(MEMBER for _ in range(20_000)) == 20_000
    conn.execute("UPDATE _ayb_jobs SET state = 'completed', completed_at = now()")
    assert look(conn) == [one.id]
    assert called(conn)[0][1]["batch"]["completed"] == 20_000


def by_sql(conn: Connection, call: bytes, *values: object) -> Any:
    return one_row(conn.execute(call, values))[0]


def test_plain_sql_makes_a_batch_too(conn: Connection) -> None:
    on_done = '{"type": "done", "payload": {"say": null}, "priority": 1}'
    batch_id = by_sql(conn, b"SELECT ayb_jobs.ayb_jobs_batch(on_done => %s, description => 'mails')::text", on_done)
    call = b"SELECT ayb_jobs.ayb_jobs_enqueue('test', batch_id => %s::uuid, limit_key => 'k')::text"
    member = by_sql(conn, call, batch_id)
    assert (get_job(conn, member).batch_id, get_job(conn, member).limit_key) == (batch_id, "k")
    end(conn, member)
    assert look(conn) == []
    assert by_sql(conn, b"SELECT ayb_jobs.ayb_jobs_seal_batch(%s::uuid)::text", batch_id) == batch_id
    assert look(conn) == [batch_id]
    [(event, payload)] = called(conn)
    assert (event, payload["say"], payload["batch"]["completed"]) == ("done", None, 1)
    with pytest.raises(
        psycopg.errors.ObjectNotInPrerequisiteState, match=f"batch {batch_id} is done; it takes no more"
    ):
        by_sql(conn, call, batch_id)
    for missing in (call, b"SELECT ayb_jobs.ayb_jobs_seal_batch(%s::uuid)"):
        with pytest.raises(psycopg.errors.NoDataFound, match=f"there is no batch {GONE}"):
            by_sql(conn, missing, GONE)


def test_a_member_that_a_worker_in_another_language_ends_is_told(conn: Connection) -> None:
    made(conn, 1)
    lease = b"SELECT id::text, lease_id::text FROM ayb_jobs.ayb_jobs_lease('w', '{test}')"
    settle = b"SELECT ayb_jobs.ayb_jobs_settle(%s::uuid, %s::uuid)"
    conn.execute("LISTEN ayb_jobs")
    member, lease_id = one_row(conn.execute(lease))
    assert by_sql(conn, settle, member, lease_id) == "completed"
    assert f"ended {member}" in [heard.payload for heard in conn.notifies(timeout=5, stop_after=1)]


@pytest.mark.parametrize(
    ("callback", "words"),
    [
        ("[]", "on_done is no object"),
        ("{}", "the type of on_done is empty"),
        ('{"type": 5}', "the type of on_done is no text"),
        ('{"type": "a", "queue": 5}', "the queue of on_done is no text"),
        ('{"type": "a", "delay": 1}', "on_done has delay; a callback takes type, payload"),
        ('{"type": "a", "priority": 5}', "the priority of on_done is 5; it goes from 1"),
        ('{"type": "a", "max_attempts": 0}', "the max_attempts of on_done are 0"),
        ('{"type": "a", "payload": {"batch": 1}}', "the payload of on_done must be an object without a field 'batch'"),
    ],
)
def test_plain_sql_is_told_what_is_wrong_with_a_callback(conn: Connection, callback: str, words: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=words) as refused:
        by_sql(conn, b"SELECT ayb_jobs.ayb_jobs_batch(on_done => %s)", callback)
    assert refused.value.diag.column_name == "on_done"
    both = b"SELECT ayb_jobs.ayb_jobs_enqueue('a', unique_key => 'k', batch_id => gen_random_uuid())"
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="give batch_id or a unique key, not both"):
        by_sql(conn, both)

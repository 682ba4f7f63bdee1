"""Jobs that wait for others: a child starts once each of its parents has ended as its rule says, whatever happens."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from ayb_jobs import InvalidInput, NewJob, Unique, enqueue, enqueue_many, retry_job
from ayb_jobs.model.dependencies import Edge
from ayb_jobs.model.job import JobState
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.blockers import find_blocker
from ayb_jobs.storage.queue import dependencies
from ayb_jobs.storage.queue.dependencies import find_edges_of, find_ripe_edges, list_family, resolve
from ayb_jobs.storage.queue.jobs import cancel_job, get_job
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.leasing import lease_jobs
from ayb_jobs.storage.queue.pruning import prune_jobs
from tests.factories import make_job
from tests.interleaving import Step, actors, begun, commit, play, schedules
from tests.storage.queue.test_unique import end

GONE = "01890000-0000-7000-8000-0000000000ff"


def child_of(conn: Connection, *parents: str, rule: str = "cancel", **values: Any) -> str:
    return enqueue(conn, NewJob(type="test", depends_on=parents, on_parent_failure=rule, **values)).id


def look(conn: Connection) -> None:
    """Look at all children, as a sweep does."""
    with conn.transaction():
        resolve(conn, find_ripe_edges(conn, limit=10_000).ripe)


def state(conn: Connection, job_id: str) -> str:
    job = get_job(conn, job_id)
    return "blocked" if job.blocked_run_at else str(job.state)


def leased(conn: Connection) -> list[str]:
    lanes = [Lane("default", priority) for priority in (1, 2, 3, 4)]
    return [job.id for job in lease_jobs(conn, worker_id="w", lanes=lanes, types=["test"], limit=9, lease_s=60)]


def test_a_child_is_due_once_all_its_parents_have_completed(conn: Connection, notified: Callable[[], int]) -> None:
    first, second = make_job(conn, "running"), make_job(conn, "running")
    child = child_of(conn, first, second)
    for parent in (first, second):
        look(conn)
        assert (state(conn, child), leased(conn)) == ("blocked", [])
        end(conn, parent)
    notified()
    look(conn)
    assert notified() == 1
    assert leased(conn) == [child]


def test_a_freed_child_keeps_a_later_time_of_its_own_and_is_due_now_at_the_earliest(conn: Connection) -> None:
    parent = make_job(conn, "running")
    early, late = child_of(conn, parent), child_of(conn, parent, delay=timedelta(hours=1))
    assert get_job(conn, early).run_at.year == 9999
    conn.execute("UPDATE _ayb_jobs SET blocked_run_at = blocked_run_at - interval '1 day' WHERE id = %s", (early,))
    end(conn, parent)
    look(conn)
    assert (get_job(conn, early).run_at - get_job(conn, late).run_at).total_seconds() == pytest.approx(-3600, abs=60)


@pytest.mark.parametrize("ending", ["failed", "canceled"])
@pytest.mark.parametrize(("rule", "becomes"), [("cancel", "canceled"), ("run", "queued"), ("hold", "blocked")])
def test_a_parent_that_did_not_complete_does_what_the_rule_says(
    conn: Connection, ending: str, rule: str, becomes: str
) -> None:
    parent, other = make_job(conn, "running"), make_job(conn, "running")
    child = child_of(conn, parent, rule=rule)
    waits_for_both = child_of(conn, other, parent, rule=rule)
    end(conn, parent, ending)
    look(conn)
    assert state(conn, child) == becomes
    assert state(conn, waits_for_both) == ("canceled" if rule == "cancel" else "blocked")
    if rule == "cancel":
        told = f"it depended on job {parent}, which {'failed' if ending == 'failed' else 'was canceled'}"
        assert get_job(conn, child).last_error == told
        assert not any(one.is_open for one in list_family(conn, waits_for_both).parents)


def test_a_held_child_waits_until_its_parent_was_retried_and_completed(conn: Connection) -> None:
    parent = make_job(conn, "failed")
    child = child_of(conn, parent, rule="hold")
    look(conn)
    assert find_blocker(conn, child).words == (
        f"it depends on job {parent}, which failed; it waits until that is retried and completes"
    )
    retry_job(conn, parent)
    look(conn)
    assert state(conn, child) == "blocked"
    assert find_blocker(conn, child).words == f"it depends on job {parent}, which is queued"
    end(conn, parent)
    look(conn)
    assert state(conn, child) == "queued"


def test_an_attempt_that_failed_with_others_left_is_no_end(conn: Connection) -> None:
    parent = make_job(conn, "queued", attempts=1, last_error="it broke")
    child = child_of(conn, parent)
    look(conn)
    assert state(conn, child) == "blocked"


def test_a_retry_after_the_verdict_changes_nothing(conn: Connection) -> None:
    parent = make_job(conn, "failed")
    child = child_of(conn, parent)
    look(conn)
    retry_job(conn, parent)
    end(conn, parent)
    look(conn)
    assert state(conn, child) == "canceled"


def test_a_canceled_child_has_its_own_children_canceled(conn: Connection) -> None:
    parent = make_job(conn, "failed")
    child = child_of(conn, parent)
    grandchild = child_of(conn, child)
    for _ in range(2):
        look(conn)
    assert (state(conn, child), state(conn, grandchild)) == ("canceled", "canceled")


def test_a_child_that_was_canceled_by_hand_is_not_freed(conn: Connection) -> None:
    parent = make_job(conn, "running")
    child = child_of(conn, parent)
    cancel_job(conn, child)
    end(conn, parent)
    look(conn)
    assert state(conn, child) == "canceled"
    assert find_ripe_edges(conn, limit=10).last is None


def test_a_parent_that_is_gone_counts_as_completed(conn: Connection) -> None:
    removed = make_job(conn, "running")
    child = child_of(conn, removed, GONE)
    conn.execute("DELETE FROM _ayb_jobs WHERE id = %s", (removed,))
    look(conn)
    assert state(conn, child) == "queued"
    assert {one.state for one in list_family(conn, child).parents} == {None}


@pytest.mark.parametrize("ending", ["failed", "canceled"])
def test_retention_leaves_a_parent_whose_end_a_child_has_not_seen(conn: Connection, ending: str) -> None:
    old = sql.SQL("now() - interval '9 days'")
    parent = make_job(conn, ending, created_at=old, updated_at=old, canceled_at=old if ending == "canceled" else None)
    child = child_of(conn, parent, rule="cancel")
    prune = partial(prune_jobs, conn, state=JobState(ending), keep=timedelta(days=1))
    assert prune().rows == 0
    look(conn)
    assert state(conn, child) == "canceled"
    assert prune().rows == 1


def test_enqueueing_a_child_waits_for_nobody_and_keeps_no_parent_from_being_settled(
    conn: Connection, database_url: str
) -> None:
    parent = make_job(conn, "running")
    with actors(database_url, 2) as cast:
        play(
            [0, 1, 0],
            cast,
            [
                [begun(lambda one: child_of(one, parent)), commit],
                [lambda other: end(other, parent)],
            ],
        )
    look(conn)
    assert conn.execute("SELECT count(*) FROM _ayb_jobs WHERE run_at <= now() AND state = 'queued'").fetchone() == (1,)


# Each transaction of a resolver, step by step. Without the lock its look is as old as the other's.
def looking(parent: str, *, locks: bool = True) -> list[Step]:
    def edges(conn: Connection) -> dict[str, Any]:
        found = find_edges_of(conn, [parent], limit=10)
        ids = {"children": [edge.child_id for edge in found], "parents": [edge.parent_id for edge in found]}
        return ids | {"patience": "10s"}

    def run(statement: LiteralString, conn: Connection) -> None:
        conn.execute(statement, edges(conn))

    if not locks:
        return [begun(partial(run, dependencies.CLOSE_EDGES)), commit]
    return [begun(partial(run, dependencies.LOCK_CHILDREN)), partial(run, dependencies.CLOSE_EDGES), commit]


def outcomes(
    conn: Connection,
    url: str,
    scripts: Callable[[str, str], Sequence[Sequence[Step]]],
    prepare: Callable[[str, str], Any],
) -> list[str]:
    """Return what became of the child in each interleaving, `freed` or `stuck`."""
    found = []
    with actors(url, 2) as cast:
        lengths = [len(script) for script in scripts(GONE, GONE)]
        for schedule in schedules(lengths):
            conn.execute("TRUNCATE _ayb_jobs, _ayb_job_dependencies CASCADE")
            first, second = make_job(conn, "running"), make_job(conn, "running")
            prepare(first, second)
            play(schedule, cast, scripts(first, second))
            row = conn.execute("SELECT count(*) FROM _ayb_jobs WHERE state = 'queued' AND run_at <= now()").fetchone()
            found.append("freed" if row == (1,) else "stuck")
    return found


def ends(job_id: str) -> Step:
    return lambda conn: end(conn, job_id)


@pytest.mark.parametrize("locks", [True, False], ids=["with the lock", "without"])
def test_two_parents_that_end_at_once_free_their_child_in_every_interleaving(
    conn: Connection, database_url: str, *, locks: bool
) -> None:
    found = outcomes(
        conn,
        database_url,
        lambda first, second: [
            [ends(first), *looking(first, locks=locks)],
            [ends(second), *looking(second, locks=locks)],
        ],
        lambda first, second: child_of(conn, first, second),
    )
    assert (set(found) == {"freed"}) is locks  # without it, each of the two sees the other's edge open


@pytest.mark.parametrize("after_commit", [True, False], ids=["after each commit", "inline"])
def test_a_parent_that_ends_while_its_child_is_enqueued_frees_it_in_every_interleaving(
    conn: Connection, database_url: str, *, after_commit: bool
) -> None:
    def scripts(first: str, _: str) -> list[list[Step]]:
        changes: list[Step] = [lambda one: child_of(one, first), ends(first)]

        def looks(one: Connection) -> None:
            with one.transaction():
                resolve(one, find_edges_of(one, [first], limit=10))

        if after_commit:
            return [[begun(change), commit, looks] for change in changes]
        return [[begun(change), looks, commit] for change in changes]

    found = outcomes(conn, database_url, scripts, lambda *_: None)
    assert (set(found) == {"freed"}) is after_commit  # neither sees what the other has not committed


def _cancel(job_id: str, conn: Connection) -> None:
    cancel_job(conn, job_id)


def test_a_child_that_is_canceled_while_it_is_freed_is_canceled_or_runs(conn: Connection, database_url: str) -> None:
    found = set()
    with actors(database_url, 2) as cast:
        for schedule in schedules([3, 2]):
            conn.execute("TRUNCATE _ayb_jobs, _ayb_job_dependencies CASCADE")
            parent = make_job(conn, "completed")
            child = child_of(conn, parent)
            play(schedule, cast, [looking(parent), [begun(partial(_cancel, child)), commit]])
            found.add((state(conn, child), get_job(conn, child).canceled_at is not None))
            assert find_ripe_edges(conn, limit=10).last is None
    assert found == {("canceled", True)}


def test_many_are_enqueued_at_once_and_a_key_has_one_job(conn: Connection) -> None:
    first, second = make_job(conn), make_job(conn)
    jobs = [
        NewJob(type="plain"),
        NewJob(type="test", depends_on=[first, second, first]),
        NewJob(type="test", depends_on=[second], on_parent_failure="run", idempotency_key="k"),
    ]
    assert enqueue_many(conn, jobs) == 3
    assert enqueue_many(conn, jobs[2:]) == 0
    again = enqueue(conn, jobs[2])
    assert not again.created
    assert [one.id for one in list_family(conn, again.id).parents] == [second]
    assert list_family(conn, second).child_count == 2
    assert [edge.parent_id for edge in find_edges_of(conn, [first], limit=9)] == [first]


def test_plain_sql_makes_a_child_too(conn: Connection, notified: Callable[[], int]) -> None:
    parent = make_job(conn, "completed")
    call = (
        b"SELECT ayb_jobs.ayb_jobs_enqueue('test', depends_on => ARRAY[%s]::uuid[], on_parent_failure => 'run')::text"
    )
    row = conn.execute(call, (parent,)).fetchone()
    assert row is not None
    assert notified() == 1
    assert [one.rule for one in list_family(conn, row[0]).parents] == ["run"]
    look(conn)
    assert leased(conn) == [row[0]]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"depends_on": [GONE], "on_parent_failure": "ignore"}, "on_parent_failure is ignore; it is cancel, run or hold"),
    ({"on_parent_failure": "run"}, "on_parent_failure goes with depends_on"),
    ({"depends_on": [GONE] * 10_001}, "depends_on names 10001 jobs; at most 10000 are allowed"),
]


@pytest.mark.parametrize(("values", "words"), WRONG)
def test_what_makes_no_sense_is_refused_by_python_and_sql_alike(
    conn: Connection, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInput) as by_python:
        NewJob(type="test", **values)
    assert str(by_python.value) == words
    call = """
        SELECT ayb_jobs.ayb_jobs_enqueue(
            'test', depends_on => %(depends_on)s::uuid[], on_parent_failure => %(on_parent_failure)s)
    """
    with pytest.raises(psycopg.errors.InvalidParameterValue) as by_sql:
        conn.execute(call, {"depends_on": None, "on_parent_failure": None, **values})
    assert by_sql.value.diag.message_primary == words
    assert by_sql.value.diag.column_name == by_python.value.field


def test_an_id_that_is_none_and_a_unique_child_are_refused(conn: Connection) -> None:
    for wrong in (["7"], "text", [None]):
        with pytest.raises(InvalidInput, match="depends_on"):
            NewJob(type="test", depends_on=wrong)
    with pytest.raises(InvalidInput, match="give depends_on or a unique key, not both"):
        NewJob(type="test", depends_on=[GONE], unique=Unique(key="k"))
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="not both"):
        conn.execute("SELECT ayb_jobs.ayb_jobs_enqueue('a', unique_key => 'k', depends_on => ARRAY[gen_random_uuid()])")


def test_no_statement_of_a_diamond_of_a_thousand_takes_long(conn: Connection) -> None:
    first = make_job(conn, "completed")
    enqueue_many(conn, [NewJob(type="middle", depends_on=[first]) for _ in range(1000)])
    middle = [row[0] for row in conn.execute("SELECT id::text FROM _ayb_jobs WHERE type = 'middle'")]
    last = child_of(conn, *middle)
    look(conn)
    assert conn.execute("SELECT count(*) FROM _ayb_jobs WHERE run_at <= now() AND type = 'middle'").fetchone() == (
        1000,
    )
    assert state(conn, last) == "blocked"
    for start in range(0, 1000, 100):
        assert state(conn, last) == "blocked"
        for one in middle[start : start + 100]:
            end(conn, one)
        with conn.transaction():
            resolve(conn, [Edge(last, one) for one in middle[start : start + 100]])
    assert state(conn, last) == "queued"

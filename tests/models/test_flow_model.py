"""Limits, keys, pauses and parents on real PostgreSQL against a model of them, under any order of what can happen.

The model knows which jobs may start, as sets of ids and a few numbers. A look must lease exactly as many as it says.
"""

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from ayb_jobs import NewJob, enqueue
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet import limits, pauses
from ayb_jobs.storage.queue.dependencies import find_ripe_edges, resolve
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.limited import find_waiting_limits, lease_beside_limits, lease_limited
from ayb_jobs.storage.queue.put_under import find_removed, find_running_beside, free_removed, put_under
from tests.models.test_queue_model import thoroughness

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

LANES = [Lane("default", priority) for priority in range(1, 5)]
EMPTY = "TRUNCATE _ayb_jobs, _ayb_job_dependencies, _ayb_job_limits, _ayb_job_limit_keys, _ayb_job_pauses CASCADE"
ROWS = "SELECT id::text, state FROM _ayb_jobs"
END = "UPDATE _ayb_jobs SET state = %s, lease_id = NULL, lease_until = NULL, worker_id = NULL, run_at = now() WHERE id = %s"
MOST = st.one_of(st.none(), st.integers(0, 3))
STEPS = 20
RULES = ["cancel", "run"]
NAMES = {PauseKind.QUEUE: "default", PauseKind.TYPE: "test", PauseKind.KEY: "few/a"}


@dataclass
class Row:
    """What the model knows of a job. It may start once it is `ready`: it has no parent that is still looked at."""

    key: str
    parents: list[str]
    rule: str
    state: str = "queued"
    ready: bool = True


@dataclass
class Held:
    """The limit, as the model knows it."""

    most: int | None
    most_of_key: int | None


class Flow(RuleBasedStateMachine):
    """What holds jobs back, and its model."""

    url = ""
    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.conn: Connection = connect(self.url)
        self.conn.execute(EMPTY)
        self.model: dict[str, Row] = {}
        self.held: Held | None = None
        self.paused: set[str] = set()

    def teardown(self) -> None:
        """Close the connection."""
        self.conn.close()

    @rule(target=jobs, key=st.sampled_from("abc"))
    def enqueue(self, key: str) -> str:
        made = enqueue(self.conn, NewJob(type="test", limit_key=key)).id
        self.model[made] = Row(key, [], "cancel")
        return made

    @rule(
        target=jobs,
        key=st.sampled_from("abc"),
        parents=st.lists(jobs, min_size=1, max_size=3),
        on=st.sampled_from(RULES),
    )
    def enqueue_child(self, key: str, parents: list[str], on: str) -> str:
        job = NewJob(type="test", limit_key=key, depends_on=parents, on_parent_failure=on)
        made = enqueue(self.conn, job).id
        self.model[made] = Row(key, parents, on, ready=False)
        return made

    @rule(most=MOST, most_of_key=MOST)
    def set_limit(self, most: int | None, most_of_key: int | None) -> None:
        if most is None and most_of_key is None:
            return
        with self.conn.transaction():
            new = NewLimit(name="few", types=["test"], max_running=most, key_max_running=most_of_key)
            limits.set_limit(self.conn, new, by="ada")
        put_under(self.conn, find_running_beside(self.conn, worker_id="w"))
        self.held = Held(most, most_of_key)

    @rule()
    def remove_limit(self) -> None:
        with self.conn.transaction():
            assert limits.remove_limit(self.conn, "few") == (self.held is not None)
        self.held = None
        self.paused.discard(PauseKind.KEY)
        self._free_removed()

    def _free_removed(self) -> None:
        free_removed(self.conn, find_removed(self.conn, find_waiting_limits(self.conn).removed))

    @rule(kind=st.sampled_from(list(PauseKind)))
    def pause(self, kind: PauseKind) -> None:
        if kind is PauseKind.KEY and self.held is None:
            return
        with self.conn.transaction():
            pauses.pause(self.conn, NewPause(kind=kind, name=NAMES[kind]), by="ada")
        self.paused.add(kind)

    @rule(kind=st.sampled_from(list(PauseKind)))
    def resume(self, kind: PauseKind) -> None:
        with self.conn.transaction():
            pauses.resume(self.conn, kind, NAMES[kind])
        self.paused.discard(kind)

    @rule(room=st.integers(1, 5))
    def lease(self, room: int) -> None:
        expected = self._expected(room)
        self._free_removed()  # as a daemon does, since a job may have been queued again after its limit was removed
        found = lease_beside_limits(
            self.conn, worker_id="w", lanes=LANES, types=["test"], limit=1000, lease_s=60
        ).leased
        if self.held is None:
            assert len(found) == (0 if self.paused else sum(self._waiting().values()))  # no limit, no paused key
        else:
            assert found == []
            full = find_waiting_limits(self.conn, idle=["few"]).full
            assert self._is_full() or not full
            if not self.paused - {PauseKind.KEY}:  # so that all that waits was put under the limit
                assert full == (["few"] if self._is_full() and self._waiting() else [])
            after = ""
            for _ in range(STEPS):
                if len(found) == room:
                    break
                more = lease_limited(
                    self.conn, "few", room=room - len(found), types=["test"], queues=["default"], worker_id="w",
                    lease_s=60, after=after,
                )  # fmt: skip
                after = more.after
                found += more.leased
                if not more.more:
                    break
            assert len(found) == expected
        for job in found:
            row = self.model[job.id]
            assert (row.state, row.ready) == ("queued", True)
            row.state = "running"

    def _waiting(self) -> Counter[str]:
        return Counter(row.key for row in self.model.values() if row.state == "queued" and row.ready)

    def _is_full(self) -> bool:
        """Tell whether the limit, apart from its keys, has no free place."""
        running = sum(row.state == "running" for row in self.model.values())
        return self.held is not None and self.held.most is not None and running >= self.held.most

    def _expected(self, room: int) -> int:
        """Return how many jobs may start under the limit."""
        if self.held is None or self.paused - {PauseKind.KEY}:
            return 0
        running = Counter(row.key for row in self.model.values() if row.state == "running")
        waiting = self._waiting()
        if PauseKind.KEY in self.paused:
            del waiting["a"]
        most_of_key = 1000 if self.held.most_of_key is None else self.held.most_of_key
        of_keys = sum(min(waiting[key], max(0, most_of_key - running[key])) for key in waiting)
        most = 1000 if self.held.most is None else self.held.most
        return min(room, max(0, most - sum(running.values())), of_keys)

    @rule(job=jobs, state=st.sampled_from(["completed", "failed", "canceled", "queued"]))
    def end(self, job: str, state: str) -> None:
        """End an attempt, or lose it."""
        row = self.model[job]
        if row.state == "running":
            self.conn.execute(END, (state, job))
            row.state = state

    @rule()
    def look(self) -> None:
        """Look at all children until there is nothing more to see, as the resolver does."""
        while found := find_ripe_edges(self.conn, limit=1000).ripe:
            with self.conn.transaction():
                resolve(self.conn, found)
        while any(self._resolve(row) for row in self.model.values()):
            pass

    def _resolve(self, row: Row) -> bool:
        """Free or cancel a child in the model; tell whether it was."""
        if row.ready:
            return False
        states = [self.model[parent].state for parent in row.parents]
        if row.rule == "cancel" and {"failed", "canceled"} & set(states):
            row.state, row.ready = "canceled", True
            return True
        row.ready = not {"queued", "running"} & set(states)
        return row.ready

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        assert dict(self.conn.execute(ROWS).fetchall()) == {id_: row.state for id_, row in self.model.items()}


def test_limits_pauses_and_parents_do_as_their_model(database_url: str) -> None:
    flow = type("FlowHere", (Flow,), {"url": database_url})
    run_state_machine_as_test(flow, settings=thoroughness(300, 40))

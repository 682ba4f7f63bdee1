"""Limits, keys, rates, pauses, unique keys and parents on real PostgreSQL against a model, in any order of events.

The model knows which jobs may start, as rows and a few numbers. A look must lease exactly those that it says: by
fairness among the keys, and by priority, time and id within a key. Tokens come back once a day, so never within a run.
"""

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ayb_jobs import Conflict, NewJob, Unique, enqueue
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.model.unique import OnConflict, Scope
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.fleet import limits, pauses
from ayb_jobs.storage.queue.beside_limits import lease_beside_limits
from ayb_jobs.storage.queue.dependencies import find_ripe_edges, resolve
from ayb_jobs.storage.queue.jobs import retry_job
from ayb_jobs.storage.queue.lanes import Lane
from ayb_jobs.storage.queue.limited import find_waiting_limits, lease_limited
from ayb_jobs.storage.queue.put_under import find_removed, find_running_beside, free_removed, put_under
from tests.models.test_queue_model import thoroughness

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

LANES = [Lane("default", priority) for priority in range(1, 5)]
EMPTY = "TRUNCATE _ayb_jobs, _ayb_job_dependencies, _ayb_job_limits, _ayb_job_limit_keys, _ayb_job_pauses CASCADE"
ROWS = "SELECT id::text, state FROM _ayb_jobs"
PLACES = "SELECT id::text, row_number() OVER (ORDER BY (priority - 1) % 4, run_at, id) FROM _ayb_jobs"
END = "UPDATE _ayb_jobs SET state = %s, lease_id = NULL, lease_until = NULL, worker_id = NULL, run_at = now() WHERE id = %s"
MOST = st.one_of(st.none(), st.integers(0, 3))
STEPS = 20
RULES = ["cancel", "run", "hold"]
KEYS = st.sampled_from("abc")
PRIORITIES = st.integers(1, 4)
KEY_BURST = 2
PLENTY = 1000
NAMES = {PauseKind.QUEUE: "default", PauseKind.TYPE: "test", PauseKind.KEY: "few/a"}


@dataclass
class Row:
    """What the model knows of a job. It may start once no parent is left that it waits for.

    It has its `unique` key while it waits or runs, or while it waits for its first lease if it is `unique_waiting`.
    """

    key: str
    parents: set[str] = field(default_factory=set)
    rule: str = "cancel"
    state: str = "queued"
    unique: str | None = None
    unique_waiting: bool = False

    @property
    def ready(self) -> bool:
        """Whether it waits for no parent."""
        return not self.parents

    def lease(self) -> None:
        """Start it."""
        assert (self.state, self.ready) == ("queued", True)
        self.state = "running"
        if self.unique_waiting:
            self.unique = None


@dataclass
class Held:
    """The limit, as the model knows it."""

    most: int | None
    most_of_key: int | None
    burst: int | None
    has_key_rate: bool


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
        self.spent = 0
        self.spent_of_keys: Counter[str] = Counter()
        self.paused: set[str] = set()

    def teardown(self) -> None:
        """Close the connection."""
        self.conn.close()

    @rule(target=jobs, key=KEYS, priority=PRIORITIES)
    def enqueue(self, key: str, priority: int) -> str:
        return self._enqueue(key, priority)

    def _enqueue(self, key: str, priority: int) -> str:
        made = enqueue(self.conn, NewJob(type="test", limit_key=key, priority=priority)).id
        self.model[made] = Row(key)
        return made

    @rule(target=jobs, keys=st.lists(KEYS, min_size=4, max_size=9), priority=PRIORITIES)
    def enqueue_some(self, keys: list[str], priority: int) -> MultipleResults[str]:
        """Enqueue more than one look takes, so that it has to choose."""
        return multiple(*(self._enqueue(key, priority) for key in keys))

    @rule(
        target=jobs,
        key=KEYS,
        parents=st.lists(jobs, min_size=1, max_size=3),
        on=st.sampled_from(RULES),
        priority=PRIORITIES,
    )
    def enqueue_child(self, key: str, parents: list[str], on: str, priority: int) -> str:
        job = NewJob(type="test", limit_key=key, depends_on=parents, on_parent_failure=on, priority=priority)
        made = enqueue(self.conn, job).id
        self.model[made] = Row(key, set(parents), on)
        return made

    @rule(
        target=jobs,
        key=KEYS,
        name=st.sampled_from("xy"),
        answer=st.sampled_from(["return", "reject", "replace", "debounce"]),
        scope=st.sampled_from(["waiting", "unfinished"]),
        priority=PRIORITIES,
    )
    def enqueue_unique(self, key: str, name: str, answer: OnConflict, scope: Scope, priority: int) -> str:
        """Enqueue a job with a unique key; whoever holds it is the answer, unless that is refused."""
        replaces = answer in {"replace", "debounce"}
        unique = Unique(key=name, scope="waiting" if replaces else scope, on_conflict=answer)
        delay = timedelta(0) if answer == "debounce" else None
        job = NewJob(type="test", payload={"k": key}, unique=unique, priority=priority, delay=delay)
        holder = self._holder(name)
        row = Row(key, unique=name, unique_waiting=unique.scope == "waiting")
        if holder is None:
            made = enqueue(self.conn, job)
            assert made.created
            self.model[made.id] = row
            return made.id
        if answer == "reject" or (replaces and self.model[holder].state == "running"):
            with pytest.raises(Conflict, match=holder):
                enqueue(self.conn, job)
            return holder
        assert enqueue(self.conn, job) == (holder, False)
        if replaces:
            self.model[holder] = row
        return holder

    def _holder(self, name: str) -> str | None:
        holding = {"queued", "running"}
        return next((id_ for id_, row in self.model.items() if row.unique == name and row.state in holding), None)

    @rule(job=jobs)
    def retry(self, job: str) -> None:
        row = self.model[job]
        if row.state != "failed":
            return
        if row.unique is not None and (twin := self._holder(row.unique)):
            with pytest.raises(Conflict, match=twin):
                retry_job(self.conn, job)
            return
        retry_job(self.conn, job)
        row.state = "queued"

    @initialize(target=jobs, most=st.one_of(st.none(), st.integers(2, 5)), keys=st.lists(KEYS, min_size=6, max_size=12))
    def begin_limited(self, most: int | None, keys: list[str]) -> MultipleResults[str]:
        """Begin with a limit, and with more jobs than one look takes, so that it has to choose."""
        self._set_limit(Held(most, 3, None, has_key_rate=False))
        return multiple(*(self._enqueue(key, 1 + number % 4) for number, key in enumerate(keys)))

    @rule(most=MOST, most_of_key=MOST, burst=st.one_of(st.none(), st.integers(1, 4)), has_key_rate=st.booleans())
    def set_limit(self, most: int | None, most_of_key: int | None, burst: int | None, *, has_key_rate: bool) -> None:
        held = Held(most, most_of_key, burst, has_key_rate)
        if held != Held(None, None, None, has_key_rate=False):
            self._set_limit(held)

    def _set_limit(self, held: Held) -> None:
        with self.conn.transaction():
            new = NewLimit(
                name="few", types=["test"], key_field="k", max_running=held.most, key_max_running=held.most_of_key,
                rate="1/d" if held.burst else None, burst=held.burst or 1,
                key_rate="1/d" if held.has_key_rate else None, key_burst=KEY_BURST if held.has_key_rate else 1,
            )  # fmt: skip
            limits.set_limit(self.conn, new, by="ada")
        put_under(self.conn, find_running_beside(self.conn, worker_id="w"))
        self.held = held
        self.spent = min(self.spent, held.burst or 0)

    @precondition(lambda self: self.held is not None)
    @rule()
    def remove_limit(self) -> None:
        with self.conn.transaction():
            assert limits.remove_limit(self.conn, "few") == (self.held is not None)
        self.held, self.spent = None, 0
        self.spent_of_keys.clear()
        self.paused.discard(PauseKind.KEY)
        self._free_removed()

    def _free_removed(self) -> None:
        free_removed(self.conn, find_removed(self.conn, find_waiting_limits(self.conn).removed))

    @rule(kind=st.sampled_from(list(PauseKind)), held=st.booleans())
    def pause(self, kind: PauseKind, *, held: bool) -> None:
        """Pause something, or resume it."""
        if kind is PauseKind.KEY and self.held is None:
            return
        with self.conn.transaction():
            if held:
                pauses.pause(self.conn, NewPause(kind=kind, name=NAMES[kind]), by="ada")
            else:
                pauses.resume(self.conn, kind, NAMES[kind])
        (self.paused.add if held else self.paused.discard)(kind)

    @rule()
    def lease_one(self) -> None:
        self._lease(1)

    @rule(room=st.integers(2, 3))
    def lease_few(self, room: int) -> None:
        self._lease(room)

    @rule(room=st.integers(4, 6))
    def lease_more(self, room: int) -> None:
        self._lease(room)

    def _lease(self, room: int) -> None:
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
            assert len(self._lease_limited(room)) == expected
            return
        for job in found:
            self.model[job.id].lease()

    def _lease_limited(self, room: int) -> list[str]:
        """Lease under the limit until nothing more can start, each time what the model says, and return it."""
        found: list[str] = []
        after = ""
        for _ in range(STEPS):
            if len(found) == room:
                break
            expected = self._chosen(room - len(found), after)
            more = lease_limited(
                self.conn, "few", room=room - len(found), types=["test"], queues=["default"], worker_id="w",
                lease_s=60, after=after,
            )  # fmt: skip
            after = more.after
            assert {job.id for job in more.leased} == set(expected)
            for job_id in expected:
                row = self.model[job_id]
                row.lease()
                self.spent += self.held is not None and self.held.burst is not None
                self.spent_of_keys[row.key] += self.held is not None and self.held.has_key_rate
            found += expected
            if not more.more:
                break
        return found

    def _chosen(self, room: int, after: str) -> list[str]:
        """Return what the next look leases: first of those keys of which the fewest run, in a circle below `after`."""
        free = self._free_of_keys()
        spare = min(room, self._free())
        if not free or spare <= 0:
            return []
        each = math.ceil(2 * spare / len(free))
        place: dict[str, int] = dict(self.conn.execute(PLACES).fetchall())
        running = Counter(row.key for row in self.model.values() if row.state == "running")
        turns = []
        for number, key in enumerate(sorted(sorted(free, reverse=True), key=lambda key: key >= after)):
            of_key = [id_ for id_, row in self.model.items() if row.state == "queued" and row.ready and row.key == key]
            first = sorted(of_key, key=lambda id_: place[id_])[: min(free[key], spare, each)]
            turns += [(running[key] + rank, number, id_) for rank, id_ in enumerate(first)]
        return [id_ for _, _, id_ in sorted(turns)[:spare]]

    def _waiting(self) -> Counter[str]:
        return Counter(row.key for row in self.model.values() if row.state == "queued" and row.ready)

    def _free(self) -> int:
        """Return how many jobs may start under the limit, apart from its keys."""
        if self.held is None or self.paused - {PauseKind.KEY}:
            return 0
        running = sum(row.state == "running" for row in self.model.values())
        places = PLENTY if self.held.most is None else max(0, self.held.most - running)
        tokens = PLENTY if self.held.burst is None else self.held.burst - self.spent
        return min(places, tokens)

    def _free_of_keys(self) -> dict[str, int]:
        """Return how many jobs of each key may start, of those keys of which any may."""
        assert self.held is not None
        running = Counter(row.key for row in self.model.values() if row.state == "running")
        free = {}
        for key in self._waiting():
            places = PLENTY if self.held.most_of_key is None else self.held.most_of_key - running[key]
            tokens = KEY_BURST - self.spent_of_keys[key] if self.held.has_key_rate else PLENTY
            if min(places, tokens) > 0 and not (key == "a" and PauseKind.KEY in self.paused):
                free[key] = min(places, tokens)
        return free

    def _is_full(self) -> bool:
        """Tell whether the limit, apart from its keys, has no free place or no token."""
        if self.held is None:
            return False
        running = sum(row.state == "running" for row in self.model.values())
        has_place = self.held.most is None or running < self.held.most
        return not has_place or (self.held.burst is not None and self.spent >= self.held.burst)

    def _expected(self, room: int) -> int:
        """Return how many jobs may start under the limit."""
        if self._free() == 0:
            return 0
        waiting = self._waiting()
        return min(room, self._free(), sum(min(waiting[key], free) for key, free in self._free_of_keys().items()))

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
        while sum(self._resolve(row) for row in self.model.values()):
            pass

    def _resolve(self, row: Row) -> bool:
        """Let a child's parents go in the model, or cancel it; tell whether anything changed."""
        if row.state != "queued":
            row.parents.clear()
        ends = {"completed", "failed", "canceled"} if row.rule == "run" else {"completed"}
        ended = {parent for parent in row.parents if self.model[parent].state in ends}
        if row.rule == "cancel" and any(self.model[parent].state in {"failed", "canceled"} for parent in row.parents):
            row.state = "canceled"
            row.parents.clear()
            return True
        row.parents -= ended
        return bool(ended)

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        assert dict(self.conn.execute(ROWS).fetchall()) == {id_: row.state for id_, row in self.model.items()}


def test_limits_pauses_and_parents_do_as_their_model(database_url: str) -> None:
    flow = type("FlowHere", (Flow,), {"url": database_url})
    run_state_machine_as_test(flow, settings=thoroughness(300, 40))

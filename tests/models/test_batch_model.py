"""Batches on real PostgreSQL against a model of them, under any order of what makers, workers and operators may do."""

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from ayb_jobs.client.batches import Batch
from ayb_jobs.client.steps import open_batch
from ayb_jobs.client.sync_drivers import Psycopg, run
from ayb_jobs.errors import Conflict
from ayb_jobs.model.batches import NewBatch
from ayb_jobs.model.new_job import NewJob
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.queue.batch_views import cancel_batch, get_batch
from ayb_jobs.storage.queue.batches import close_batches, find_sealed, look_at_batches
from ayb_jobs.storage.queue.jobs import retry_job
from tests.models.test_queue_model import thoroughness

CALLBACKS = NewBatch(on_success=NewJob(type="called"), on_failure=NewJob(type="called"), on_done=NewJob(type="called"))
CALLED = """
    SELECT payload #>> '{batch,id}', payload #>> '{batch,event}', (payload #>> '{batch,total}')::int
    FROM _ayb_jobs WHERE type = 'called'
"""
UNFINISHED = {"queued", "running"}


@dataclass
class Made:
    """What the model knows of a batch."""

    members: dict[str, str] = field(default_factory=dict)
    sealed: bool = False
    canceled: bool = False
    called: set[tuple[str, int]] = field(default_factory=set)

    def look(self) -> None:
        """End it if it is to end."""
        states = Counter(self.members.values())
        if self.sealed and not self.called and not states.keys() & UNFINISHED:
            event = "failure" if self.canceled or set(states) - {"completed"} else "success"
            self.called = {("done", states.total()), (event, states.total())}


class Batches(RuleBasedStateMachine):
    """Batches and their model."""

    url = ""
    batches = Bundle("batches")

    def __init__(self) -> None:
        super().__init__()
        self.conn: Connection = connect(self.url)
        self.conn.execute("TRUNCATE _ayb_jobs, _ayb_job_batches, _ayb_job_batch_callbacks CASCADE")
        self.model: dict[str, Made] = {}
        self.witnesses: dict[str, str] = {}

    def teardown(self) -> None:
        """Close the connection."""
        self.conn.close()

    @rule(target=batches)
    def open(self) -> str:
        made = run(open_batch(CALLBACKS), Psycopg(self.conn).fetch)
        self.model[made] = Made()
        return made

    @rule(batch_id=batches, many=st.booleans())
    def add(self, batch_id: str, *, many: bool) -> None:
        made = self.model[batch_id]
        before = set(made.members)
        batch = Batch(self.conn, batch_id)
        try:
            added = batch.enqueue_many([NewJob(type="test")] * 2) if many else batch.enqueue(NewJob(type="test"))
        except Conflict:
            assert made.called or made.canceled
            return
        assert added
        assert not made.called
        assert not made.canceled
        found = self.conn.execute("SELECT id::text FROM _ayb_jobs WHERE batch_id = %s", (batch_id,))
        made.members |= {row[0]: "queued" for row in found if row[0] not in before}
        assert len(made.members) == len(before) + 1 + many

    @rule(
        batch_id=batches,
        which=st.integers(0, 20),
        state=st.sampled_from(["running", "completed", "failed", "canceled"]),
    )
    def change(self, batch_id: str, which: int, state: str) -> None:
        made = self.model[batch_id]
        unfinished = sorted(job for job, was in made.members.items() if was in UNFINISHED)
        if unfinished:
            job = unfinished[which % len(unfinished)]
            self.conn.execute("UPDATE _ayb_jobs SET state = %s WHERE id = %s", (state, job))
            made.members[job] = state

    @rule(batch_id=batches)
    def retry(self, batch_id: str) -> None:
        made = self.model[batch_id]
        for job in [job for job, state in made.members.items() if state == "failed"][:1]:
            retry_job(self.conn, job)
            made.members[job] = "queued"

    @rule(batch_id=batches)
    def seal(self, batch_id: str) -> None:
        Batch(self.conn, batch_id).seal()
        self.model[batch_id].sealed = True

    @rule(batch_id=batches)
    def cancel(self, batch_id: str) -> None:
        made = self.model[batch_id]
        try:
            cancel_batch(self.conn, batch_id)
        except Conflict:
            assert made.called
        else:
            assert not made.called
            made.sealed = made.canceled = True

    @rule(by_sweep=st.booleans())
    def look(self, *, by_sweep: bool) -> None:
        asked = find_sealed(self.conn, limit=100) if by_sweep else list(self.model)
        seen = look_at_batches(self.conn, [(id_, self.witnesses.get(id_)) for id_ in asked])
        self.witnesses = {each.id: each.witness for each in seen if each.witness is not None}
        for each in seen:
            assert (each.witness is None) == (not UNFINISHED & set(self.model[each.id].members.values()))
        with self.conn.transaction():
            close_batches(self.conn, [each.id for each in seen if each.witness is None])
        for made in self.model.values():
            made.look()

    @invariant()
    def each_batch_has_called_what_the_model_says_and_nothing_twice(self) -> None:
        called = self.conn.execute(CALLED).fetchall()
        assert sorted(called) == sorted(
            (batch_id, *call) for batch_id, made in self.model.items() for call in made.called
        )

    @invariant()
    def each_batch_shows_how_far_it_is(self) -> None:
        for batch_id, made in self.model.items():
            batch = get_batch(self.conn, batch_id)
            assert (batch.done_at is not None, batch.sealed_at is not None) == (bool(made.called), made.sealed)
            if not made.called:
                assert batch.total == len(made.members)
                assert batch.failed == sum(state == "failed" for state in made.members.values())


@pytest.fixture
def batches(database_url: str) -> type[Batches]:
    return type("BatchesHere", (Batches,), {"url": database_url})


def test_batches_do_as_their_model(batches: type[Batches]) -> None:
    run_state_machine_as_test(batches, settings=thoroughness(25, 30))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_batches_do_as_their_model_at_length(batches: type[Batches]) -> None:
    run_state_machine_as_test(batches, settings=thoroughness(500, 50))

"""What is counted, and how it is served."""

import time
from contextlib import closing
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from psycopg.sql import SQL

from ayb_jobs import events
from ayb_jobs.checks.loops import LoopAge
from ayb_jobs.http.routes import metrics
from ayb_jobs.metrics import CATALOGUE, MOST_QUEUES, MOST_TYPES, Kind, Metrics, first_sqlstate
from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.batches import EndedBatch
from ayb_jobs.model.job import JobState, LeasedJob, RecoveredJob
from ayb_jobs.model.lifecycle import Outcome, Settlement
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection, Timeouts
from ayb_jobs.storage.fleet.limits import set_limit
from ayb_jobs.storage.fleet.pauses import pause
from ayb_jobs.storage.queue import gauges
from tests.factories import make_job
from tests.http.conftest import Server, serving


def leased(job_type: str = "t", run_at: str = "2026-01-01 00:00:00+00") -> LeasedJob:
    values: dict[str, Any] = dict.fromkeys(LeasedJob._fields)
    return LeasedJob(**(values | {"id": "1", "lease_id": "2", "type": job_type, "run_at_text": run_at}))


def ending(outcome: Outcome, state: JobState, seconds: float = 0.2, records: int | None = None) -> Settlement:
    values: dict[str, Any] = dict.fromkeys(Settlement._fields)
    values |= {"job": leased(), "outcome": outcome, "state": state, "records": records, "started": 1.0}
    return Settlement(**(values | {"ended": 1.0 + seconds}))


def settled(*endings: Settlement) -> events.JobsSettled:
    return events.JobsSettled(settlements=endings, now=2.0)


def value(server: Server, name: str, **labels: str) -> float | None:
    with server.client(None) as client:
        families = text_string_to_metric_families(client.get("/metrics").text)
    found = [one.value for family in families for one in family.samples if one.name == name and one.labels == labels]
    return found[0] if found else None


@pytest.mark.parametrize(
    ("event", "name", "labels", "count"),
    [
        (events.JobsLeased(jobs=[leased()] * 3), "leased", {"job_type": "t"}, 3),
        (ActionTaken(actor="a", action="x", target=None, enqueued={"t": 2}), "enqueued", {"source": "api"}, 2),
        (settled(*[ending(Outcome.COMPLETED, JobState.COMPLETED)] * 3), "completed", {"job_type": "t"}, 3),
        (settled(ending(Outcome.COMPLETED, JobState.COMPLETED, records=9)), "records_processed", {"job_type": "t"}, 9),
        (
            settled(ending(Outcome.TIMED_OUT, JobState.FAILED)),
            "failed",
            {"job_type": "t", "reason": "timed_out"},
            1,
        ),
        (settled(ending(Outcome.FAILED, JobState.QUEUED)), "retried", {"job_type": "t", "reason": "failed"}, 1),
        (settled(ending(Outcome.SNOOZED, JobState.QUEUED)), "snoozed", {"job_type": "t"}, 1),
        (settled(ending(Outcome.CANCELED, JobState.CANCELED)), "canceled", {"job_type": "t"}, 1),
        (events.LeasesLost(job_ids=["1", "2"], during="settle"), "stale_settles_refused", {"during": "settle"}, 2),
        (events.JobsReleased(job_ids=["1"]), "released", {}, 1),
        (events.JobsCanceled(job_ids=["1"]), "canceled", {"job_type": ""}, 1),
        (
            events.JobRecovered(job=RecoveredJob(id="1", type="t", state="queued", attempts=1, crashes=1, error="")),
            "recovered",
            {"state": "queued"},
            1,
        ),
        (
            events.JobRecovered(job=RecoveredJob(id="1", type="t", state="failed", attempts=1, crashes=1, error="")),
            "failed",
            {"job_type": "t", "reason": "lost"},
            1,
        ),
        (events.JobOverran(job=leased(), timeout_s=1, abandoned=False), "overran", {"job_type": "t"}, 1),
        (
            events.EventLoopBlocked(job=leased(), name="task", where="jobs.py:7 in send", seconds=0.12),
            "event_loop_blocked",
            {"job_type": "t"},
            1,
        ),
        (events.ChildrenResolved(freed=["a", "b"], canceled=[]), "children_resolved", {"outcome": "freed"}, 2),
        (events.BatchesDone(batches=[EndedBatch("a", 1, 0, 0)]), "batches_done", {"outcome": "succeeded"}, 1),
        (events.RowsPruned(table="_ayb_jobs", rows=12), "rows_pruned", {"table": "_ayb_jobs"}, 12),
        (events.LoopFailed(loop="producer", error=OSError(), retry_s=1), "loop_failures", {"loop": "producer"}, 1),
        (events.LoopErrorRepeated(loop="producer", error=OSError()), "loop_failures", {"loop": "producer"}, 1),
        (events.RequestFailed(request="GET /", error=OSError()), "api_errors", {}, 1),
        (events.ApiFailed(error=OSError()), "api_failures", {}, 1),
    ],
)
def test_each_event_is_counted(
    server: Server, event: events.Event, name: str, labels: dict[str, str], count: int
) -> None:
    for _ in range(2):
        server.services.events.emit(event)
    assert value(server, f"ayb_jobs_{name}_total", **labels) == 2 * count


def test_run_times_and_waits_are_histograms_in_seconds(server: Server) -> None:
    now = time.time()
    due = time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime(now - 20))
    server.services.events.emit(events.JobsLeased(jobs=[leased(run_at=due)] * 1000))
    completed = [ending(Outcome.COMPLETED, JobState.COMPLETED, seconds) for seconds in (0.002, 0.2, 7200.0)]
    server.services.events.emit(settled(*completed))
    run, wait = "ayb_jobs_run_duration_seconds", "ayb_jobs_queue_wait_seconds"
    counts = {
        le: value(server, f"{run}_bucket", job_type="t", le=le) for le in ("0.001", "0.005", "0.5", "3600.0", "+Inf")
    }
    assert counts == {"0.001": 0, "0.005": 1, "0.5": 2, "3600.0": 2, "+Inf": 3}
    assert value(server, f"{run}_count", job_type="t") == 3
    assert value(server, f"{run}_sum", job_type="t") == pytest.approx(7200.202)
    assert value(server, f"{wait}_count", job_type="t") == 1000
    assert value(server, f"{wait}_bucket", job_type="t", le="10.0") == 0
    assert value(server, f"{wait}_bucket", job_type="t", le="300.0") == 1000


def test_limits_and_pauses_are_measured_in_the_database(db: Database, conn: Connection) -> None:
    with conn.transaction():
        set_limit(conn, NewLimit(name="few", types=["test"], rate="1/h", burst=7, max_running=3), by="ada")
        set_limit(conn, NewLimit(name="free", types=["other"], max_running=3), by="ada")
        pause(conn, NewPause(kind=PauseKind.QUEUE, name="slow"), by="ada")
    conn.execute("UPDATE _ayb_job_pauses SET paused_at = now() - interval '100 seconds'")
    conn.execute("UPDATE _ayb_job_limits SET tat = now() + 2 * every WHERE name = 'few'")
    for state in ("queued", "queued", "running"):
        make_job(conn, state, limited_by="few", limited_key="", priority=6)
    with serving(db) as server:
        assert value(server, "ayb_jobs_limit_waiting", limit="few") == 2
        assert value(server, "ayb_jobs_limit_running", limit="few") == 1
        assert value(server, "ayb_jobs_limit_tokens", limit="few") == 5
        assert value(server, "ayb_jobs_limit_tokens", limit="free") is None
        assert (value(server, "ayb_jobs_paused", kind="queue"), value(server, "ayb_jobs_paused", kind="type")) == (1, 0)
        longest = value(server, "ayb_jobs_longest_pause_seconds", kind="queue")
        assert longest is not None
        assert 100 <= longest < 200
        assert value(server, "ayb_jobs_longest_pause_seconds", kind="type") == 0


def test_the_queue_is_measured_in_the_database(db: Database, conn: Connection) -> None:
    for _ in range(3):
        make_job(conn, run_at=SQL("now() - interval '100 seconds'"))
    make_job(conn, queue="slow", run_at=SQL("now() + interval '1 hour'"))
    make_job(conn, "running", lease_until=SQL("now() - interval '50 seconds'"))
    with serving(db, loops=lambda: [LoopAge("producer", 1.5, 10)], slots=lambda: {"busy": 2, "idle": 1}) as server:
        assert value(server, "ayb_jobs_queue_depth", queue="default") == 3
        assert value(server, "ayb_jobs_queue_depth", queue="slow") == 1
        assert value(server, "ayb_jobs_running") == 1
        oldest = value(server, "ayb_jobs_oldest_ready_age_seconds")
        expired = value(server, "ayb_jobs_oldest_expired_lease_age_seconds")
        assert oldest is not None
        assert expired is not None
        assert 100 <= oldest < 200
        assert 50 <= expired < 150
        assert value(server, "ayb_jobs_database_up") == 1
        assert value(server, "ayb_jobs_loop_age_seconds", loop="producer") == 1.5
        assert value(server, "ayb_jobs_slots", state="busy") == 2


def test_a_database_that_does_not_answer_in_time_is_told_and_stops_no_scrape(server: Server, conn: Connection) -> None:
    with conn.transaction():
        conn.execute("LOCK TABLE _ayb_jobs IN ACCESS EXCLUSIVE MODE")
        assert value(server, "ayb_jobs_database_up") == 0
        assert value(server, "ayb_jobs_running") is None


def test_scrapes_ask_the_database_at_most_every_five_seconds(server: Server, conn: Connection) -> None:
    assert value(server, "ayb_jobs_running") == 0
    make_job(conn, "running")
    assert value(server, "ayb_jobs_running") == 0


def test_an_unreachable_database_stops_no_scrape() -> None:
    gone = Database("postgresql://127.0.0.1:1/none", timeouts=Timeouts(connect_s=0.5))
    with closing(gone), serving(gone) as server:
        assert value(server, "ayb_jobs_database_up") == 0


def test_job_types_beyond_a_number_share_a_label(server: Server) -> None:
    for number in range(MOST_TYPES + 50):
        server.services.events.emit(events.JobsLeased(jobs=[leased(f"type{number}")]))
    assert value(server, "ayb_jobs_leased_total", job_type="other") == 50


def test_types_that_nobody_here_knows_are_summed_and_leave_labels_to_those_that_run(server: Server) -> None:
    strangers = {f"stranger{number}": 2 for number in range(MOST_TYPES + 50)}
    server.services.events.emit(events.JobsUnclaimable(counts=strangers))
    server.services.events.emit(events.JobsLeased(jobs=[leased("mine")]))
    assert value(server, "ayb_jobs_unclaimable", job_type="other") == 100
    assert value(server, "ayb_jobs_leased_total", job_type="mine") == 1


def test_queues_beyond_a_number_share_a_label_and_our_own_do_not(db: Database, conn: Connection) -> None:
    conn.execute(
        "INSERT INTO _ayb_jobs (type, queue) SELECT 't', 'q' || i FROM generate_series(1, 300) AS i, (VALUES (1), (2)) AS v"
    )
    make_job(conn)
    with serving(db) as server:
        assert value(server, "ayb_jobs_queue_depth", queue="default") == 1
        assert value(server, "ayb_jobs_queue_depth", queue="other") == 2 * (300 - (MOST_QUEUES - 1))
        with server.client(None) as client:
            assert client.get("/metrics").text.count("ayb_jobs_queue_depth{") == MOST_QUEUES + 1


def test_a_depth_that_was_not_counted_whole_is_marked(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        make_job(conn)
    for most, depth, is_cut in ((2, 2, 1), (4, 3, 0)):
        monkeypatch.setattr(gauges, "COUNTED", most)
        with serving(db) as server:
            assert value(server, "ayb_jobs_queue_depth", queue="default") == depth
            assert value(server, "ayb_jobs_queue_depth_cut") == is_cut


def test_a_queue_that_is_served_later_has_a_label_of_its_own_too(
    db: Database, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "GAUGES_FRESH_S", 0.0)
    conn.execute(
        "INSERT INTO _ayb_jobs (type, queue) SELECT 't', 'q' || i FROM generate_series(1, 300) AS i, (VALUES (1), (2)) AS v"
    )
    make_job(conn, queue="added")
    served = ["default"]
    with serving(db, served=lambda: served) as server:
        assert value(server, "ayb_jobs_queue_depth", queue="added") is None
        served.append("added")
        assert value(server, "ayb_jobs_queue_depth", queue="added") == 1


def test_hostile_names_do_not_break_the_format(server: Server) -> None:
    name = 'a"b\\c\nd{}=,é'
    server.services.events.emit(events.JobsLeased(jobs=[leased(name)]))
    assert value(server, "ayb_jobs_leased_total", job_type=name) == 1


def test_openmetrics_is_served_to_whoever_prefers_it(shared_client: httpx.Client) -> None:
    answer = shared_client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    served = {family.name for family in openmetrics.text_string_to_metric_families(answer.text)}  # type: ignore[no-untyped-call] # it has no types
    assert served >= {name for name, metric in CATALOGUE.items() if metric.kind is not Kind.HISTOGRAM}
    assert "process_resident_memory_bytes" in served


def test_a_database_error_is_counted_by_its_class(db: Database) -> None:
    metrics = Metrics()
    for statement in ("SELECT 1/0", "SELECT * FROM nowhere"):
        try:
            with db.connection() as conn:
                conn.execute(statement.encode())
        except Exception as error:
            metrics(events.LoopFailed(loop="producer", error=RuntimeError("wrapped"), retry_s=1))
            wrapped = RuntimeError("wrapped")
            wrapped.__cause__ = error
            metrics(events.LoopErrorRepeated(loop="producer", error=wrapped))
    assert metrics.snapshot().numbers["ayb_jobs_database_errors"] == {("22",): 1, ("42",): 1}
    assert first_sqlstate(OSError()) is None


def test_every_counter_that_is_counted_is_in_the_catalogue(server: Server) -> None:
    server.services.events.emit(events.JobsLeased(jobs=[leased()]))
    server.services.events.emit(settled(ending(Outcome.FAILED, JobState.FAILED)))
    snapshot = server.services.metrics.snapshot()
    assert {*snapshot.numbers, *snapshot.histograms} <= set(CATALOGUE)
    for name, labelled in snapshot.numbers.items():
        assert all(len(labels) == len(CATALOGUE[name].labels) for labels in labelled)

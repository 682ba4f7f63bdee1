import fcntl
import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast, get_args

import pytest

from ayb_jobs import events
from ayb_jobs.config import Log
from ayb_jobs.logs import LINES, Logs, LogSubscriber, configure_logging
from ayb_jobs.logs.reference import table
from ayb_jobs.logs.sink import MOST_WAITING
from ayb_jobs.logs.subscriber import MOST_FAILURES, MOST_SUCCESSES
from ayb_jobs.logs.wording import event_line
from ayb_jobs.model.actions import ActionTaken
from ayb_jobs.model.batches import EndedBatch
from ayb_jobs.model.job import JobState, LeasedJob, RecoveredJob
from ayb_jobs.model.lifecycle import Outcome, Settlement
from ayb_jobs.model.schedules.fires import Advance, DueSchedule, Fire, FireOutcome
from ayb_jobs.redact import Redactor, passwords, redact
from tests.eventually import eventually

Entry = dict[str, Any]


def job(number: int = 1, **fields: Any) -> LeasedJob:
    usual = {"id": f"job-{number}", "type": "send_mail", "attempt": 1, "max_attempts": 3}
    return LeasedJob(**cast("Any", dict.fromkeys(LeasedJob._fields) | usual | fields))


def ending(outcome: Outcome, state: JobState, number: int = 1, **fields: Any) -> Settlement:
    usual = {"job": job(number), "state": state, "outcome": outcome, "started": 10.0, "ended": 10.25}
    return Settlement(**cast("Any", dict.fromkeys(Settlement._fields) | usual | fields))


def settled(*endings: Settlement) -> events.JobsSettled:
    return events.JobsSettled(settlements=endings, now=11.0)


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def advance(*outcomes: FireOutcome) -> Advance:
    usual = dict.fromkeys(field.name for field in fields(DueSchedule)) | {"name": "nightly"}
    fires = [Fire(NOON, outcome, None if outcome.makes_job else "still running") for outcome in outcomes]
    return Advance(schedule=DueSchedule(**cast("Any", usual)), fires=fires, next_at=NOON, cancels_running=False)


COMPLETED = ending(Outcome.COMPLETED, JobState.COMPLETED)
RETRIED = ending(Outcome.FAILED, JobState.QUEUED, delay_s=5.0, error="ValueError: no")

# One value of each event class there is, and the line it leads to.
EXAMPLES: Sequence[tuple[events.Event, str]] = [
    (events.JobsLeased(jobs=[job()]), "jobs.leased"),
    (settled(COMPLETED), "job.completed"),
    (events.LeasesLost(job_ids=["a"], during="settle"), "lease.lost"),
    (events.SettlementRefused(job=job(), error=OSError("no")), "settlement.refused"),
    (events.SettlementsTakenUp(job_ids=["1"]), "settlements.taken_up"),
    (events.RowsTakenUp(table="_ayb_jobs", row_ids=["1"]), "rows.taken_up"),
    (events.RowsPrunable(table="failed jobs"), "rows.prunable"),
    (events.JobsCanceled(job_ids=["a"]), "jobs.canceled"),
    (events.JobsReleased(job_ids=["a"]), "jobs.released"),
    (
        events.JobRecovered(job=RecoveredJob(id="a", type="t", state="queued", attempts=1, crashes=1, error="lost")),
        "job.recovered",
    ),
    (events.ChildrenResolved(freed=["a"], canceled=["b"]), "jobs.canceled_with_parent"),
    (events.BatchesDone(batches=[EndedBatch("a", 1, 1, 0)]), "batches.failed"),
    (events.JobOverran(job=job(), timeout_s=1.0, abandoned=False), "job.overran"),
    (events.JobOverran(job=job(), timeout_s=1.0, abandoned=True), "job.abandoned"),
    (events.EventLoopBlocked(job=job(), name="task", where="jobs.py:7 in send", seconds=0.12), "event_loop.blocked"),
    (events.RowsPruned(table="_ayb_jobs", rows=5), "rows.pruned"),
    (events.JobsUnclaimable(counts={"unknown": 3}), "jobs.unclaimable"),
    (events.LoopFailed(loop="producer", error=OSError("gone"), retry_s=1.0), "loop.failed"),
    (events.LoopRecovered(loop="producer", failures=2), "loop.recovered"),
    (events.LoopErrorRepeated(loop="producer", error=OSError("gone")), "loop.failed_again"),
    (events.RowsUnprunable(table="completed jobs", rows=3, error=OSError("no")), "rows.unprunable"),
    (events.RetentionDeferred(state="completed", kept_h=720, begins_in_s=3600.0), "retention.deferred"),
    (
        events.RowsSetAside(part="recoverer", table="_ayb_jobs", row_ids=["1"], error="no", retry_s=60.0),
        "row.set_aside",
    ),
    (events.AsideFull(part="recoverer", table="_ayb_jobs", most=10_000), "rows.aside_full"),
    (events.NotificationsAvailable(), "notify.available"),
    (events.NotificationsUnavailable(reason="a pooler"), "notify.unavailable"),
    (events.TracingUnavailable(reason="no such package"), "tracing.unavailable"),
    (
        events.DaemonStarted(worker_id="w", concurrency=4, job_types=["t"], queues=["default"], scheduler=True),
        "daemon.started",
    ),
    (events.DaemonDisabled(), "daemon.disabled"),
    (events.DaemonDraining(reason="SIGUSR1", running=1), "daemon.draining"),
    (events.DaemonReloaded(changed={"log.level": "debug"}), "daemon.reloaded"),
    (events.RestartNeeded(settings=["api.port"]), "daemon.needs_restart"),
    (events.ReloadRefused(problems=["jobs.queues is empty"]), "daemon.reload_refused"),
    (events.DaemonStopping(reason="SIGTERM", running=1, timeout_s=30.0), "daemon.stopping"),
    (events.DaemonStopped(abandoned=0), "daemon.stopped"),
    (events.DaemonStopped(abandoned=0, unsettled=1), "daemon.abandoned"),
    (events.RemovalRefused(error=OSError("no")), "removal.refused"),
    (events.ExecutionsDropped(count=2, job_id="j"), "executions.dropped"),
    (events.SchedulesFired(advances=[advance(FireOutcome.ENQUEUED)], job_ids={}, now=NOON), "schedule.fired"),
    (events.ScheduleBroken(schedule_id="a", name="n", error="no"), "schedule.broken"),
    (events.ScheduleEnded(schedule_id="a", name="n"), "schedule.ended"),
    (events.ScheduleRepaired(schedule_id="a", name="n"), "schedule.repaired"),
    (events.SchedulePutRight(schedule_id="a", name="n", was=NOON, next_run_at=NOON), "schedule.put_right"),
    (events.ScheduleOverdue(schedule_id="a", name="n", reason="no_success", message="m"), "schedule.overdue"),
    (events.ScheduleRecovered(name="n"), "schedule.recovered"),
    (events.AddressGone(job_type="t", host="h"), "address.gone"),
    (events.AlertsUndelivered(host="h", error="e"), "alerts.undelivered"),
    (events.AlertsDelivered(host="h"), "alerts.delivered"),
    (ActionTaken(actor="a", action="job.enqueue", target="i", enqueued={"t": 1}), "jobs.enqueued"),
    (ActionTaken(actor="a", action="job.cancel", target="i"), "action.taken"),
    (events.RequestFailed(request="GET /", error=OSError("gone")), "request.failed"),
    (events.SettingsNoted(note="n"), "settings.noted"),
    (events.EmbeddedDatabaseUsed(home="/h"), "database.embedded"),
    (events.SchemaMigrated(migrations=["0001"], notices=[]), "schema.migrated"),
    (events.SchemaWaits(reason="a lock is held by another session"), "schema.waiting"),
    (events.ApiStarted(url="http://h", authenticated=True), "api.started"),
    (events.ApiFailed(error=OSError("in use")), "api.failed"),
    (events.ApiUnavailable(), "api.unavailable"),
    (events.FirstSteps(program="ayb-jobs", job_type="greet"), "daemon.hint"),
]


class Reader:
    """What is written to a log, as it is read from the other end of a pipe."""

    def __init__(self, **settings: Any) -> None:
        self.read_fd, write_fd = os.pipe()
        self._stream = os.fdopen(write_fd, "w")
        self.settings = settings

    @contextmanager
    def log(self, **arguments: Any) -> Iterator[Logs]:
        logs = configure_logging(Log(**self.settings), stream=self._stream, **arguments)
        try:
            yield logs
        finally:
            logs.close()

    def text(self) -> str:
        self._stream.close()
        with os.fdopen(self.read_fd, encoding="utf-8", newline="") as stream:
            return stream.read()

    def entries(self) -> list[Entry]:
        return [json.loads(line) for line in self.text().split("\n")[:-1]]


def logged(write: Callable[[Logs], object], **settings: Any) -> list[Entry]:
    reader = Reader(**settings)
    with reader.log() as logs:
        write(logs)
    return reader.entries()


def shown(write: Callable[[Logs], object]) -> str:
    reader = Reader(format="console")
    with reader.log() as logs:
        write(logs)
    return reader.text()


class Lines:
    """Stands where structlog's logger does, so that time can be made up."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, Entry]] = []
        self.now = 0.5
        self.subscriber = LogSubscriber(cast("Any", self), lambda: self.now)

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda event, **fields: self.entries.append((level, event, fields))

    def counts(self) -> Counter[str]:
        return Counter(event for _, event, _ in self.entries)


# Words


def event_classes() -> set[type]:
    return {
        value
        for name, module in list(sys.modules.items())
        if name.startswith(f"{events.__name__}.")
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == name and value is not events.Events
    }


def test_the_union_of_events_leaves_none_out() -> None:
    """mypy holds every listener's `match` against the union, so the union must be whole."""
    assert set(get_args(events.Event)) == event_classes() | {ActionTaken}


def test_every_event_class_has_its_words() -> None:
    assert {type(event) for event, _ in EXAMPLES} == set(get_args(events.Event))
    for event, name in EXAMPLES:
        assert name in LINES
        lines = Lines()
        lines.subscriber(event)
        assert [(entry[0], entry[1]) for entry in lines.entries] == [(LINES[name].level, name)]


def test_an_event_without_words_is_noticed() -> None:
    with pytest.raises(AssertionError, match="Expected code to be unreachable"):
        event_line(cast("events.Single", object()))


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_its_words(outcome: Outcome) -> None:
    for state in (JobState.COMPLETED, JobState.QUEUED, JobState.FAILED, JobState.CANCELED):
        lines = Lines()
        lines.subscriber(settled(ending(outcome, state, error="e", delay_s=1.0)))
        assert len(lines.entries) == 1
        assert lines.entries[0][1] in LINES


@pytest.mark.parametrize(
    ("end", "level", "name"),
    [
        (COMPLETED, "info", "job.completed"),
        (RETRIED, "warning", "job.retried"),
        (ending(Outcome.TIMED_OUT, JobState.QUEUED, delay_s=1.0, error="slow"), "warning", "job.retried"),
        (ending(Outcome.FAILED, JobState.FAILED, error="no"), "error", "job.failed"),
        (ending(Outcome.DISCARDED, JobState.FAILED, error="no"), "error", "job.failed"),
        (ending(Outcome.SNOOZED, JobState.QUEUED, delay_s=60.0), "info", "job.snoozed"),
        (ending(Outcome.CANCELED, JobState.CANCELED, error="why"), "info", "job.canceled"),
    ],
)
def test_the_end_of_an_attempt_is_told_with_its_job(end: Settlement, level: str, name: str) -> None:
    (entry,) = logged(lambda logs: logs.subscriber(settled(end)))
    assert (entry["level"], entry["event"]) == (level, name)
    assert (entry["job_id"], entry["job_type"], entry["attempt"]) == ("job-1", "send_mail", 1)
    assert entry["duration_ms"] == 250.0


def test_a_traceback_is_told_by_its_last_line_and_in_full() -> None:
    text = 'Traceback (most recent call last):\n  File "a.py", line 1\nValueError: no'
    (entry,) = logged(lambda logs: logs.subscriber(settled(RETRIED._replace(error=text))))
    assert entry["error"] == "ValueError: no"
    assert entry["exception"] == text


def test_a_disabled_daemon_says_how_to_enable_it() -> None:
    (entry,) = logged(lambda logs: logs.subscriber(events.DaemonDisabled()))
    assert "enabled = true" in entry["hint"]
    assert "AYB_JOBS_ENABLED=true" in entry["hint"]


def test_only_a_surprising_error_brings_its_traceback() -> None:
    def fail(logs: Logs) -> None:
        for error in (ConnectionError("refused"), KeyError("oops")):
            logs.subscriber(events.LoopFailed(loop="producer", error=error, retry_s=1.0))

    outage, surprise = logged(fail)
    assert "exception" not in outage
    assert "KeyError: 'oops'" in surprise["exception"]


def test_unknown_types_are_told_when_they_change_and_when_they_are_gone() -> None:
    lines = Lines()
    for counts in ({"a": 1}, {"a": 2}, {"a": 2, "b": 1}, {}, {}):
        lines.subscriber(events.JobsUnclaimable(counts=counts))
    assert [entry[1] for entry in lines.entries] == ["jobs.unclaimable", "jobs.unclaimable", "jobs.claimable"]


def test_a_queue_that_is_not_served_is_told_as_such() -> None:
    lines = Lines()
    lines.subscriber(events.JobsUnclaimable(counts={}, queues={"mail": 2}))
    assert [entry[1:] for entry in lines.entries] == [("jobs.unclaimable", {"unserved_queues": {"mail": 2}})]


def test_nothing_is_said_about_nothing() -> None:
    lines = Lines()
    for event in (settled(), events.RowsPruned(table="t", rows=0), events.JobsReleased(job_ids=[])):
        lines.subscriber(event)
    lines.subscriber.summarize()
    assert lines.entries == []


def test_every_line_that_our_own_handlers_write_is_in_the_list() -> None:
    package = Path(__file__).parents[2] / "ayb_jobs"
    written = re.compile(r"\blog(?:ger)?\.(debug|info|warning|error)\(\s*\"([a-z_.]+)\"")
    found = [call for file in package.rglob("*.py") for call in written.findall(file.read_text("utf-8"))]
    assert found
    for level, name in found:
        assert LINES[name].level == level


def test_the_reference_of_lines_is_up_to_date() -> None:
    text = (Path(__file__).parents[2] / "docs/logs.md").read_text("utf-8")
    assert text.endswith(table()), "run `python -m ayb_jobs.logs.reference`"


# Rates


def test_beyond_some_tens_a_second_jobs_are_counted() -> None:
    lines = Lines()
    for _ in range(20):
        lines.subscriber(settled(*[COMPLETED] * 500))
    assert lines.counts() == {"job.completed": MOST_SUCCESSES}
    lines.now += 1.0
    lines.subscriber.summarize()
    assert lines.entries[-1] == ("info", "jobs.summary", {"seconds": 1.0, "completed": 10_000 - MOST_SUCCESSES})
    lines.subscriber.summarize()
    assert lines.counts()["jobs.summary"] == 1


def test_each_second_has_lines_of_its_own() -> None:
    lines = Lines()
    for _ in range(3):
        lines.subscriber(settled(*[COMPLETED] * 500))
        lines.now += 1.0
    assert lines.counts()["job.completed"] == 3 * MOST_SUCCESSES


def test_successes_take_no_room_from_failures_and_failures_have_more() -> None:
    lines = Lines()
    snoozed = ending(Outcome.SNOOZED, JobState.QUEUED, delay_s=1.0)
    lines.subscriber(settled(*[COMPLETED] * 300, *[snoozed] * 100, *[RETRIED] * 130))
    lines.subscriber(events.LeasesLost(job_ids=["x"] * 10, during="settle"))
    assert MOST_FAILURES > MOST_SUCCESSES
    assert lines.counts() == {"job.completed": MOST_SUCCESSES, "job.retried": MOST_FAILURES}
    lines.subscriber.summarize()
    told = {event: fields for _, event, fields in lines.entries if event.startswith("jobs.")}
    assert told["jobs.summary"] == {"seconds": 0.0, "completed": 280, "snoozed": 100}
    assert told["jobs.failures"] == {"seconds": 0.0, "retried": 30, "lost": 10}


def test_a_burst_that_ends_is_still_summed_up() -> None:
    reader = Reader()
    with reader.log() as logs:
        logs.subscriber(settled(*[COMPLETED] * 500))
    entries = reader.entries()
    assert entries[-1]["event"] == "jobs.summary"
    assert entries[-1]["completed"] == 500 - MOST_SUCCESSES


def test_a_batch_costs_next_to_nothing_for_each_job() -> None:
    lines = Lines()
    batch = settled(*[COMPLETED] * 500)
    lines.subscriber(batch)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        lines.subscriber(batch)
    finally:
        sys.setprofile(None)
    assert calls < 100


def test_ten_thousand_fires_are_some_lines_and_counts() -> None:
    lines = Lines()
    outcomes = [FireOutcome.ENQUEUED] * 9_000 + [FireOutcome.SKIPPED] * 1_000
    lines.subscriber(events.SchedulesFired(advances=[advance(*outcomes)], job_ids={}, now=NOON))
    assert lines.counts() == {"schedule.fired": MOST_SUCCESSES}
    lines.subscriber.summarize()
    assert lines.entries[-1] == ("info", "schedules.summary", {"seconds": 0.0, "fired": 8_980, "passed": 1_000})


def test_a_fire_names_the_job_that_it_made() -> None:
    fired = advance(FireOutcome.ENQUEUED)
    made = events.SchedulesFired(advances=[fired], job_ids={(fired.schedule.id, NOON): "a-job"}, now=NOON)
    (entry,) = logged(lambda logs: logs.subscriber(made))
    assert (entry["event"], entry["schedule"], entry["job_id"]) == ("schedule.fired", "nightly", "a-job")


def test_a_fire_without_a_job_says_why() -> None:
    (entry,) = logged(
        lambda logs: logs.subscriber(
            events.SchedulesFired(advances=[advance(FireOutcome.SKIPPED)], job_ids={}, now=NOON)
        )
    )
    assert (entry["event"], entry["schedule"], entry["reason"]) == ("schedule.passed", "nightly", "still running")
    assert entry["fire_at"] == "2026-01-01T12:00:00+00:00"


# A log that nobody reads


def test_a_full_pipe_stops_nobody_and_what_was_dropped_is_told() -> None:
    reader = Reader()
    fcntl.fcntl(reader.read_fd, fcntl.F_SETPIPE_SZ, 4096)
    with reader.log() as logs:
        for number in range(3 * MOST_WAITING):
            logs.logger.info("handler.says", number=number, padding="x" * 100)
        assert logs.sink.dropped > 0
        dropped = logs.sink.dropped
        received: list[bytes] = []
        drain = threading.Thread(
            target=lambda: received.extend(iter(lambda: os.read(reader.read_fd, 65536), b"")), daemon=True
        )
        drain.start()
        eventually(lambda: b"log.dropped" in b"".join(received))
        logs.logger.info("handler.says", number=-1)
    reader._stream.close()
    drain.join()
    os.close(reader.read_fd)
    entries = [json.loads(line) for line in b"".join(received).splitlines()]
    told = [entry["count"] for entry in entries if entry["event"] == "log.dropped"]
    assert sum(told) == dropped
    assert entries[-1]["number"] == -1
    assert len(entries) == 3 * MOST_WAITING - dropped + len(told) + 1


def test_closing_waits_no_longer_than_asked_for_a_reader_who_is_gone() -> None:
    reader = Reader()
    fcntl.fcntl(reader.read_fd, fcntl.F_SETPIPE_SZ, 4096)
    logs = configure_logging(Log(), stream=reader._stream)
    for _ in range(200):
        logs.logger.info("handler.says", padding="x" * 100)
    started = time.monotonic()
    assert logs.close(timeout_s=0.2) is False
    assert time.monotonic() - started < 10
    while os.read(reader.read_fd, 65536):
        if logs.close(timeout_s=0.05):
            break
    assert logs.close(timeout_s=5) is True
    reader.text()


def test_a_pipe_made_non_blocking_loses_nothing() -> None:
    reader = Reader()
    fcntl.fcntl(reader.read_fd, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(reader._stream.fileno(), False)
    received: list[bytes] = []
    with reader.log() as logs:
        for number in range(500):
            logs.logger.info("handler.says", number=number)
        drain = threading.Thread(
            target=lambda: received.extend(iter(lambda: os.read(reader.read_fd, 512), b"")), daemon=True
        )
        drain.start()
    reader._stream.close()
    drain.join()
    os.close(reader.read_fd)
    assert [json.loads(line)["number"] for line in b"".join(received).splitlines()] == list(range(500))


def test_a_reader_who_left_stops_nobody() -> None:
    reader = Reader()
    os.close(reader.read_fd)
    with reader.log() as logs:
        logs.logger.info("handler.says")
        eventually(lambda: logs.sink.dropped == 1)
        logs.logger.info("handler.says")
        eventually(lambda: logs.sink.dropped == 2)
    reader._stream.close()


def test_a_full_disk_stops_nobody_and_is_told_once_there_is_room(tmp_path: Path) -> None:
    target = (tmp_path / "log").open("w")
    with Path("/dev/full").open("w") as full:
        logs = configure_logging(Log(), stream=full)
    logs.logger.info("lost")
    eventually(lambda: logs.sink.dropped == 1)
    assert logs.sink._fd is not None
    os.dup2(target.fileno(), logs.sink._fd)
    logs.logger.info("kept")
    logs.close()
    target.close()
    entries = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line]
    assert [entry["event"] for entry in entries] == ["kept", "log.dropped"]
    assert entries[1]["count"] == 1


def test_a_line_that_was_torn_does_not_spoil_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader()
    real, failing = os.write, threading.Event()

    def write(fd: int, data: bytes) -> int:
        if threading.current_thread().name == "log-writer" and not failing.is_set():
            if len(data) < 40:
                failing.set()
                raise OSError(28, "No space left on device")
            return real(fd, bytes(data)[: len(data) - 20])
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    with reader.log() as logs:
        logs.logger.info("torn")
        eventually(failing.is_set)
        logs.logger.info("whole")
    lines = reader.text().splitlines()
    assert [json.loads(line)["event"] for line in lines[1:]] == ["whole", "log.dropped"]


@pytest.mark.outer
@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full"])
def test_a_closed_or_full_stderr_stops_nobody(redirect: str) -> None:
    code = (
        "from ayb_jobs.logs import configure_logging; from ayb_jobs.config import Log\n"
        "logs = configure_logging(Log())\n"
        "open('/dev/null')\n"
        "for _ in range(100): logs.logger.info('x')\n"
        "logs.close(); print('done')"
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {redirect}', sys.executable, code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "done\n"


def test_the_log_keeps_its_own_descriptor_when_stderr_is_closed(tmp_path: Path) -> None:
    reader = Reader()
    with reader.log() as logs:
        reader._stream.close()
        reader._stream = (tmp_path / "other").open("w")  # takes the number that has become free
        logs.logger.info("handler.says")
    assert reader.entries()[0]["event"] == "handler.says"
    assert (tmp_path / "other").read_text() == ""


# What a line looks like


def test_a_line_has_time_level_event_and_worker() -> None:
    reader = Reader()
    with reader.log(worker="w-1") as logs:
        logs.logger.warning("handler.says", number=1)
    (entry,) = reader.entries()
    assert list(entry) == ["ts", "level", "event", "worker", "number"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", entry["ts"])
    assert (entry["level"], entry["worker"]) == ("warning", "w-1")


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_whatever_a_value_is_a_line_is_one_json_object() -> None:
    loop: list[Any] = []
    loop.append(loop)
    values: dict[str, Any] = {
        "lines": "a\nb\r\x85\u2028c",
        "escape": "\x1b[2J",
        "surrogate": "\ud800",
        "nan": float("nan"),
        "huge": 10**5000,
        "bytes": b"\xff",
        "loop": loop,
        "broken": Broken(),
        "keys": {1: {None: {2}}},
        "ts": "forged",
        "level": "forged",
        "long": "x" * 100_000,
    }
    (entry,) = logged(lambda logs: logs.logger.info("odd\nname", **values))
    assert entry["event"] == "odd\nname"
    assert entry["level"] == "info"
    assert entry["nan"] == "nan"
    assert entry["broken"] == "<Broken that cannot be shown>"
    assert entry["keys"] == {"1": {"None": [2]}}
    assert len(entry["long"]) < 10_000


def test_no_reader_finds_a_line_end_within_a_json_line() -> None:
    reader = Reader()
    with reader.log() as logs:
        logs.logger.info("x", text="a\nb\r\x0b\x0c\x1c\x85\u2028\u2029c")
    assert len(reader.text().splitlines()) == 1


def test_on_a_terminal_values_cannot_command_it_nor_forge_lines() -> None:
    text = shown(
        lambda logs: logs.logger.info("a\n12:00:00 [error] forged", value="\x1b[2J\u202e\x9b", **{"k\ney": "v"})
    )
    assert len(text.splitlines()) == 1
    assert not set(text) & set("\x1b\u202e\x9b")
    assert "\\x1b[2J" in text


def test_on_a_terminal_a_traceback_is_indented() -> None:
    error = "Traceback (most recent call last):\n\x1b[2J\n12:00:00.000 [error    ] forged\nValueError: no"
    text = shown(lambda logs: logs.subscriber(settled(RETRIED._replace(error=error))))
    first, *others = text.splitlines()
    assert "job.retried" in first
    assert others
    assert all(line.startswith("    ") for line in others)
    assert "\x1b" not in text


@pytest.mark.parametrize("name", ["exception", "stack", "exc_info", "stack_info", "event_key", "message"])
@pytest.mark.parametrize("format_", ["json", "console"])
def test_a_field_by_any_name_is_a_line(name: str, format_: str) -> None:
    reader = Reader(format=format_)
    with reader.log() as logs:
        logs.logger.info("handler.says", **{name: 5})
    text = reader.text()
    assert "handler.says" in text
    assert "unrenderable" not in text


def test_lines_below_the_level_are_left_out() -> None:
    def write(logs: Logs) -> None:
        logs.subscriber(settled(COMPLETED, RETRIED))
        logs.subscriber(events.JobsLeased(jobs=[job()]))

    assert [entry["event"] for entry in logged(write, level="warning")] == ["job.retried"]
    assert [entry["event"] for entry in logged(write)] == ["job.completed", "job.retried"]
    assert "jobs.leased" in [entry["event"] for entry in logged(write, level="debug")]


@pytest.mark.parametrize(
    ("settings", "json_", "colored"),
    [
        ({}, False, True),
        ({"color": "never"}, False, False),
        ({"format": "json"}, True, False),
        ({"format": "console"}, False, True),
    ],
)
def test_a_terminal_gets_readable_lines(settings: dict[str, Any], *, json_: bool, colored: bool) -> None:
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as stream:
        logs = configure_logging(Log(**settings), stream=stream)
        logs.logger.info("handler.says")
        logs.close()
        text = os.read(leader, 4096).decode()
    os.close(leader)
    assert text.startswith("{") is json_
    assert ("\x1b[" in text) is colored


def test_no_terminal_gets_json_without_colour_unless_asked() -> None:
    assert logged(lambda logs: logs.logger.info("handler.says"))
    assert "\x1b" not in shown(lambda logs: logs.logger.info("handler.says"))
    reader = Reader(format="console", color="always")
    with reader.log() as logs:
        logs.logger.info("handler.says")
    assert "\x1b[" in reader.text()


# What goes the same way


def test_a_handlers_log_carries_its_job() -> None:
    (entry,) = logged(lambda logs: logs.logger.bind(job_id="a", job_type="t", attempt=2).info("mail.sent", to=3))
    assert (entry["job_id"], entry["job_type"], entry["attempt"], entry["to"]) == ("a", "t", 2, 3)


def test_pythons_own_logging_and_warnings_go_the_same_way() -> None:
    def write(_: Logs) -> None:
        logging.getLogger("somelib").warning("careful with %s", "postgresql://u:canary@h/db")
        logging.getLogger("uvicorn.error").info("chatter")
        logging.getLogger("myapp").error("it failed", exc_info=ValueError("no"))
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", DeprecationWarning, stacklevel=1)

    entries = logged(write)
    assert [(entry["level"], entry["logger"]) for entry in entries] == [
        ("warning", "somelib"),
        ("error", "myapp"),
        ("warning", "py.warnings"),
    ]
    assert entries[0]["message"] == "careful with postgresql://u:***@h/db"
    assert "ValueError: no" in entries[1]["exception"]


def test_a_library_that_logs_badly_stops_nobody() -> None:
    bad = logging.makeLogRecord({"name": "x", "msg": "%d", "args": ("x",), "levelno": 30})
    assert logged(lambda logs: logs.library.emit(bad)) == []


def test_closing_leaves_pythons_logging_as_it_was() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.getLogger("uvicorn").level)
    logged(lambda _: None, level="debug")
    assert (root.level, list(root.handlers), logging.getLogger("uvicorn").level) == before


def test_importing_the_logs_starts_and_changes_nothing() -> None:
    code = (
        "import threading, logging, structlog\n"
        "import ayb_jobs.logs\n"
        "assert threading.active_count() == 1 and not logging.getLogger().handlers and not structlog.is_configured()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_closing_twice_and_writing_afterwards_is_harmless() -> None:
    reader = Reader()
    with reader.log() as logs:
        logs.logger.info("one")
        assert logs.close() is True
        assert logs.close() is True
        logs.logger.info("two")
    assert [entry["event"] for entry in reader.entries()] == ["one"]


def test_a_stream_without_a_descriptor_is_a_log_that_is_lost() -> None:
    logs = configure_logging(Log(), stream=io.StringIO())
    logs.logger.info("lost")
    assert logs.sink.dropped == 1
    logs.close()


# Secrets


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgresql://me:canary@h:5432/db failed", "postgresql://me:***@h:5432/db failed"),
        ("postgres://me:can@ry/x@h/db", "postgres://me:***@h/db"),
        ("a://b://c:canary@h, http://d:canary@h", "a://b:***@h, http://d:***@h"),
        ("at://x:y no URL, and mail@example.com", "at://x:y no URL, and mail@example.com"),
        ("postgresql://me@h/db?password=canary&sslmode=require", "postgresql://me@h/db?password=***&sslmode=require"),
        ("postgresql://h/db?sslpassword=canary", "postgresql://h/db?sslpassword=***"),
        ("host=h password=canary user=me", "host=h password=*** user=me"),
        (r"host=h password = 'can\'ary x' user=me", "host=h password = *** user=me"),
        ("sslpassword=canary", "sslpassword=***"),
        ("PGPASSWORD=canary psql", "PGPASSWORD=*** psql"),
        ("Authorization: Bearer canary", "Authorization: ***"),
        ("{'Authorization': 'Basic canary=='}", "{'Authorization': ***}"),
        ('{"admin_token": "canary"}', '{"admin_token": ***}'),
        ("sent Bearer canary123 to it", "sent Bearer *** to it"),
        ("api_key=canary", "api_key=***"),
        ("UID=sa;PWD=/canary", "UID=sa;PWD=***"),
        ("pwd=/canary", "pwd=***"),
        ("HOME=/root\nPWD=/srv/shop\nTERM=xterm", "HOME=/root\nPWD=/srv/shop\nTERM=xterm"),
        ("connecting to http://127.0.0.1:8091/api", "connecting to http://127.0.0.1:8091/api"),
        ("the lease of job 7 was lost: retry in 5 s", "the lease of job 7 was lost: retry in 5 s"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_and_nothing_else(text: str, clean: str) -> None:
    assert redact(text) == clean


GROWING = ["://a.a.a", "a.", "://a:", "a://a:", "x", "a+a-a", "password", "password=", "a_secret_", "token: bearer ", "pwd='\\\\", 'pwd="\\\n', "@", "a:b@", " "]  # fmt: skip


@pytest.mark.outer
@pytest.mark.parametrize("part", GROWING)
@pytest.mark.parametrize("frame", ["{}", "://{}", "a://{}@", "password={}", "password{}="])
def test_hiding_secrets_takes_time_that_grows_as_the_text_does(part: str, frame: str) -> None:
    def seconds(size: int) -> float:
        text = frame.format(part * (size // len(part)))
        times = []
        for _ in range(5):
            begun = time.thread_time()
            redact(text)
            times.append(time.thread_time() - begun)
        return min(times)

    # Eight times the text: eight times the time, or 64 times if it grew with the square.
    assert seconds(64 * 1024) < 24 * max(seconds(8 * 1024), 0.0002)


def test_the_passwords_of_connection_strings_are_known_as_written_and_as_decoded() -> None:
    assert passwords("postgresql://me:can%40ry@h/db") == {"can%40ry", "can@ry"}
    assert "can'ary x" in passwords(r"host=h password='can\'ary x'")
    assert passwords("postgresql://me@h/db") == set()


def test_a_known_secret_is_hidden_wherever_it_stands() -> None:
    known = "canary-0123456789"
    reader = Reader()
    with reader.log(secrets={known, "", "a"}) as logs:
        logs.logger.info("event %s", known, field=known, deep={"list": [known, {known: 1}]}, **{known: 1})
        logs.logger.info("named", password="canary", nested={"api_key": ["canary"]}, token=None)
        logs.logger.error("failed", exc_info=ValueError(known))
    text = reader.text()
    assert "canary" not in text
    assert text.count("\n") == 3
    assert '"token":null' in text


def test_a_redactor_hides_the_longer_of_two_secrets_whole() -> None:
    assert Redactor(["secret-1", "secret-1-and-more"])("is secret-1-and-more.") == "is ***."


def test_a_line_of_the_start_fits_a_terminal() -> None:
    types = [f"cleanup_of_table_{number}" for number in range(30)]
    started = events.DaemonStarted(worker_id="w", concurrency=64, job_types=types, queues=["default"], scheduler=True)
    migrated = events.SchemaMigrated(migrations=[f"{number:04}_queue" for number in range(12)], notices=[])

    def start(logs: Logs) -> None:
        logs.subscriber(migrated)
        logs.subscriber(started)

    lines = shown(start).splitlines()
    assert len(lines) == 2
    assert all(len(line) <= 100 for line in lines)
    assert "notices" not in lines[0]
    assert "job_types=30 queues=default" in lines[1]

"""What is asked of each operation, at each door that has it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import sql

from ayb_jobs import NewJob, Unique, enqueue
from ayb_jobs.model.daemons import DaemonRecord
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.model.pauses import NewPause, PauseKind
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet import limits, pauses
from ayb_jobs.storage.fleet.daemons import beat
from tests.factories import make_job, make_schedule

JOB = "01890000-0000-7000-8000-00000000000a"
OTHER = "01890000-0000-7000-8000-00000000000b"
SCHEDULE = "01890000-0000-7000-8000-00000000000c"
DAEMON = "host:7:0123456789ab"
API = "/api/admin"


@dataclass(frozen=True, slots=True)
class Http:
    """A call over HTTP."""

    method: str
    path: str
    body: Mapping[str, Any] | Sequence[Any] | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A command, by the database and, unless it knows that way alone, by the API."""

    arguments: Sequence[str]
    by_api: bool = True
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Form:
    """A form of the dashboard: a page, the button that is pressed on it, and what is typed first."""

    page: str
    button: str
    typed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sent:
    """What a form of the dashboard would send, if no page shows its button as things stand."""

    path: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """A page of the dashboard that says something."""

    page: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An operation asked for in one way, at each door that has it.

    `deeds` are the actions that the audit trail then holds, with what each is about. `refused` is what every door says
    if the operation is refused; nothing may have changed then.
    """

    operation: str
    doors: Sequence[Http | Command | Form | Sent | Seen]
    deeds: Sequence[tuple[str, str | None]] = ()
    refused: str = ""
    before: Callable[[Connection], object] = lambda _: None


def jobs_of(*states: str) -> Callable[[Connection], object]:
    return lambda conn: [make_job(conn, state, id=id_) for state, id_ in zip(states, (JOB, OTHER), strict=False)]


def a_schedule(**columns: Any) -> Callable[[Connection], object]:
    return lambda conn: make_schedule(
        conn, id=SCHEDULE, name="nightly", job_type="send_mail", next_run_at=sql.SQL("'2090-01-01'"), **columns
    )


def a_key_of_another_type(conn: Connection) -> None:
    make_job(conn, id=JOB, type="test", idempotency_key="k")


def a_unique_job(conn: Connection) -> None:
    enqueue(conn, NewJob(type="test", unique=Unique(key="k", scope="waiting")))
    conn.execute("UPDATE _ayb_jobs SET id = %s", (JOB,))


def a_paused_queue(conn: Connection) -> None:
    with conn.transaction():
        pauses.pause(conn, NewPause(kind=PauseKind.QUEUE, name="reports"), by="ada")


def a_limit(conn: Connection) -> None:
    with conn.transaction():
        limits.set_limit(conn, NewLimit(name="few", types=["test"], max_running=1), by="ada")


def a_paused_key(conn: Connection) -> None:
    a_limit(conn)
    with conn.transaction():
        pauses.pause(conn, NewPause(kind=PauseKind.KEY, name="few/acme"), by="ada")


def a_batch(*, done: bool = False) -> Callable[[Connection], object]:
    """Make a batch that is open, or done, with a member that waits and one that runs."""

    def make(conn: Connection) -> None:
        conn.execute(
            "INSERT INTO _ayb_job_batches (id, sealed_at, done_at)"
            " VALUES (%s, CASE WHEN %s THEN now() END, CASE WHEN %s THEN now() END)",
            (SCHEDULE, done, done),
        )
        for state, id_ in (("queued", JOB), ("running", OTHER)):
            make_job(conn, state, id=id_, batch_id=SCHEDULE)

    return make


def daemons(*ids: str) -> Callable[[Connection], object]:
    def make(conn: Connection) -> None:
        for id_ in ids:
            beat(conn, DaemonRecord(id=id_, host="h", pid=7, version="1", concurrency=1, queues=["default"], types=[]))

    return make


def triggering(job_type: str) -> Http:
    query = f'mutation {{ triggerJob(jobName: "{job_type}") {{ success }} }}'
    return Http("POST", "/admin/jobs", {"query": query})


CRONTAB = "0 3 * * * /bin/true\n"
NIGHTLY = ("--name", "nightly", "--job-type", "send_mail", "--cron", "0 3 * * *", "--max-attempts", "5")
TYPED = {"name": "nightly", "job_type": "send_mail", "cron": "0 3 * * *"}
CASES: Mapping[str, Case] = {
    "enqueue": Case(
        operation="jobs.enqueue",
        doors=[
            Http("POST", f"{API}/jobs", {"type": "stale_session_cleanup"}),
            Http("POST", f"{API}/jobs", {"type": "stale_session_cleanup", "payload": None}),
            triggering("stale_session_cleanup"),
            Command(["jobs", "enqueue", "stale_session_cleanup"]),
            Command(["jobs", "enqueue", "stale_session_cleanup", "--payload", "null"]),
            Form("/enqueue", "Enqueue it", {"type": "stale_session_cleanup"}),
        ],
        deeds=[("job.enqueue", "id")],
    ),
    "enqueue with a key that a job of another type has": Case(
        operation="jobs.enqueue",
        before=a_key_of_another_type,
        doors=[
            Http("POST", f"{API}/jobs", {"type": "send_mail", "idempotencyKey": "k"}),
            Command(["jobs", "enqueue", "send_mail", "--idempotency-key", "k"]),
            Form("/enqueue", "Enqueue it", {"type": "send_mail", "idempotency_key": "k"}),
        ],
        refused=f"the idempotency key belongs to job {JOB}, which is of type test",
    ),
    "enqueue with a key that a job of this type has": Case(
        operation="jobs.enqueue",
        before=a_key_of_another_type,
        doors=[
            Http("POST", f"{API}/jobs", {"type": "test", "idempotencyKey": "k"}),
            Command(["jobs", "enqueue", "test", "--idempotency-key", "k"]),
            Form("/enqueue", "Enqueue it", {"type": "test", "idempotency_key": "k"}),
        ],
    ),
    "enqueue with a unique key that is free": Case(
        operation="jobs.enqueue",
        doors=[
            Http("POST", f"{API}/jobs", {"type": "test", "uniqueKey": "k", "onConflict": "replace"}),
            Command(["jobs", "enqueue", "test", "--unique-key", "k", "--on-conflict", "replace"]),
        ],
        deeds=[("job.enqueue", "id")],
    ),
    "enqueue in place of a job that waits": Case(
        operation="jobs.enqueue",
        before=a_unique_job,
        doors=[
            Http(
                "POST", f"{API}/jobs", {"type": "test", "payload": {"n": 2}, "uniqueKey": "k", "onConflict": "replace"}
            ),
            Command(
                ["jobs", "enqueue", "test", "--payload", '{"n": 2}', "--unique-key", "k", "--on-conflict", "replace"]
            ),
        ],
        deeds=[("job.replace", JOB)],
    ),
    "enqueue with a unique key that is taken": Case(
        operation="jobs.enqueue",
        before=a_unique_job,
        doors=[
            Http("POST", f"{API}/jobs", {"type": "test", "uniqueKey": "k", "onConflict": "reject"}),
            Command(["jobs", "enqueue", "test", "--unique-key", "k", "--on-conflict", "reject"]),
        ],
        refused=f"the unique key is taken by job {JOB}",
    ),
    "enqueue a job that waits for another": Case(
        operation="jobs.enqueue",
        before=jobs_of("running"),
        doors=[
            Http("POST", f"{API}/jobs", {"type": "test", "dependsOn": [JOB], "onParentFailure": "hold"}),
            Command(["jobs", "enqueue", "test", "--depends-on", JOB, "--on-parent-failure", "hold"]),
        ],
        deeds=[("job.enqueue", "id")],
    ),
    "enqueue many that wait for another": Case(
        operation="jobs.enqueue_many",
        before=jobs_of("running"),
        doors=[Http("POST", f"{API}/jobs", [{"type": "test", "dependsOn": [JOB]}] * 2)],
        deeds=[("jobs.enqueue", None)],
    ),
    "enqueue a job that waits for what is no job": Case(
        operation="jobs.enqueue",
        doors=[
            Http("POST", f"{API}/jobs", {"type": "test", "dependsOn": ["x"]}),
            Command(["jobs", "enqueue", "test", "--depends-on", "x"]),
        ],
        refused="depends_on holds 'x', which is not a job's id",
    ),
    "enqueue a member of a batch": Case(
        operation="jobs.enqueue",
        before=a_batch(),
        doors=[
            Http("POST", f"{API}/jobs", {"type": "test", "batchId": SCHEDULE}),
            Command(["jobs", "enqueue", "test", "--batch", SCHEDULE]),
        ],
        deeds=[("job.enqueue", "id")],
    ),
    "enqueue a member of a batch that is done": Case(
        operation="jobs.enqueue",
        before=a_batch(done=True),
        doors=[
            Http("POST", f"{API}/jobs", {"type": "test", "batchId": SCHEDULE}),
            Command(["jobs", "enqueue", "test", "--batch", SCHEDULE]),
        ],
        refused=f"batch {SCHEDULE} is done; it takes no more jobs",
    ),
    "make an open batch": Case(
        operation="batches.create",
        doors=[
            Http(
                "POST",
                f"{API}/batches",
                {"onDone": {"type": "test", "priority": 1}, "description": "mails", "open": True},
            ),
            Command(["batches", "create", "--on-done", '{"type": "test", "priority": 1}', "--description", "mails"]),
        ],
        deeds=[("batch.create", "id")],
    ),
    "make a batch of jobs": Case(
        operation="batches.create",
        doors=[Http("POST", f"{API}/batches", {"jobs": [{"type": "test"}] * 2, "onSuccess": {"type": "test"}})],
        deeds=[("batch.create", "id"), ("jobs.enqueue", None)],
    ),
    "make a batch of a job whose key is taken": Case(
        operation="batches.create",
        before=a_key_of_another_type,
        doors=[Http("POST", f"{API}/batches", {"jobs": [{"type": "test", "idempotencyKey": "k"}]})],
        refused=f"[0]: the idempotency key is taken by job {JOB}",
    ),
    "make a batch with a callback that is none": Case(
        operation="batches.create",
        doors=[
            Http("POST", f"{API}/batches", {"onDone": {"type": "test", "payload": {"batch": 1}}, "open": True}),
            Command(["batches", "create", "--on-done", '{"type": "test", "payload": {"batch": 1}}']),
        ],
        refused="the payload of on_done must be an object without a field 'batch'",
    ),
    "seal a batch": Case(
        operation="batches.seal",
        before=a_batch(),
        doors=[
            Http("POST", f"{API}/batches/{SCHEDULE}/seal"),
            Command(["batches", "seal", SCHEDULE]),
            Form(f"/batches/{SCHEDULE}", "Seal this batch"),
        ],
        deeds=[("batch.seal", SCHEDULE)],
    ),
    "seal a batch that is sealed": Case(
        operation="batches.seal",
        before=a_batch(done=True),
        doors=[
            Http("POST", f"{API}/batches/{SCHEDULE}/seal"),
            Command(["batches", "seal", SCHEDULE]),
            Sent(f"/batches/{SCHEDULE}/seal"),
        ],
    ),
    "seal a batch that is none": Case(
        operation="batches.seal",
        doors=[
            Http("POST", f"{API}/batches/{SCHEDULE}/seal"),
            Command(["batches", "seal", SCHEDULE]),
            Sent(f"/batches/{SCHEDULE}/seal"),
        ],
        refused=f"there is no batch {SCHEDULE}",
    ),
    "cancel what waits of a batch": Case(
        operation="batches.cancel",
        before=a_batch(),
        doors=[
            Http("POST", f"{API}/batches/{SCHEDULE}/cancel"),
            Command(["batches", "cancel", SCHEDULE]),
            Form(f"/batches/{SCHEDULE}/cancel", "Cancel this batch"),
        ],
        deeds=[("batch.cancel", SCHEDULE), ("jobs.cancel", None)],
    ),
    "cancel all of a batch": Case(
        operation="batches.cancel",
        before=a_batch(),
        doors=[
            Http("POST", f"{API}/batches/{SCHEDULE}/cancel?running=true"),
            Command(["batches", "cancel", SCHEDULE, "--running"]),
            Form(f"/batches/{SCHEDULE}/cancel", "Cancel this batch", {"running": "yes"}),
        ],
        deeds=[("batch.cancel", SCHEDULE), ("jobs.cancel", None), ("jobs.cancel", None)],
    ),
    "cancel a batch that is done": Case(
        operation="batches.cancel",
        before=a_batch(done=True),
        doors=[
            Http("POST", f"{API}/batches/{SCHEDULE}/cancel"),
            Command(["batches", "cancel", SCHEDULE]),
            Sent(f"/batches/{SCHEDULE}/cancel"),
        ],
        refused=f"batch {SCHEDULE} is done",
    ),
    "enqueue many in place of a job that waits": Case(
        operation="jobs.enqueue_many",
        before=a_unique_job,
        doors=[
            Http("POST", f"{API}/jobs", [{"type": "test", "uniqueKey": "k", "onConflict": "replace"}, {"type": "test"}])
        ],
        deeds=[("jobs.replace", None), ("jobs.enqueue", None)],
    ),
    "enqueue many": Case(
        operation="jobs.enqueue_many",
        doors=[Http("POST", f"{API}/jobs", [{"type": "stale_session_cleanup"}, {"type": "test", "payload": 1.10}])],
        deeds=[("jobs.enqueue", None)],
    ),
    "enqueue many with keys that are taken": Case(
        operation="jobs.enqueue_many",
        before=a_key_of_another_type,
        doors=[Http("POST", f"{API}/jobs", [{"type": "test", "idempotencyKey": "k"}] * 2)],
    ),
    "enqueue many with a key that a job of another type has": Case(
        operation="jobs.enqueue_many",
        before=a_key_of_another_type,
        doors=[Http("POST", f"{API}/jobs", [{"type": "send_mail"}, {"type": "send_mail", "idempotencyKey": "k"}])],
        refused=f"[1]: the idempotency key belongs to job {JOB}, which is of type test",
    ),
    "enqueue many with a bad one": Case(
        operation="jobs.enqueue_many",
        doors=[Http("POST", f"{API}/jobs", [{"type": "test"}, {"type": " "}])],
        refused="[1]: type is empty; it is required",
    ),
    "set a limit": Case(
        operation="limits.put",
        doors=[
            Http("PUT", f"{API}/limits/few", {"types": ["test"], "maxRunning": 3, "rate": "100/min", "burst": 5}),
            Command(
                ["limits", "set", "few", "--type", "test", "--max-running", "3", "--rate", "100/min", "--burst", "5"]
            ),
            Form(
                "/queues/limit",
                "Set it",
                {"name": "few", "types": "test", "max_running": "3", "rate": "100/min", "burst": "5"},
            ),
        ],
        deeds=[("limit.set", "few")],
    ),
    "set a limit on a type that has another": Case(
        operation="limits.put",
        before=a_limit,
        doors=[
            Http("PUT", f"{API}/limits/other", {"types": ["test"], "maxRunning": 3}),
            Command(["limits", "set", "other", "--type", "test", "--max-running", "3"]),
            Form("/queues/limit", "Set it", {"name": "other", "types": "test", "max_running": "3"}),
        ],
        refused="the type test has the limit few already; a type has one at most",
    ),
    "remove a limit": Case(
        operation="limits.remove",
        before=a_limit,
        doors=[
            Http("DELETE", f"{API}/limits/few"),
            Command(["limits", "remove", "few"]),
            Form("/queues/limit/remove?name=few", "Remove this limit"),
        ],
        deeds=[("limit.remove", "few")],
    ),
    "remove a limit that is not there": Case(
        operation="limits.remove",
        doors=[
            Http("DELETE", f"{API}/limits/few"),
            Command(["limits", "remove", "few"]),
            Sent("/queues/limit/remove", {"name": "few"}),
        ],
        refused="there is no limit few",
    ),
    "enqueue with the key of a limit": Case(
        operation="jobs.enqueue",
        doors=[
            Http("POST", f"{API}/jobs", {"type": "test", "limitKey": "acme"}),
            Command(["jobs", "enqueue", "test", "--limit-key", "acme"]),
        ],
        deeds=[("job.enqueue", "id")],
    ),
    "cancel": Case(
        operation="jobs.cancel",
        before=jobs_of("queued"),
        doors=[
            Http("POST", f"{API}/jobs/{JOB}/cancel"),
            Command(["jobs", "cancel", JOB]),
            Form(f"/jobs/{JOB}/cancel", "Cancel this job"),
        ],
        deeds=[("job.cancel", JOB)],
    ),
    "cancel an id written otherwise": Case(
        operation="jobs.cancel",
        before=jobs_of("queued"),
        doors=[
            Http("POST", f"{API}/jobs/{JOB.upper()}/cancel"),
            Command(["jobs", "cancel", JOB.upper()]),
            Form(f"/jobs/{JOB.upper()}/cancel", "Cancel this job"),
        ],
        deeds=[("job.cancel", JOB)],
    ),
    "cancel a job that runs": Case(
        operation="jobs.cancel",
        before=jobs_of("running"),
        doors=[
            Http("POST", f"{API}/jobs/{JOB}/cancel"),
            Command(["jobs", "cancel", JOB]),
            Sent(f"/jobs/{JOB}/cancel"),
        ],
        refused=f"job {JOB} is running; only queued jobs can be canceled",
    ),
    "cancel a job that runs, asked for expressly": Case(
        operation="jobs.cancel",
        before=jobs_of("running"),
        doors=[
            Http("POST", f"{API}/jobs/{JOB}/cancel?running=true"),
            Command(["jobs", "cancel", JOB, "--running"]),
            Form(f"/jobs/{JOB}/cancel", "Cancel this job"),
        ],
        deeds=[("job.cancel", JOB)],
    ),
    "cancel a job that waits, also if it runs": Case(
        operation="jobs.cancel",
        before=jobs_of("queued"),
        doors=[
            Http("POST", f"{API}/jobs/{JOB}/cancel?running=true"),
            Command(["jobs", "cancel", JOB, "--running"]),
            Sent(f"/jobs/{JOB}/cancel?running=true"),
        ],
        deeds=[("job.cancel", JOB)],
    ),
    "cancel a job whose daemon is gone": Case(
        operation="jobs.cancel",
        before=jobs_of("running"),
        doors=[Http("POST", f"{API}/jobs/{JOB}/cancel?force=true"), Command(["jobs", "cancel", JOB, "--force"])],
        deeds=[("job.cancel", JOB)],
    ),
    "cancel a job that completed": Case(
        operation="jobs.cancel",
        before=jobs_of("completed"),
        doors=[
            Http("POST", f"{API}/jobs/{JOB}/cancel?running=true"),
            Command(["jobs", "cancel", JOB, "--running"]),
            Sent(f"/jobs/{JOB}/cancel?running=true"),
        ],
        refused=f"job {JOB} is completed; only queued and running jobs can be canceled",
    ),
    "cancel many that run": Case(
        operation="bulk.change",
        before=jobs_of("running", "queued"),
        doors=[
            Http("POST", f"{API}/jobs/bulk", {"action": "cancel_running"}),
            Command(["jobs", "cancel", "--running", "--state", "running", "--yes"]),
            Form("/jobs/bulk?action=cancel_running", "Cancel 1 job"),
        ],
        deeds=[("jobs.cancel", None)],
    ),
    "retry": Case(
        operation="jobs.retry",
        before=jobs_of("failed"),
        doors=[
            Http("POST", f"{API}/jobs/{JOB}/retry"),
            Command(["jobs", "retry", JOB]),
            Form(f"/jobs/{JOB}", "Retry this job"),
        ],
        deeds=[("job.retry", JOB)],
    ),
    "retry a job that completed": Case(
        operation="jobs.retry",
        before=jobs_of("completed"),
        doors=[
            Http("POST", f"{API}/jobs/{JOB}/retry"),
            Command(["jobs", "retry", JOB]),
            Sent(f"/jobs/{JOB}/retry"),
        ],
        refused=f"job {JOB} is completed; only failed jobs can be retried",
    ),
    "retry a job that waits": Case(
        operation="jobs.retry",
        before=lambda conn: make_job(conn, id=JOB, run_at=sql.SQL("'2090-01-01 UTC'")),
        doors=[
            Http("POST", f"{API}/jobs/{JOB}/retry"),
            Command(["jobs", "retry", JOB]),
            Sent(f"/jobs/{JOB}/retry"),
        ],
        refused=f"job {JOB} is queued; only failed jobs can be retried; it is due only at 2090-01-01T00:00:00Z",
    ),
    "run again": Case(
        operation="jobs.run_again",
        before=lambda conn: make_job(conn, "completed", id=JOB, type="send_mail", payload={"to": "ada"}, priority=1),
        doors=[
            Http("POST", f"{API}/jobs/{JOB}/run-again"),
            Command(["jobs", "run-again", JOB]),
            Form(f"/jobs/{JOB}", "Run again"),
        ],
        deeds=[("job.run_again", JOB)],
    ),
    "run again with another payload": Case(
        operation="jobs.run_again",
        before=jobs_of("failed"),
        doors=[
            Http("POST", f"{API}/jobs/{JOB}/run-again", {"payload": {"to": "bob"}}),
            Command(["jobs", "run-again", JOB, "--payload", '{"to": "bob"}']),
        ],
        deeds=[("job.run_again", JOB)],
    ),
    "run again what is not there": Case(
        operation="jobs.run_again",
        before=jobs_of(),
        doors=[
            Http("POST", f"{API}/jobs/{JOB}/run-again"),
            Command(["jobs", "run-again", JOB]),
            Sent(f"/jobs/{JOB}/run-again"),
        ],
        refused=f"there is no job {JOB}",
    ),
    "retry many": Case(
        operation="bulk.change",
        before=jobs_of("failed", "failed"),
        doors=[
            Http("POST", f"{API}/jobs/bulk", {"action": "retry"}),
            Command(["jobs", "retry", "--state", "failed", "--yes"]),
            Form("/jobs/bulk?action=retry", "Retry 2 jobs"),
        ],
        deeds=[("jobs.retry", None)],
    ),
    "cancel many": Case(
        operation="bulk.change",
        before=jobs_of("queued", "failed"),
        doors=[
            Http("POST", f"{API}/jobs/bulk", {"action": "cancel"}),
            Command(["jobs", "cancel", "--state", "queued", "--yes"]),
            Form("/jobs/bulk?action=cancel", "Cancel 1 job"),
        ],
        deeds=[("jobs.cancel", None)],
    ),
    "count many": Case(
        operation="bulk.count",
        before=jobs_of("queued", "queued"),
        doors=[
            Http("POST", f"{API}/jobs/bulk", {"action": "cancel", "dryRun": True}),
            Command(["jobs", "cancel", "--state", "queued", "--dry-run"]),
            Seen("/jobs/bulk?action=cancel", "Cancel 2 jobs?"),
        ],
    ),
    "pause": Case(
        operation="queues.pause",
        doors=[
            Http("POST", f"{API}/queues/reports/pause", {"reason": "repair"}),
            Command(["queues", "pause", "reports", "--reason", "repair"]),
            Form("/queues/pause?kind=queue&name=reports", "Pause it", {"reason": "repair"}),
        ],
        deeds=[("queue.pause", "reports")],
    ),
    "pause a type": Case(
        operation="queues.pause",
        doors=[
            Http("POST", f"{API}/types/test/pause"),
            Command(["types", "pause", "test"]),
            Form("/queues/pause", "Pause it", {"kind": "type", "name": "test"}),
        ],
        deeds=[("type.pause", "test")],
    ),
    "pause a key of a limit": Case(
        operation="queues.pause",
        before=a_limit,
        doors=[
            Http("POST", f"{API}/keys/few%2Facme/pause", {"reason": "repair"}),
            Command(["keys", "pause", "few/acme", "--reason", "repair"]),
            Form("/queues/pause", "Pause it", {"kind": "key", "name": "few/acme", "reason": "repair"}),
        ],
        deeds=[("key.pause", "few/acme")],
    ),
    "pause a key of no limit": Case(
        operation="queues.pause",
        doors=[
            Http("POST", f"{API}/keys/few%2Facme/pause"),
            Command(["keys", "pause", "few/acme"]),
            Sent("/queues/pause", {"kind": "key", "name": "few/acme"}),
        ],
        refused="there is no limit whose key is few/acme",
    ),
    "resume a key of a limit": Case(
        operation="queues.resume",
        before=a_paused_key,
        doors=[
            Http("POST", f"{API}/keys/few%2Facme/resume"),
            Command(["keys", "resume", "few/acme"]),
            Form("/queues", "Resume"),
        ],
        deeds=[("key.resume", "few/acme")],
    ),
    "resume": Case(
        operation="queues.resume",
        before=a_paused_queue,
        doors=[
            Http("POST", f"{API}/queues/reports/resume"),
            Command(["queues", "resume", "reports"]),
            Form("/queues", "Resume"),
        ],
        deeds=[("queue.resume", "reports")],
    ),
    "resume what is not paused": Case(
        operation="queues.resume",
        doors=[
            Http("POST", f"{API}/types/test/resume"),
            Command(["types", "resume", "test"]),
            Sent("/queues/resume", {"kind": "type", "name": "test"}),
        ],
        refused="the type test is not paused",
    ),
    "drain": Case(
        operation="daemons.drain",
        before=daemons(DAEMON, f"{DAEMON}c"),
        doors=[
            Http("POST", f"{API}/daemons/{DAEMON}/drain"),
            Command(["drain", DAEMON]),
            Form(f"/daemons/drain?id={DAEMON}", "Drain this daemon"),
        ],
        deeds=[("daemon.drain", DAEMON)],
    ),
    "drain by a part of the id": Case(
        operation="daemons.drain",
        before=daemons(DAEMON, "host:8:00"),
        doors=[
            Http("POST", f"{API}/daemons/host:7/drain"),
            Command(["drain", "host:7"]),
            Sent("/daemons/drain", {"id": "host:7"}),
        ],
        deeds=[("daemon.drain", DAEMON)],
    ),
    "drain by a part that several have": Case(
        operation="daemons.drain",
        before=daemons(DAEMON, "host:8:00"),
        doors=[
            Http("POST", f"{API}/daemons/host/drain"),
            Command(["drain", "host"]),
            Sent("/daemons/drain", {"id": "host"}),
        ],
        refused=f"host is part of several daemons' ids: {DAEMON}, host:8:00; give more of one",
    ),
    "drain what is not there": Case(
        operation="daemons.drain",
        before=daemons(DAEMON),
        doors=[
            Http("POST", f"{API}/daemons/other/drain"),
            Command(["drain", "other"]),
            Sent("/daemons/drain", {"id": "other"}),
        ],
        refused="there is no live daemon other",
    ),
    "drain nothing": Case(
        operation="daemons.drain",
        before=daemons(DAEMON),
        doors=[
            Http("POST", f"{API}/daemons/%20/drain"),
            Command(["drain", " "]),
            Sent("/daemons/drain", {"id": " "}),
        ],
        refused="daemon is empty; a daemon's id or a part of it is needed",
    ),
    "create": Case(
        operation="schedules.create",
        doors=[
            Http(
                "POST",
                f"{API}/schedules",
                {"name": "nightly", "jobType": "send_mail", "cronExpr": "0 3 * * *", "maxAttempts": 5},
            ),
            Command(["schedules", "create", *NIGHTLY]),
            Form("/schedules/new", "Create it", {**TYPED, "max_attempts": "5"}),
        ],
        deeds=[("schedule.create", "id")],
    ),
    "create under a name that is taken": Case(
        operation="schedules.create",
        before=a_schedule(),
        doors=[
            Http("POST", f"{API}/schedules", {"name": "nightly", "jobType": "a", "cronExpr": "@daily"}),
            Command(["schedules", "create", *NIGHTLY]),
            Form("/schedules/new", "Create it", TYPED),
        ],
        refused="there is a schedule named nightly already",
    ),
    "import": Case(
        operation="schedules.create_all",
        doors=[
            Command(
                ["schedules", "import", "crontab", "crontab", "--create", "--timezone", "UTC"],
                by_api=False,
                files={"crontab": CRONTAB},
            )
        ],
        deeds=[("schedule.create", "id")],
    ),
    "update": Case(
        operation="schedules.update",
        before=a_schedule(),
        doors=[
            Http("PUT", f"{API}/schedules/{SCHEDULE}", {"cronExpr": "5 4 * * *", "timeoutSec": 5}),
            Http("PUT", f"{API}/schedules/nightly", {"cronExpr": "5 4 * * *", "timeoutSec": 5}),
            Command(["schedules", "update", "nightly", "--cron", "5 4 * * *", "--timeout", "5s"]),
            Form(f"/schedules/{SCHEDULE}", "Save", {"cron": "5 4 * * *", "timeout_s": "5"}),
        ],
        deeds=[("schedule.update", SCHEDULE)],
    ),
    "enable": Case(
        operation="schedules.enable",
        before=lambda conn: make_schedule(conn, id=SCHEDULE, name="nightly", enabled=False, next_run_at=None),
        doors=[
            Http("POST", f"{API}/schedules/nightly/enable"),
            Command(["schedules", "enable", "nightly"]),
            Form(f"/schedules/{SCHEDULE}", "Enable"),
        ],
        deeds=[("schedule.enable", SCHEDULE)],
    ),
    "disable": Case(
        operation="schedules.disable",
        before=a_schedule(),
        doors=[
            Http("POST", f"{API}/schedules/nightly/disable"),
            Command(["schedules", "disable", SCHEDULE]),
            Form(f"/schedules/{SCHEDULE}", "Disable"),
        ],
        deeds=[("schedule.disable", SCHEDULE)],
    ),
    "delete": Case(
        operation="schedules.delete",
        before=a_schedule(),
        doors=[
            Http("DELETE", f"{API}/schedules/nightly"),
            Command(["schedules", "delete", "nightly"]),
            Form(f"/schedules/{SCHEDULE}/delete", "Delete this schedule"),
        ],
        deeds=[("schedule.delete", SCHEDULE)],
    ),
    "trigger": Case(
        operation="schedules.trigger",
        before=a_schedule(enabled=False),
        doors=[
            Http("POST", f"{API}/schedules/nightly/trigger"),
            Command(["schedules", "trigger", SCHEDULE]),
            Form(f"/schedules/{SCHEDULE}", "Run now"),
        ],
        deeds=[("schedule.trigger", SCHEDULE)],
    ),
    "trigger what is not there": Case(
        operation="schedules.trigger",
        doors=[
            Http("POST", f"{API}/schedules/nightly/trigger"),
            Command(["schedules", "trigger", "nightly"]),
            Sent("/schedules/nightly/trigger"),
        ],
        refused="there is no schedule nightly",
    ),
}

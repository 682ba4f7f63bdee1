"""The harness is itself proven: bugs of the kind that queues have had, put in one by one, are each caught."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CAUGHT_WITHIN_S = 60
# The machine that runs the tests may be slow: what is over this is a hang.
GIVE_UP_S = 170


@dataclass(frozen=True, kw_only=True)
class Bug:
    """A change of one file, the faults that bring it to light, and the invariants that may tell of it."""

    name: str
    file: str
    replaces: tuple[tuple[str, str], ...]
    faults: str
    caught_by: frozenset[str]
    seconds: int = 7
    daemons: int = 2


def bug(
    name: str,
    file: str,
    old: str,
    new: str,
    faults: str,
    caught_by: str,
    *more: tuple[str, str],
    daemons: int = 2,
    seconds: int = 7,
) -> Bug:
    return Bug(
        name=name,
        file=file,
        replaces=((old, new), *more),
        faults=faults,
        caught_by=frozenset(caught_by.split()),
        daemons=daemons,
        seconds=seconds,
    )


# Limits are in force in every run.
LEASING = "storage/queue/beside_limits.py"
LEASES = "storage/queue/leases.py"
SETTLING = "storage/queue/settling.py"
RECOVERY = "storage/queue/recovery.py"
LIMITS = "../migrations/0019_limits.sql"
HELD = "SELECT job.id, job.lease_id\n        FROM _ayb_jobs AS job\n        JOIN "
RECOVERED_FROM_A_LIVING_WORKER = "stale_write_accepted unexplained_run run_without_lease"

BUGS = [
    bug(
        "a child is freed by the first of its parents",
        "storage/queue/dependencies.py",
        "WHERE other.child_id = waiting.child_id AND other.is_open\n",
        "WHERE false AND other.is_open\n",
        "none",
        "child_before_parent",
    ),
    bug(
        "nobody looks at a child again",
        "runtime/jobs/resolver.py",
        "        if time.monotonic() >= self._next_sweep:\n            self._sweep()\n",
        "",
        "none",
        "child_stuck",
        ("            self._ended.extend(ended)\n", "            pass\n"),
    ),
    bug(
        "a batch is done once the first of its members has ended",
        "storage/queue/batches.py",
        "        WHERE seen.unfinished = 0\n",
        "",
        "none",
        "callback_not_once",
        ("[Seen(*row) for row in", "[Seen(row[0], row[1], None) for row in"),
    ),
    bug(
        "nobody looks at a batch again",
        "runtime/jobs/batch_resolver.py",
        "        if time.monotonic() >= self._next_sweep:\n            self._sweep()\n",
        "",
        "none",
        "callback_not_once",
        ("            known.update(new)\n", "            pass\n"),
    ),
    bug(
        "a limit has a place too many for each look",
        LIMITS,
        "places := held.max_running - running_all",
        "places := held.max_running + 1 - running_all",
        "none",
        "limit_exceeded",
    ),
    bug(
        "nobody locks a limit",
        LIMITS,
        "it.name = p_name FOR NO KEY UPDATE;",
        "it.name = p_name;",
        "none",
        "limit_exceeded",
        daemons=4,
    ),
    bug(
        "a key of a limit has a place too many",
        LIMITS,
        "coalesce(held.key_max_running, 2147483647) - coalesce(running.jobs, 0),\n",
        "coalesce(held.key_max_running, 2147483646) + 1 - coalesce(running.jobs, 0),\n",
        "none",
        "limit_exceeded",
    ),
    bug(
        "a burst is one too many",
        LIMITS,
        "extract(epoch FROM at + held.burst * held.every -",
        "extract(epoch FROM at + (held.burst + 1) * held.every -",
        "none",
        "rate_exceeded",
    ),
    bug(
        "tokens are spent by halves",
        LIMITS,
        "+ cardinality(picked_keys) * held.every;",
        "+ cardinality(picked_keys) * held.every / 2;",
        "none",
        "rate_exceeded",
    ),
    bug(
        "the tokens of a key are spent by halves",
        LIMITS,
        "SELECT p_name, spent.key, at + count(*) * held.key_every\n",
        "SELECT p_name, spent.key, at + count(*) * held.key_every / 2\n",
        "none",
        "rate_exceeded",
    ),
    bug(
        "a paused key has places",
        LIMITS,
        "WHERE found.free > 0 AND found.key <> ALL (paused_keys)",
        "WHERE found.free > 0",
        "none",
        "paused_but_started",
    ),
    bug(
        "a child that holds is canceled with its parent",
        "storage/queue/dependencies.py",
        " AND rule <> 'hold'\n",
        "\n",
        "none",
        "child_not_held",
        ("AND rule = 'cancel' AND", "AND rule <> 'run' AND"),
    ),
    bug(
        "a pause of which nobody said when it ends has ended",
        "storage/fleet/pauses.py",
        "%(by)s, %(until)s)",
        "%(by)s, coalesce(%(until)s, now()))",
        "none",
        "paused_but_started",
    ),
    bug(
        "a job that is leased frees its unique key whatever its scope",
        LEASING,
        "unique_key = CASE WHEN unique_waiting THEN NULL ELSE unique_key END",
        "unique_key = NULL",
        "none",
        "unique_broken",
        seconds=15,
    ),
    bug(
        "a rate is not looked at",
        LIMITS,
        "            IF held.every IS NOT NULL THEN\n                spare",
        "            IF false THEN\n                spare",
        "none",
        "rate_exceeded",
        (
            "            IF held.every IS NOT NULL THEN\n                wait_s",
            "            IF false THEN\n                wait_s",
        ),
    ),
    bug(
        "the places of a killed daemon's jobs stay taken",
        RECOVERY,
        "WHERE state = 'running' AND lease_until < now() AND",
        "WHERE state = 'running' AND priority <= 4 AND lease_until < now() AND",
        "kill=10",
        "place_leaked",
        (
            "WHERE state = 'running' AND lease_until >= now() AND worker_id",
            "WHERE state = 'running' AND priority <= 4 AND lease_until >= now() AND worker_id",
        ),
    ),
    bug(
        "a job that is to end canceled may complete",
        "storage/queue/canceling.py",
        "            lease_id = NULL,\n            updated_at = CASE",
        "            updated_at = CASE",
        "none",
        "acknowledged_cancel_undone",
    ),
    bug(
        "a command is started twice",
        "handlers/kinds/exec.py",
        '        command = Command(ctx.services.spawner, self.request(ctx), payload + b"\\n")\n',
        "        for _ in range(2):\n"
        '            command = Command(ctx.services.spawner, self.request(ctx), payload + b"\\n")\n',
        "none",
        "ran_elsewhere_without_lease",
    ),
    bug(
        "a request that was answered is sent again",
        "handlers/kinds/http.py",
        "        answer = await clients[key].post(",
        "        await clients[key].post(address.url, body.encode(), headers=headers)\n"
        "        answer = await clients[key].post(",
        "none",
        "ran_elsewhere_without_lease",
    ),
    bug(
        "a cleanup completes without its first table",
        "handlers/kinds/cleanup.py",
        "in batches(deletes, parameters,",
        "in batches(deletes[1:], parameters,",
        "none",
        "completed_without_its_run",
    ),
    bug(
        "settling is not fenced",
        SETTLING,
        "AND job.id = ended.id AND job.lease_id = CASE job.state WHEN 'running' THEN ended.lease_id END\n",
        "AND job.id = ended.id\n",
        "pause=4",
        "stale_write_accepted change_after_completion illegal_transition",
    ),
    bug(
        "extending and releasing are not fenced",
        LEASES,
        " AND asked.lease_id = CASE job.state WHEN 'running' THEN job.lease_id END",
        "",
        "pause=4",
        "stale_write_accepted change_after_completion",
        (" AND held.lease_id = CASE job.state WHEN 'running' THEN job.lease_id END", ""),
        (" AND job.lease_id = free.lease_id", ""),
        (HELD + "unnest", HELD.replace("job.lease_id", "asked.lease_id") + "unnest"),
        (HELD + "held", HELD.replace("job.lease_id", "held.lease_id") + "held"),
    ),
    bug(
        "running jobs are leased too",
        LEASING,
        "WHERE job.state = 'queued' AND job.queue",
        "WHERE job.state IN ('queued', 'running') AND job.queue",
        "none",
        "stale_write_accepted run_without_lease illegal_transition",
    ),
    bug(
        "jobs are leased before they are due",
        LEASING,
        "AND job.run_at <= now()\n",
        "AND job.run_at <= now() + interval '1 second'\n",
        "none",
        "ran_before_due",
    ),
    bug(
        "giving a job back keeps its attempt",
        LEASES,
        "SET state = 'queued', attempts = greatest(job.attempts - 1, 0)",
        "SET state = 'queued', attempts = job.attempts",
        "term=6",
        "attempts_out_of_bounds",
    ),
    bug(
        "recovery ignores the attempts",
        "model/lifecycle.py",
        "    if job.attempt >= job.max_attempts:\n        error = ",
        "    if False:\n        error = ",
        "kill=60",
        "attempts_out_of_bounds",
        ("    elif crashes >= max_crashes:\n", "    elif False:\n"),
        seconds=30,  # a job of two attempts has to be killed twice
    ),
    bug(
        "recovery takes leases that are still valid",
        RECOVERY,
        "WHERE state = 'running' AND lease_until < now() AND",
        "WHERE state = 'running' AND lease_until < now() + interval '2.5 seconds' AND",
        "none",
        RECOVERED_FROM_A_LIVING_WORKER,
        ("OR job.lease_until < now())", "OR true)"),
    ),
    bug(
        "lost leases are never recovered",
        RECOVERY,
        "WHERE state = 'running' AND lease_until < now() AND",
        "WHERE false AND lease_until < now() AND",
        "kill=6",
        "never_ended recovered_late",
        ("WHERE state = 'running' AND lease_until >= now() AND worker_id", "WHERE false AND worker_id"),
    ),
    bug(
        "leases are never extended",
        "runtime/jobs/lease_keeper.py",
        "        if not due:\n",
        "        if True:\n",
        "none",
        "never_ended unexplained_run",
    ),
    bug(
        "a job is settled before its handler ends",
        "runtime/jobs/slot.py",
        "            failpoints.reach(failpoints.BEGUN)\n",
        "            self._settle(held, settle_result(job, None, started, started))\n",
        "none",
        "stale_write_accepted completed_without_its_run",
    ),
    bug(
        "a stop gives back jobs whose handlers run on",
        "daemon/daemon.py",
        "        abandoned = self._await_handlers(time.monotonic() + timeout_s)\n",
        "        self._parts.releaser.release(self._parts.in_flight.all())\n        abandoned = 0\n",
        "term=6",
        "attempts_out_of_bounds stale_write_accepted unexplained_run run_without_lease",
    ),
    bug(
        "nobody listens again after a lost connection",
        "runtime/notifier.py",
        "        except Exception:\n            self._disconnect()\n            raise\n",
        "        except Exception:\n            return FOR_EVER_S\n",
        "terminate=25",
        "notifications_unheard",
    ),
    bug(
        "a schedule fires by the host's clock",
        "runtime/chores/scheduler.py",
        "    for schedule, now in due:\n",
        "    for schedule, now in due:\n        now = datetime.now(now.tzinfo)\n",
        "clock=6",
        "schedule_fired_twice schedule_fire_missing",
    ),
    bug(
        "a fire is recorded and its job not made",
        "storage/schedules/fires.py",
        "        WHERE recorded.job_id IS NOT NULL\n",
        "        WHERE recorded.job_id IS NOT NULL AND extract(second FROM recorded.fire_at)::int %% 5 <> 0\n",
        "none",
        "schedule_fire_missing",
        ("WHERE recorded.job_id IS NOT NULL AND made.id IS NULL\n", "WHERE false\n"),
    ),
    bug(
        "a loop does not survive an error",
        "runtime/loop.py",
        "            self._emit(event)\n",
        "            self._emit(event)\n            self._stopped.set()\n",
        "terminate=25",
        "never_ended recovered_late notifications_unheard unexplained_run",
    ),
    bug(
        "an enqueue is acknowledged before it is committed",
        "client/sync_drivers.py",
        "            row: Row | None = cursor.execute(statement, with_literals(values)).fetchone()\n",
        "            row: Row | None = cursor.execute(statement, with_literals(values)).fetchone()\n"
        "            if row and row[0][-1] in '02468ace':\n"
        "                cursor.execute('DELETE FROM _ayb_jobs WHERE id = %s', (row[0],))\n",
        "none",
        "acknowledged_enqueue_lost illegal_transition",
    ),
    bug(
        "what cannot be settled at once is forgotten",
        "runtime/jobs/completer.py",
        "            if not self._patience.blames(error):\n",
        "            self._in_flight.remove([ended.job.lease_id for ended in self._batch])\n"
        "            self._batch = []\n"
        "            if not self._patience.blames(error):\n",
        "terminate=40",
        "unexplained_run attempts_out_of_bounds",
    ),
    bug(
        "a batch of leases counts one too many",
        "metrics/counting.py",
        'self._add("ayb_jobs_leased", self._type(job_type), by=count)',
        'self._add("ayb_jobs_leased", self._type(job_type), by=count + (count > 3))',
        "none",
        "metrics_do_not_add_up",
    ),
]


def put_in(bug: Bug, folder: Path) -> None:
    """Copy the package to `folder` with the bug in it, and what is compiled: all of it but the changed file holds."""
    shutil.copytree(ROOT / "ayb_jobs", folder / "ayb_jobs")
    shutil.copytree(ROOT / "migrations", folder / "migrations")
    (folder / "ayb_jobs" / bug.file).write_text(text_with(bug))


def text_with(bug: Bug) -> str:
    """Return the file of the package that a bug changes, with the bug in it."""
    text = (ROOT / "ayb_jobs" / bug.file).read_text()
    for old, new in bug.replaces:
        assert text.count(old) >= 1, f"{bug.file} no longer holds {old!r}: give this bug its new wording"
        text = text.replace(old, new)
    return text


def run_torture(folder: Path, bug: Bug) -> dict[str, object]:
    arguments = ["--seconds", str(bug.seconds), "--daemons", str(bug.daemons), "--faults", bug.faults]
    done = subprocess.run(
        [sys.executable, "-m", "ayb_jobs", "torture", "--seed", "7", "--drain", "15", "--json", *arguments],
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=GIVE_UP_S,
        check=False,
    )
    assert done.stdout, done.stderr[-2000:]
    told: dict[str, object] = json.loads(done.stdout)
    assert (done.returncode == 0) == told["passed"]
    if told["folder"]:
        shutil.rmtree(str(told["folder"]))
    return told


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_seeded_bug_can_be_put_in(bug: Bug) -> None:
    text = text_with(bug)
    if bug.file.endswith(".py"):
        compile(text, bug.file, "exec")


# In each change's tests stands one that needs no faults; `make test-slow` puts in all of them.
QUICK = {"an enqueue is acknowledged before it is committed"}


@pytest.mark.timeout(GIVE_UP_S + 10)
@pytest.mark.parametrize(
    "bug",
    [pytest.param(bug, id=bug.name, marks=[] if bug.name in QUICK else [pytest.mark.slow]) for bug in BUGS],
)
def test_a_seeded_bug_is_caught(bug: Bug, tmp_path: Path) -> None:
    put_in(bug, tmp_path)
    told = run_torture(tmp_path, bug)
    assert not told["passed"], told
    assert bug.caught_by & set(told["broken"]), told  # type: ignore[call-overload] # JSON

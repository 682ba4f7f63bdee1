"""Jobs that run a command: what it is given, what its end means, what is kept of it, and that nothing of it is left."""

import json
import os
import pwd
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import LogCapture

from ayb_jobs.errors import AttemptFailed, Discard, LeaseLost, NotFound, Stopped
from ayb_jobs.handlers.commands.spawner import MOST_PROCESSES
from ayb_jobs.handlers.context import JobContext, StopReason
from ayb_jobs.handlers.job_type import Handler
from ayb_jobs.handlers.kinds.exec import ExecSettings, exec_handler
from ayb_jobs.model.results import Snooze
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.queue.jobs import get_job
from ayb_jobs.storage.queue.outputs import read_output
from tests.eventually import eventually
from tests.handlers.conftest import Lease

SIGNALS = ("SigBlk", "SigIgn", "SigCgt")


def command(*args: str, **settings: Any) -> Handler:
    made = ExecSettings(exec=list(args), **settings)
    assert not list(made.contradictions())
    return exec_handler(made)


def shell(script: str, **settings: Any) -> Handler:
    return command("/bin/sh", "-c", script, **settings)


def output(conn: Connection, ctx: JobContext) -> str:
    return read_output(conn, ctx.job.id).output


def lives(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and is not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def descriptors(pid: int | str, kind: str = "") -> int:
    """Return how many descriptors of a process lead to what begins with `kind`."""
    return sum(target.startswith(kind) for target in targets(pid))


def targets(pid: int | str) -> Iterator[str]:
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that the list itself was read by
            yield str(entry.readlink())


def pid_in(file: Path) -> int:
    return int(eventually(lambda: file.exists() and file.read_text().strip()))


def test_it_gets_the_payload_on_standard_input_with_its_digits(lease: Lease, conn: Connection) -> None:
    leased = lease()
    ctx = JobContext(leased.job._replace(payload_text='{"price": 1.10, "a": "ü"}'), leased.services)
    assert command("cat", payload={"more": True, "a": "default"})(ctx) is None
    assert output(conn, ctx) == '{"more":true,"price": 1.10, "a": "ü"}\n'
    assert json.loads(output(conn, ctx)) == {"more": True, "price": 1.1, "a": "ü"}


def test_a_large_payload_arrives_whole(lease: Lease, conn: Connection) -> None:
    text = json.dumps("x" * 900_000)
    leased = lease()
    ctx = JobContext(leased.job._replace(payload_text=text), leased.services)
    command("wc", "-c")(ctx)
    assert output(conn, ctx).strip() == str(len(text) + 1)


def test_it_finds_its_job_in_a_clean_environment(
    lease: Lease, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AYB_JOBS_DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("AYB_JOBS_ADMIN_TOKEN", "token")
    monkeypatch.setenv("MY_TOOL_HOME", "/opt/tool")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    ctx = lease(scheduled_for="2030-01-31T08:00:00Z", traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")
    command("env", env={"COLOR": "blue"}, pass_env=["MY_TOOL_HOME", "NOT_THERE"])(ctx)
    found = dict(line.split("=", 1) for line in output(conn, ctx).splitlines())
    assert found.pop("PATH")
    told = {name: value for name, value in found.items() if name not in ("HOME", "USER", "LOGNAME", "SHELL", "TMPDIR")}
    assert {name: value for name, value in told.items() if not name.startswith("LANG") and name != "TZ"} == {
        "AYB_JOB_ID": ctx.job.id,
        "AYB_JOB_TYPE": "test",
        "AYB_JOB_ATTEMPT": "1",
        "AYB_JOB_SCHEDULED_FOR": "2030-01-31T08:00:00+00:00",
        "TRACEPARENT": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
        "LC_ALL": "C.UTF-8",
        "COLOR": "blue",
        "MY_TOOL_HOME": "/opt/tool",
    }


def test_no_shell_reads_its_arguments(lease: Lease, conn: Connection) -> None:
    ctx = lease()
    command("echo", "$HOME; `id` *")(ctx)
    assert output(conn, ctx) == "$HOME; `id` *\n"


def test_it_has_no_descriptors_but_its_own_and_signals_act_as_usual(lease: Lease, conn: Connection) -> None:
    ctx = lease()
    shell("ls /proc/self/fd; cat /proc/self/status")(ctx)
    lines = output(conn, ctx).splitlines()
    signals = {name: int(value, 16) for name, _, value in (line.partition(":") for line in lines) if name in SIGNALS}
    assert {int(line) for line in lines if line.isdigit()} - {4} == {0, 1, 2, 3}  # 4 is the folder that `ls` reads
    assert {name: mask & (1 << 31) - 1 for name, mask in signals.items()} == dict.fromkeys(SIGNALS, 0)


@pytest.mark.parametrize("settings", [{}, {"max_open_files": 64}], ids=["spawned", "forked"])
def test_each_is_in_a_session_and_a_group_of_its_own(lease: Lease, conn: Connection, settings: dict[str, int]) -> None:
    ctx = lease()
    shell("cut -d' ' -f1,5,6 /proc/$$/stat", **settings)(ctx)
    pid, group, session = output(conn, ctx).split()
    assert pid == group == session


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo broken >&2; exit 3", "exit code 3\nbroken"),
        ("kill -SEGV $$", "the command was killed by SIGSEGV"),
        ("exit 75", "exit code 75"),
        ("kill -40 $$", "the command was killed by signal 40"),
    ],
)
def test_another_end_is_a_failed_attempt_with_the_end_of_its_output(lease: Lease, script: str, told: str) -> None:
    with pytest.raises(AttemptFailed, match=f"^{told}$"):
        shell(script)(lease())


@pytest.mark.parametrize(("code", "what"), [(64, "usage"), (65, "data"), (78, "configuration")])
def test_codes_that_no_attempt_would_change_discard(lease: Lease, code: int, what: str) -> None:
    with pytest.raises(Discard, match=rf"^exit code {code} \({what}\)\nno such option$"):
        shell(f"echo no such option; exit {code}")(lease())


def test_code_75_with_a_time_snoozes(lease: Lease) -> None:
    assert shell("""echo '{"retry_after_s": 30}' >&3; exit 75""")(lease()) == Snooze(30)
    assert shell("""echo '{"retry_after_s": 0.01}' >&3; exit 75""")(lease()) == Snooze(1)
    for counts in ("""echo '{"retry_after_s": 30}' >&3; exit 1""", """echo '{"retry_after_s": 0}' >&3; exit 75"""):
        with pytest.raises(AttemptFailed, match="exit code"):
            shell(counts)(lease())


def test_progress_is_shown_and_its_records_are_counted(lease: Lease, conn: Connection, tmp_path: Path) -> None:
    ctx, go_on = lease(), tmp_path / "go on"
    script = f"""
        echo '{{"records": 7, "message": "half"}}' >&3
        until test -e '{go_on}'; do sleep 0.02; done
        printf '{{"records": 9}}' >&3"""
    running = threading.Thread(target=lambda: shell(script)(ctx))
    running.start()
    query = "SELECT progress FROM _ayb_jobs WHERE progress IS NOT NULL"
    assert eventually(lambda: conn.execute(query).fetchone()) == ({"message": "half", "records_processed": 7},)
    go_on.touch()
    running.join(10)
    assert ctx.records_processed == 9


STEPPING = """
    case "$AYB_JOB_STEPS" in
      *'"dump"'*) echo "found $AYB_JOB_STEPS" ;;
      *) echo '{"step": "dump", "result": {"rows": 7.50}}' >&3; echo '{"step": "dump", "result": "again"}' >&3 ;;
    esac"""


def test_a_step_is_kept_once_and_given_to_later_attempts(lease: Lease, conn: Connection) -> None:
    ctx = lease()
    handler = shell(STEPPING, steps=True)
    handler(ctx)
    handler(JobContext(ctx.job, ctx.services))
    assert output(conn, ctx) == 'found {"dump": {"rows": 7.5}}\n'
    [step] = json.loads(get_job(conn, ctx.job.id).steps_text or "[]")
    assert (step["name"], step["result"]) == ("dump", {"rows": 7.5})


def test_steps_of_a_flood_of_notes_are_all_kept(lease: Lease, conn: Connection) -> None:
    notes = "".join(f'{{"step": "{number}"}}\n' for number in range(150)) + '{"records": 1}\n' * 150
    command(sys.executable, "-c", f"import os; os.write(3, {notes.encode()!r})", steps=True)(lease())
    assert conn.execute("SELECT count(*) FROM _ayb_job_steps").fetchone() == (150,)


@pytest.mark.parametrize(
    ("note", "settings", "problem"),
    [
        ('{"step": "a"}', {}, "step a is not kept; set steps = true for the job type"),
        ('{"step": 1}', {"steps": True}, "step is 1; give its name"),
        ('{"step": ""}', {"steps": True}, "step is empty"),
    ],
)
def test_a_step_that_cannot_be_kept_is_told(
    lease: Lease, logs: LogCapture, conn: Connection, note: str, settings: dict[str, bool], problem: str
) -> None:
    command(sys.executable, "-c", f"import os, sys; os.write(3, b'{note}')", **settings)(lease())
    [line] = [entry for entry in logs.entries if entry["event"] == "command.note_refused"]
    assert problem in line["problem"]
    assert conn.execute("SELECT count(*) FROM _ayb_job_steps").fetchone() == (0,)


def test_the_steps_of_a_command_are_bounded_together(lease: Lease, logs: LogCapture, conn: Connection) -> None:
    script = 'import os\nfor name in "ab": os.write(3, b\'{"step": "%s", "result": "%s"}\\n\' % (name.encode(), b"x" * 40000))'
    command(sys.executable, "-c", script, steps=True)(lease())
    [line] = [entry for entry in logs.entries if entry["event"] == "command.note_refused"]
    assert line["problem"] == "step b is too large: a command's steps have at most 65536 bytes"
    assert conn.execute("SELECT name FROM _ayb_job_steps").fetchall() == [("a",)]


def test_a_note_that_is_wrong_is_told_once_and_changes_nothing(lease: Lease, logs: LogCapture) -> None:
    notes = [
        "no JSON",
        "[]",
        '{"recordz": 1}',
        '{"records": -1}',
        '{"retry_after_s": 1e400}',
        '{"message": 1}',
        "[" * 99999,
    ]
    shell("\n".join(f"echo '{note}' >&3" for note in notes[:6]))(lease())
    [line] = [entry for entry in logs.entries if entry["event"] == "command.note_refused"]
    assert "is not JSON" in line["problem"]
    for note in notes[1:]:
        logs.entries.clear()
        command(sys.executable, "-c", f"import os; os.write(3, b'{note}')")(lease())
        assert [entry["event"] for entry in logs.entries] == ["command.note_refused"]


def test_each_line_is_in_the_log_as_it_comes(lease: Lease, logs: LogCapture, tmp_path: Path) -> None:
    go_on = tmp_path / "go on"
    ctx = lease()
    script = f"printf 'one\\ntwo\\033[2J\\r\\n'; until test -e '{go_on}'; do sleep 0.02; done; printf three >&2"
    running = threading.Thread(target=lambda: shell(script)(ctx))
    running.start()

    def lines() -> list[str]:
        return [entry["line"] for entry in logs.entries if entry["event"] == "command.output"]

    eventually(lambda: lines() == ["one", r"two\x1b[2J"])
    go_on.touch()
    running.join(10)
    assert lines() == ["one", r"two\x1b[2J", "three"]
    assert logs.entries[0]["job_id"] == ctx.job.id


def test_a_flood_of_output_is_bounded_in_the_log_and_on_record(
    lease: Lease, logs: LogCapture, conn: Connection
) -> None:
    ctx = lease()
    shell("seq 1 1000000; head -c 10000000 /dev/zero | tr '\\0' x; echo; echo end")(ctx)
    lines = [entry for entry in logs.entries if entry["event"] == "command.output"]
    assert 1000 <= len(lines) < 5000
    [skipped] = [entry["lines"] for entry in logs.entries if entry["event"] == "command.output_skipped"]
    assert len(lines) + skipped == 1_000_002
    kept = output(conn, ctx)
    assert len(kept.encode()) <= 64 * 1024
    assert kept.endswith("end\n")


def test_secrets_are_masked_in_the_log_and_on_record(lease: Lease, logs: LogCapture, conn: Connection) -> None:
    ctx = lease()
    with pytest.raises(AttemptFailed) as failure:
        shell(
            'echo "connecting with $API_TOKEN as postgresql://joe:hidden@db/x"; exit 1', env={"API_TOKEN": "tok-12345"}
        )(ctx)
    for told in (str(failure.value), output(conn, ctx), logs.entries[0]["line"]):
        assert "connecting with *** as postgresql://joe:***@db/x" in told


def test_what_cannot_be_shown_is_kept_as_text(lease: Lease, conn: Connection) -> None:
    ctx = lease()
    shell("printf 'a\\000b\\377c\\tü\\n'")(ctx)
    assert output(conn, ctx) == "a\\x00b\ufffdc\tü\n"


def test_without_output_nothing_is_kept(lease: Lease, conn: Connection) -> None:
    ctx = lease()
    command("true")(ctx)
    with pytest.raises(NotFound):
        output(conn, ctx)


def test_output_is_not_kept_for_a_lease_that_is_lost(lease: Lease, conn: Connection) -> None:
    ctx = lease()
    conn.execute("UPDATE _ayb_jobs SET lease_id = gen_random_uuid()")
    command("echo", "late")(ctx)
    with pytest.raises(NotFound):
        output(conn, ctx)


@pytest.mark.parametrize("settings", [{}, {"max_open_files": 64}], ids=["spawned", "forked"])
@pytest.mark.parametrize(
    ("program", "settings_too", "told"),
    [
        ("/no/such/program", {}, "/no/such/program cannot be started: no such file or directory"),
        ("no-such-program", {}, "no-such-program cannot be started: it is in no folder of PATH"),
        ("/etc/passwd", {}, "/etc/passwd cannot be started: permission denied"),
        ("true", {"cwd": "/no/such/folder"}, "cannot be started: it cannot run in /no/such/folder: no such"),
    ],
)
def test_a_command_that_cannot_be_started_says_why(
    lease: Lease, program: str, settings_too: dict[str, Any], told: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(AttemptFailed, match=told):
        command(program, **settings, **settings_too)(lease())


def test_a_script_without_its_first_line_is_told_as_such(lease: Lease, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo hello\n")
    script.chmod(0o755)
    with pytest.raises(AttemptFailed, match="it is no program; a script needs a first line"):
        command(str(script))(lease())


def test_it_runs_in_its_folder_and_the_next_one_in_the_daemons(lease: Lease, conn: Connection, tmp_path: Path) -> None:
    first, second = lease(), lease()
    command("pwd", cwd=str(tmp_path))(first)
    command("pwd")(second)
    assert output(conn, first).strip() == str(tmp_path)
    assert output(conn, second).strip() == str(Path.cwd())


def test_limits_hold(lease: Lease, conn: Connection, tmp_path: Path) -> None:
    ctx = lease()
    shell("ulimit -n; ulimit -t", max_open_files=32, max_cpu_s=77)(ctx)
    assert output(conn, ctx).split() == ["32", "77"]
    with pytest.raises(AttemptFailed, match="MemoryError"):
        command(sys.executable, "-c", "x = bytearray(10**9)", max_memory_mb=300)(lease())
    with pytest.raises(AttemptFailed, match="SIGXFSZ"):
        shell(f"exec head -c 3000000 /dev/zero > {tmp_path}/large", max_file_mb=1)(lease())
    with pytest.raises(AttemptFailed, match=r"SIGXCPU|SIGKILL"):
        shell("while :; do :; done", max_cpu_s=1)(lease())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_it_runs_as_its_user(lease: Lease, conn: Connection) -> None:
    ctx = lease()
    shell("id -un; id -G; echo $HOME", user="nobody", cwd="/")(ctx)
    entry = pwd.getpwnam("nobody")
    groups = sorted(os.getgrouplist("nobody", entry.pw_gid))
    name, found, home = output(conn, ctx).splitlines()
    assert (name, sorted(map(int, found.split())), home) == ("nobody", groups, entry.pw_dir)
    with pytest.raises(AttemptFailed, match="this machine has no such user"):
        shell("true", user="nobody-at-all")(lease())


def stopped(lease: Lease, handler: Handler, begun: Callable[[], object], reason: StopReason) -> BaseException | None:
    """Run a handler, ask it to stop once it has begun, and return what it raised."""
    ctx = lease()
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            handler(ctx)
        except BaseException as error:
            raised.append(error)
        else:
            raised.append(None)

    running = threading.Thread(target=run)
    running.start()
    begun()
    ctx.stop(reason)
    running.join(20)
    assert raised, "it runs on"
    return raised[0]


@pytest.mark.parametrize("reason", ["timeout", "shutdown", "lease_lost"])
def test_a_stop_is_a_sigterm_to_the_whole_group(lease: Lease, tmp_path: Path, reason: StopReason) -> None:
    child = tmp_path / "child"
    started = time.monotonic()
    error = stopped(lease, shell(f"sleep 60 & echo $! > {child}; wait"), lambda: pid_in(child), reason)
    assert str(error) == "the command was killed by SIGTERM"
    assert not lives(pid_in(child))
    assert time.monotonic() - started < 8


def test_what_ends_well_once_told_is_done(lease: Lease, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    script = f"trap 'exit 0' TERM; echo 1 > {begun}; while :; do sleep 0.02; done"
    assert stopped(lease, shell(script), lambda: pid_in(begun), "shutdown") is None


def test_a_child_is_given_the_grace_that_its_parent_does_not_need(lease: Lease, tmp_path: Path) -> None:
    begun, cleaned = tmp_path / "begun", tmp_path / "cleaned"
    child = f"trap 'sleep 0.3; echo 1 > {cleaned}; exit' TERM; echo $$ > {begun}; while :; do sleep 0.02; done"
    stopped(lease, shell(f"sh -c '{child.replace(chr(39), chr(34))}' & wait"), lambda: pid_in(begun), "timeout")
    assert cleaned.exists()
    assert not lives(pid_in(begun))


def test_what_ignores_sigterm_is_killed_after_its_grace(lease: Lease, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    script = f"trap '' TERM; echo $$ > {begun}; while :; do sleep 0.02; done"
    started = time.monotonic()
    error = stopped(lease, shell(script, grace_s=0.3), lambda: pid_in(begun), "timeout")
    assert str(error) == "the command was killed by SIGKILL"
    assert 0.3 <= time.monotonic() - started < 5
    assert not lives(pid_in(begun))


def test_a_stopped_process_is_killed_as_well(lease: Lease, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    error = stopped(lease, shell(f"echo $$ > {begun}; kill -STOP $$", grace_s=5), lambda: pid_in(begun), "timeout")
    assert str(error) == "the command was killed by SIGTERM"


def test_what_it_leaves_in_its_group_is_killed_when_it_ends(lease: Lease, tmp_path: Path) -> None:
    left = tmp_path / "left"
    started = time.monotonic()
    assert shell(f"(trap '' TERM HUP; sleep 60; sleep 60) & echo $! > {left}")(lease()) is None
    assert not lives(pid_in(left))
    assert time.monotonic() - started < 5


def test_what_leaves_its_group_is_waited_for_by_nobody(lease: Lease, tmp_path: Path) -> None:
    left = tmp_path / "left"
    started = time.monotonic()
    assert shell(f"setsid sh -c 'echo $$ > {left}; exec sleep 60' & sleep 0.2")(lease()) is None
    assert time.monotonic() - started < 5
    os.kill(pid_in(left), signal.SIGKILL)


def test_a_command_that_closes_its_output_is_waited_for(lease: Lease, tmp_path: Path) -> None:
    done = tmp_path / "done"
    assert shell(f"exec >&- 2>&- 3>&-; sleep 0.3; echo 1 > {done}")(lease()) is None
    assert done.exists()


def test_no_command_begins_that_is_to_stop_already(lease: Lease, tmp_path: Path) -> None:
    endings: list[tuple[StopReason, type[Exception]]] = [("shutdown", Stopped), ("lease_lost", LeaseLost)]
    for reason, error in endings:
        ctx = lease()
        ctx.stop(reason)
        with pytest.raises(error):
            shell(f"touch {tmp_path}/begun")(ctx)
    assert not (tmp_path / "begun").exists()


def test_if_the_spawner_dies_what_runs_fails_is_killed_and_the_next_command_runs(lease: Lease, tmp_path: Path) -> None:
    child = tmp_path / "child"
    ctx = lease()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            shell(f"sleep 60 & echo $! > {child}; wait")(ctx)
        except AttemptFailed as error:
            raised.append(error)

    running = threading.Thread(target=run)
    running.start()
    pid = pid_in(child)
    [process] = ctx.services.spawner.pids()
    os.kill(process, signal.SIGKILL)
    running.join(10)
    assert [str(error) for error in raised] == ["the process that starts commands died, so the command was killed"]
    eventually(lambda: not lives(pid))
    assert command("true")(lease()) is None


def test_nothing_is_left_of_many_commands_at_once(lease: Lease) -> None:
    contexts = [lease() for _ in range(8)]
    results: list[object] = []

    def run(ctx: JobContext) -> None:
        results.extend(shell("cat >/dev/null; echo done")(ctx) for _ in range(10))

    def run_all() -> tuple[int, int]:
        threads = [threading.Thread(target=run, args=(ctx,)) for ctx in contexts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return descriptors("self", "pipe") + descriptors("self", "/memfd"), descriptors("self", "socket")

    pipes, sockets = run_all()
    pipes_after, sockets_after = run_all()
    assert results == [None] * 160
    assert pipes_after == pipes
    # One for each process that starts commands, and for each connection to the database; none for each of 80 commands.
    assert sockets_after <= sockets + MOST_PROCESSES + len(contexts)
    pids = contexts[0].services.spawner.pids()
    assert len(pids) <= MOST_PROCESSES
    for pid in pids:
        assert descriptors(pid) < 20
        assert Path(f"/proc/{pid}/task/{pid}/children").read_text() == ""


def test_only_commands_that_run_at_once_need_more_than_one_process_to_start_them(lease: Lease, tmp_path: Path) -> None:
    spawner = lease().services.spawner
    for _ in range(3):
        assert command("true")(lease()) is None
    with all_stopped() as run:
        for number in range(MOST_PROCESSES + 2):
            run(lease(), f"echo $$ > {tmp_path}/{number}; exec sleep 60")
            pid_in(tmp_path / str(number))
            assert len(spawner.pids()) == min(number + 1, MOST_PROCESSES)


def test_a_command_that_takes_long_to_start_keeps_no_other_from_it(lease: Lease, tmp_path: Path) -> None:
    with all_stopped() as run:
        run(lease(), f"echo $$ > {tmp_path}/pid; exec sleep 60")
        pid_in(tmp_path / "pid")
        [busy] = lease().services.spawner.pids()
        os.kill(busy, signal.SIGSTOP)
        try:
            assert command("true")(lease()) is None
        finally:
            os.kill(busy, signal.SIGCONT)


@contextmanager
def all_stopped() -> Iterator[Callable[[JobContext, str], None]]:
    """Give what runs a script in a thread of its own; at the end all are stopped and have ended."""
    begun: list[tuple[JobContext, threading.Thread]] = []

    def run(ctx: JobContext, script: str) -> None:
        begun.append((ctx, threading.Thread(target=swallow, args=(shell(script), ctx))))
        begun[-1][1].start()

    def swallow(handler: Handler, ctx: JobContext) -> None:
        with suppress(AttemptFailed):
            handler(ctx)

    try:
        yield run
    finally:
        for ctx, _ in begun:
            ctx.stop("shutdown")
        for _, thread in begun:
            thread.join(10)
    assert not any(thread.is_alive() for _, thread in begun)


def faults(**settings: Any) -> list[str]:
    return [f"{'.'.join(path)} {about}".strip() for path, about in ExecSettings(**settings).contradictions()]


def test_settings_that_start_nothing_are_refused() -> None:
    assert faults(cwd="/") == [
        'exec is missing; give a program and its arguments, such as ["/usr/local/bin/backup", "--all"]'
    ]
    assert faults(exec=["a\0b"]) == ["holds a NUL character, which no program can be given"]
    assert faults(exec=["a"], env={"A=B": ""}) == ["env names 'A=B', which no variable can be called"]
    assert faults(exec=["a"], env={"A": ""}, pass_env=["A"]) == ["pass_env and `env` both give A; keep one"]

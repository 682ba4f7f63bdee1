"""A forked program is to the tests what an executed one is."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import forked

pytestmark = pytest.mark.outer

# Told when a daemon imports its handlers.
FACTS = """
import json, os, signal, sys, time
from pathlib import Path
from ayb_jobs import Registry

registry = Registry()
streams = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")}
Path("facts.json").write_text(json.dumps({
    "argv": sys.argv, "path": sys.path, "environ": dict(os.environ), "folder": os.getcwd(), "parent": os.getppid(),
    "group": os.getpgrp() - os.getpid() * (os.getpgrp() == os.getpid()),
    "session": os.getsid(0) - os.getpid() * (os.getsid(0) == os.getpid()), "umask": os.umask(0o22),
    "descriptors": [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)],
    "signals": {number: str(signal.getsignal(number)) for number in signal.valid_signals()},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "zone": time.tzname,
    "streams": {name: [stream.encoding, stream.errors, stream.line_buffering, stream.write_through]
        for name, stream in streams.items()},
    "bytecode": sys.dont_write_bytecode,
}))
"""
SLEEPS = "import time\nprint('here', flush=True)\ntime.sleep(60)\n"
CHECK = [*forked.MODULE, "check-config"]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AYB_")}
    ours = {"AYB_JOBS_ENABLED": "true", "AYB_JOBS_HANDLERS_MODULES": "facts", "AYB_JOBS_HANDLERS_PACKS": ""}
    return kept | ours | more


def facts(start: Any, folder: Path, command: list[str], **options: Any) -> Mapping[str, Any]:
    folder.mkdir(exist_ok=True)
    (folder / "facts.py").write_text(FACTS)
    with (folder / "said").open("wb") as said:
        process = start(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said, **options)
        code = process.wait(60)
    found: dict[str, Any] = json.loads((folder / "facts.json").read_text())
    return found | {"code": code}


SCRIPT = [str(min(forked.SCRIPTS)), "check-config"]


@pytest.mark.parametrize(
    ("command", "options"),
    [(CHECK, {}), (CHECK, {"umask": 0o77}), (SCRIPT, {"start_new_session": True}), (SCRIPT, {"process_group": 0})],
    ids=["module", "umask", "session", "group"],
)
def test_a_forked_program_sees_what_an_executed_one_sees(
    tmp_path: Path, command: list[str], options: dict[str, Any]
) -> None:
    environ = environment(TZ="Asia/Kathmandu", PYTHONPATH="/nowhere:/else", PYTHONDONTWRITEBYTECODE="1")
    executed = facts(subprocess.Popen, tmp_path, command, env=environ, **options)
    for name, fact in facts(forked.Forked, tmp_path, command, env=environ, **options).items():
        assert (name, fact) == (name, executed[name])
    assert executed["parent"] == os.getpid()


def test_its_end_is_told_as_a_childs_is(tmp_path: Path) -> None:
    (tmp_path / "facts.py").write_text(SLEEPS)
    for number in (signal.SIGKILL, signal.SIGTERM):
        with forked.Forked(CHECK, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stdout.readline() == b"here\n"
            assert process.poll() is None
            process.send_signal(number)
            assert process.wait(30) == -number
    (tmp_path / "facts.py").write_text("no python")
    with forked.Forked(CHECK, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE) as process:
        assert "facts" in process.communicate(timeout=30)[1].decode()
        assert process.returncode == subprocess.run(
            CHECK, cwd=tmp_path, env=environment(), capture_output=True, check=False
        ).returncode != 0  # fmt: skip


def test_what_the_interpreter_reads_as_it_starts_has_the_program_executed() -> None:
    assert forked.is_forkable(CHECK, environment())
    assert not forked.is_forkable(CHECK, environment(LD_PRELOAD="faketime.so"))
    assert not forked.is_forkable(CHECK, environment(PYTHONOPTIMIZE="1"))
    assert not forked.is_forkable([sys.executable, "-c", "pass"], environment())
    assert not forked.is_forkable(["true"], environment())

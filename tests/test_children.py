"""Processes that were started are waited for without sleeping in between."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from ayb_jobs.children import ends_within
from ayb_jobs.handlers.commands.spawner import Request, Spawner
from ayb_jobs.runtime.executors.fork_server import DESCRIPTORS
from ayb_jobs.runtime.executors.forking import ForkServer


@pytest.fixture
def _no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `time.sleep` fail, as under libfaketime."""

    def fail(_: float) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(time, "sleep", fail)


def started(*command: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, stdin=subprocess.PIPE)


@pytest.mark.usefixtures("_no_sleep")
@pytest.mark.parametrize("has_pidfd", [True, False])
def test_a_process_that_has_ended_has_ended(monkeypatch: pytest.MonkeyPatch, *, has_pidfd: bool) -> None:
    if not has_pidfd:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    with started("/bin/true") as process:
        process.wait()
        assert ends_within(process, 5)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux tells of a process's end")
@pytest.mark.usefixtures("_no_sleep")
def test_the_end_of_a_process_is_heard_of_and_waited_for_no_longer_than_asked() -> None:
    with started("/bin/cat") as process:
        assert not ends_within(process, 0.01)
        threading.Timer(0.1, process.send_signal, [signal.SIGKILL]).start()
        assert ends_within(process, 30)
        assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="commands need Linux")
@pytest.mark.usefixtures("_no_sleep")
def test_the_processes_of_a_daemon_that_stops_are_waited_for_without_a_sleep() -> None:
    spawner, fork_server = Spawner(), ForkServer([])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        spawner.start(Request(program="/bin/true", args=["true"], env={}, limits={}), [theirs.fileno()] * 3).close()
        fork_server.fork([theirs.fileno()] * DESCRIPTORS, threading.Event())
    spawner.close()
    fork_server.close()

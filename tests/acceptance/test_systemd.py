"""What systemd hears of the daemon."""

import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from ayb_jobs.checks.loops import LoopAge
from ayb_jobs.process import sd_notify
from ayb_jobs.process.service import tell_systemd_until_stopped
from ayb_jobs.process.signals import watched_signals
from tests.acceptance.processes import executed, service


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket as systemd would give it; short, since paths of sockets are."""
    with tempfile.TemporaryDirectory() as folder, closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as ours:
        path = str(Path(folder) / "notify")
        ours.bind(path)
        ours.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield ours


def until(ours: socket.socket, wanted: str) -> list[str]:
    """Return the messages up to the one that begins with `wanted`."""
    messages: list[str] = []
    while not (messages and messages[-1].startswith(wanted)):
        messages.append(ours.recv(4096).decode())
    return messages


def test_systemd_hears_of_start_life_and_stop(
    tmp_path: Path, database_url: str, systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    with executed(tmp_path, database_url) as running:
        before = until(systemd, "READY=1")
        assert before[0] == "STATUS=waiting for the database"
        until(systemd, "WATCHDOG=1")
        until(systemd, "WATCHDOG=1")
        running.send(signal.SIGTERM)
        last = until(systemd, "STOPPING=1")[-1]
        assert "EXTEND_TIMEOUT_USEC=70000000" in last
        assert running.wait() == 0


def test_systemd_hears_of_a_reload(tmp_path: Path, database_url: str, systemd: socket.socket) -> None:
    with service(tmp_path, database_url) as running:
        until(systemd, "READY=1")
        running.send(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in until(systemd, "RELOADING=1")[-1]
        until(systemd, "READY=1")
        running.await_event("daemon.reloaded")


def test_the_unit_has_its_daemon_reload_by_the_signal_for_that() -> None:
    unit = (Path(__file__).parents[2] / "deploy" / "ayb-jobs.service").read_text()
    assert "\nExecReload=/bin/kill -HUP $MAINPID\n" in unit


def test_a_watchdog_meant_for_another_process_is_not_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    assert sd_notify.watchdog_interval_s() == 0.2
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert sd_notify.watchdog_interval_s() is None


def test_the_watchdog_is_fed_unless_a_loop_needs_a_restart(
    systemd: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    well, stuck = LoopAge("producer", 1.0, 10.0), LoopAge("producer", 11.0, 10.0)
    waiting = LoopAge("recoverer", 61.0, 60.0, failing=True, waits_for_database=True)
    failing = LoopAge("http", 61.0, 60.0, failing=True)
    looks = [[stuck], [well, failing], [well], [well, stuck], [waiting], []]
    with watched_signals() as signals:

        def loops() -> list[LoopAge]:
            sd_notify.status(f"{len(looks)} looks left")
            look = looks.pop(0)
            if not looks:
                signals(signal.SIGTERM, None)
            return look

        tell_systemd_until_stopped(cast(Any, None), signals, cast(Any, None), loops)
    sd_notify.status("over")
    messages = until(systemd, "STATUS=over")[1:-1]
    left = [message.removeprefix("STATUS=").partition(" ")[0] for message in messages]
    assert left == ["6", "5", "4", "WATCHDOG=1", "3", "2", "WATCHDOG=1", "1", "WATCHDOG=1"]


def test_an_abstract_socket_is_served_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as ours:
        ours.bind("\0ayb-jobs-test")
        ours.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@ayb-jobs-test")
        sd_notify.watchdog()
        assert ours.recv(100) == b"WATCHDOG=1"


def test_a_socket_that_is_gone_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/notify")
    sd_notify.ready()

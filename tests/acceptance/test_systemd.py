"""What systemd hears of the daemon."""

import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ayb_jobs.process import sd_notify
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

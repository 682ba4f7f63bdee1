"""Drops a daemon's packets: only in a network namespace of the harness's own, never in the machine's."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHAIN = "AYB_JOBS_TORTURE"
OWN = "TORTURE_OWN_NETWORK"


def is_own() -> bool:
    """Tell whether this process runs in a network made for it, in which packets may be dropped."""
    return os.environ.get(OWN) == "1"


def can_have_own() -> bool:
    """Tell whether a network namespace can be made here."""
    programs = all(shutil.which(program, path=_PATH) for program in ("unshare", "ip", "iptables"))
    if os.geteuid() != 0 or not programs:
        return False
    tried = subprocess.run(
        ["unshare", "--net", "sh", "-c", "ip link set lo up && iptables -L"],
        env={"PATH": _PATH},
        capture_output=True,
        check=False,
    )
    return tried.returncode == 0


_PATH = "/usr/sbin:/sbin:/usr/bin:/bin:" + os.environ.get("PATH", "")


def enter_own(arguments: list[str]) -> None:
    """Replace this process by one with the same arguments in a network of its own, in which only loopback is."""
    environ = {**os.environ, OWN: "1", "PATH": _PATH}
    script = 'ip link set lo up && exec "$@"'
    os.execvpe("unshare", ["unshare", "--net", "sh", "-c", script, "sh", *arguments], environ)  # noqa: S606 - our own arguments


class Network:
    """The packets of one process at a time can be dropped, by the ports of its connections."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def cut(self, pid: int) -> Iterator[None]:
        """Drop every packet of the connections that a process has now, in both directions, without a word to either."""
        ports = local_ports(pid)
        for port in ports:
            self._rule("-I", port)
        try:
            yield
        finally:
            for port in ports:
                self._rule("-D", port)

    def heal(self) -> None:
        """Drop nothing any more."""
        if is_own():
            self._iptables("-F", "INPUT")

    def _rule(self, action: str, port: int) -> None:
        self._iptables(action, "INPUT", "-p", "tcp", "--sport", str(port), "-j", "DROP")
        self._iptables(action, "INPUT", "-p", "tcp", "--dport", str(port), "-j", "DROP")

    def _iptables(self, *arguments: str) -> None:
        with self._lock:
            subprocess.run(
                ["iptables", "-w", *arguments],
                env={"PATH": _PATH},
                check=True,
                capture_output=True,
            )


def local_ports(pid: int) -> list[int]:
    """Return the local TCP ports of a process's connections."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[len("socket:[") : -1])
    lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return sorted({int(row[1].rpartition(":")[2], 16) for row in rows if row[9] in inodes})

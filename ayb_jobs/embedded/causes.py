"""What keeps PostgreSQL from being made or started, in words, from what its programs say."""

import os
import re
import shutil
from pathlib import Path

PROCESS_NUMBER = re.compile(r"[1-9][0-9]{0,9}")
NO_SPACE = "No space left on device"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where PostgreSQL itself makes its shared memory


def cause(said: str, home: Path) -> str:
    """Return why a program failed: the cause if we know it, else its last lines."""
    for line in said.splitlines():
        if NO_SPACE in line and "shared memory" in line:
            return (
                f"{SHARED_MEMORY} is full or too small ({_free(SHARED_MEMORY)} free); PostgreSQL keeps shared memory in it."
                " A container gets more with --shm-size=64m"
            )
        if NO_SPACE in line:
            return f"the disk is full ({_free(home)} free); a new database takes 50 MB"
    return last_lines(said)


def process_number(lines: list[str]) -> int | None:
    """Return the number of the process that a `postmaster.pid` names, or None if it names none."""
    first = lines[0].strip() if lines else ""
    return int(first) if PROCESS_NUMBER.fullmatch(first) else None


def pid_file_fault(pid_file: Path, lines: list[str]) -> str | None:
    """Return what is wrong with a `postmaster.pid`, by which PostgreSQL would refuse to start; None if nothing is."""
    if process_number(lines) is not None:
        return None
    holds = f"begins with {lines[0][:40]!r}" if lines else "is empty"
    return (
        f"{pid_file} {holds}, where the number of a process should be, as after a crash of the machine."
        " If no PostgreSQL runs on this folder, remove the file"
    )


def last_lines(text: str) -> str:
    """Return the last lines that a program said, as one."""
    return "; ".join(line.strip() for line in text.splitlines()[-4:] if line.strip()) or "it said nothing"


def _free(folder: Path) -> str:
    try:
        return f"{shutil.disk_usage(folder).free // 2**20} MB"
    except OSError as error:
        return os.strerror(error.errno or 0)

"""Waits for a process that this one has started."""

import os
import select
import subprocess
from contextlib import suppress


def ends_within(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Wait for a process to end; tell whether it has.

    The kernel tells of the end at once. `Popen.wait` looks again and again instead, and sleeps between: that costs up
    to 50 ms, and raises an error where a library sets the process's clock (libfaketime knows no `time.sleep`).
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # not on Linux, or it was waited for already
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        return process.poll() is not None
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(seconds * 1000)
    finally:
        os.close(descriptor)
    return process.poll() is not None


def end(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Wait for a process that is to end by itself; end it by force if it takes longer."""
    if not ends_within(process, seconds):
        process.kill()
    process.wait()

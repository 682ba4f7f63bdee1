"""What a service tells systemd: one datagram to the socket named by `NOTIFY_SOCKET`. Without one, nothing is told."""

import os
import socket
import time
from contextlib import suppress


def ready() -> None:
    """Tell that the daemon runs."""
    notify("READY=1\nSTATUS=running")


def reloading() -> None:
    """Tell that the settings are read again; `ready` ends it."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}\nSTATUS=reloading")


def stopping(within_s: float) -> None:
    """Tell that the daemon is stopping, and may take so long for it."""
    notify(f"STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC={round(within_s * 1_000_000)}")


def status(text: str) -> None:
    """Tell what the daemon is doing, in one line."""
    notify(f"STATUS={text.splitlines()[0] if text else ''}")


def watchdog() -> None:
    """Tell that the daemon still makes progress."""
    notify("WATCHDOG=1")


def watchdog_interval_s() -> float | None:
    """Return how often systemd wants to hear of progress, in seconds; half of what it allows.

    None where it does not.
    """
    allowed_us = os.environ.get("WATCHDOG_USEC", "")
    ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(allowed_us) / 1_000_000 / 2 if allowed_us.isdigit() and int(allowed_us) and ours else None


def notify(message: str) -> None:
    """Send a message to systemd. One that cannot be sent is dropped: the daemon must not depend on being heard."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(message.encode(), f"\0{address[1:]}" if address.startswith("@") else address)

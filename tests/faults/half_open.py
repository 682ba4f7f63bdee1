"""Run in a network of its own: how soon each kind of wait notices that packets are dropped. Prints JSON.

Among what waits is the server, for clients that are gone.
"""

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.lab.torture.network import Network
from ayb_jobs.storage.database import Connection, connect
from ayb_jobs.storage.listener import Listener

PORT = 54330
GIVE_UP_S = 40.0
EACH = 2


def noticed(wait: Callable[[], object], into: dict[str, float], name: str) -> None:
    """Note how long it takes until waiting raises."""
    began = time.monotonic()
    try:
        while time.monotonic() - began < GIVE_UP_S:
            wait()
    except Exception:
        into[name] = round(time.monotonic() - began, 2)


LISTENERS = "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'listener%'"


def let_go(local: Connection, into: dict[str, float]) -> None:
    """Note how long the server keeps each idle connection."""
    began = time.monotonic()
    left = {name for (name,) in local.execute(LISTENERS)}
    while left and time.monotonic() - began < GIVE_UP_S:
        there = {name for (name,) in local.execute(LISTENERS)}
        into |= {f"server's {name}": round(time.monotonic() - began, 2) for name in left - there}
        left &= there
        time.sleep(0.1)


def main() -> None:
    """Cut connections of each kind: what is idle, what waits for a reply, and what is sent after the cut."""
    taken: dict[str, float] = {}
    with EmbeddedPostgres.throwaway(tcp_port=PORT) as server, ExitStack() as opened:
        url = server.url(tcp=True)
        threads = []
        for number in range(EACH):
            listener = opened.enter_context(closing(Listener(url, name=f"listener {number}")))
            waiting, sending = (
                opened.enter_context(closing(connect(url, name=name))) for name in ("waiting", "sending")
            )
            waits: dict[str, Callable[[], object]] = {
                "idle": partial(listener.wait, 1.0),
                "waiting": partial(waiting.execute, "SELECT pg_sleep(29)"),
                "sending": partial(sending.execute, "SELECT 1"),
            }
            threads += [
                threading.Thread(target=noticed, args=(wait, taken, f"{kind} {number}")) for kind, wait in waits.items()
            ]
        local = opened.enter_context(closing(connect(server.url(), name="local")))
        threads.append(threading.Thread(target=let_go, args=(local, taken)))
        with Network().cut(os.getpid()):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    print(json.dumps(taken))


if __name__ == "__main__":
    main()

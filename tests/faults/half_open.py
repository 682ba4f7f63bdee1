"""Run in a network of its own: how soon each kind of wait notices that packets are dropped. Prints JSON."""

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.storage.database import Listener, connect
from ayb_jobs.torture.network import Network

PORT = 54330
GIVE_UP_S = 40.0
EACH = 2


def noticed(wait: Callable[[], object], into: dict[str, float], name: str) -> None:
    """Note how long it takes until waiting raises."""
    began = time.monotonic()
    try:
        while time.monotonic() - began < GIVE_UP_S:
            wait()
    except Exception:  # noqa: BLE001 - that is what is measured
        into[name] = round(time.monotonic() - began, 2)


def main() -> None:
    """Cut connections of each kind: what is idle, what waits for a reply, and what is sent after the cut."""
    taken: dict[str, float] = {}
    with EmbeddedPostgres.throwaway(tcp_port=PORT) as server, ExitStack() as opened:
        url = server.url(tcp=True)
        threads = []
        for number in range(EACH):
            listener = opened.enter_context(closing(Listener(url, name="listener")))
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
        with Network().cut(os.getpid()):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    print(json.dumps(taken))  # noqa: T201 - the answer


if __name__ == "__main__":
    main()

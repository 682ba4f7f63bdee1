"""Run in a network of its own: how soon each kind of wait notices that packets are dropped. Prints JSON."""

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import closing

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.storage.database import Listener, connect
from ayb_jobs.torture.network import Network

PORT = 54330
GIVE_UP_S = 40.0


def noticed(wait: Callable[[], object], into: dict[str, float], name: str) -> None:
    """Note how long it takes until waiting raises."""
    began = time.monotonic()
    try:
        while time.monotonic() - began < GIVE_UP_S:
            wait()
    except Exception:  # noqa: BLE001 - that is what is measured
        into[name] = round(time.monotonic() - began, 2)


def main() -> None:
    """Cut what is idle, what waits for a reply, and what is sent after the cut."""
    taken: dict[str, float] = {}
    with EmbeddedPostgres.throwaway(tcp_port=PORT) as server:
        url = server.url(tcp=True)
        listener = Listener(url, name="listener")
        waiting, sending = connect(url, name="waiting"), connect(url, name="sending")
        threads = [
            threading.Thread(target=noticed, args=(lambda: listener.wait(1.0), taken, "idle")),
            threading.Thread(target=noticed, args=(lambda: waiting.execute("SELECT pg_sleep(29)"), taken, "waiting")),
            threading.Thread(target=noticed, args=(lambda: sending.execute("SELECT 1"), taken, "sending")),
        ]
        with closing(listener), closing(waiting), closing(sending), Network().cut(os.getpid()):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    print(json.dumps(taken))  # noqa: T201 - the answer


if __name__ == "__main__":
    main()

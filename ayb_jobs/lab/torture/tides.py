"""Limits that come and go while the daemons work: these have a statement for leasing beside limits, and one for none.

Jobs of limited types are enqueued only while their limits are in force, and a limit goes once none of them is left, so
that whatever the evidence holds of them has to obey.
"""

import time
from collections.abc import Callable, Iterator, Sequence

from ayb_jobs.lab.torture.clients import Client
from ayb_jobs.lab.torture.retrying import RetryingConnection
from ayb_jobs.lab.torture.workload import FEW, KEY_RATED, KEYED, RATED
from ayb_jobs.model.limits import NewLimit
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fleet.limits import count_unconfirmed, remove_limit, set_limit

# What `JOB_LIMITS` of `workload.py` tells the checker.
LIMITS = (
    NewLimit(name=FEW, types=[FEW], max_running=2),
    NewLimit(name=RATED, types=[RATED], rate="20/s", burst=2),
    NewLimit(name=KEYED, types=[KEYED], key_field="tenant", key_max_running=1),
    NewLimit(name=KEY_RATED, types=[KEY_RATED], key_rate="10/s", key_burst=2),
)
IN_FORCE_S, GONE_S = 8.0, 4.0
LEFT = """
    SELECT count(*)
    FROM _ayb_jobs
    WHERE type IN ('torture_few', 'torture_rated', 'torture_keyed', 'torture_key_rated')
        AND state IN ('queued', 'running')
"""


class Tides:
    """Has limits come and go, a step further in each `turn`. `came` is how often they have come.

    While they are `in_force`, jobs of their types may be enqueued.
    """

    def __init__(self, database: RetryingConnection, clients: Sequence[Client]) -> None:
        self.came = 0
        self.in_force = False
        self._database = database
        self._clients = clients
        self._waits_for: Callable[[], bool] = lambda: True
        self._steps = self._come_and_go()

    def turn(self) -> None:
        """Take the next step, if what it waits for is so."""
        if self._waits_for():
            self._waits_for = next(self._steps)

    def _come_and_go(self) -> Iterator[Callable[[], bool]]:
        while True:
            self._database.ask(set_limits)
            yield lambda: self._database.ask(count_unconfirmed) == 0
            self.came += 1
            self._allow(allowed=True)
            yield after(IN_FORCE_S)
            self._allow(allowed=False)
            yield lambda: not any(client.takes_limited for client in self._clients) and self._database.number(LEFT) == 0
            self._database.ask(remove_limits)
            yield after(GONE_S)

    def _allow(self, *, allowed: bool) -> None:
        self.in_force = allowed
        for client in self._clients:
            client.allow_limited(allowed=allowed)


def after(seconds: float) -> Callable[[], bool]:
    """Return what tells whether so many seconds have gone by."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def set_limits(conn: Connection) -> None:
    """Set all limits of the run."""
    with conn.transaction():
        for limit in LIMITS:
            set_limit(conn, limit, by="torture")


def remove_limits(conn: Connection) -> None:
    """Remove all limits of the run."""
    with conn.transaction():
        for limit in LIMITS:
            remove_limit(conn, limit.name)

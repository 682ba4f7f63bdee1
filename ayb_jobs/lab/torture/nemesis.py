"""Who injects the faults, and writes down what was done to whom, and when."""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from functools import partial

import psycopg

from ayb_jobs.embedded import EmbeddedPostgres
from ayb_jobs.errors import DatabaseError
from ayb_jobs.lab.checker import Fault
from ayb_jobs.lab.checker.evidence import DATABASE
from ayb_jobs.lab.torture.fleet import Daemon
from ayb_jobs.lab.torture.network import Network
from ayb_jobs.lab.torture.plan import KINDS, dealt, libfaketime
from ayb_jobs.storage.database import connect

DAEMON_PAUSE_S = 4.0
DATABASE_PAUSE_S = 1.0
EXHAUSTED_S = 2.0
# From a daemon's first run until a fault strikes it, on average, so that its slots are full by then.
AT_WORK_S = 0.25
# A daemon that has complained of nothing by then has not noticed that it is cut off.
UNNOTICED_S = 15.0
# Some connections are terminated in most faults, and all of them in some. A fleet has few, since its loops share them.
ALL = 0.2
SOME = (0.2, 0.9)

# Of this run's daemons alone: the server may serve others.
TERMINATE = """
    SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name ^@ %(application)s AND random() < %(share)s
"""


class Nemesis:
    """Strikes the daemons, each in a thread of its own, and the database."""

    def __init__(
        self,
        *,
        daemons: list[Daemon],
        server: EmbeddedPostgres | None,
        url: str,
        application: str,
        seed: int,
        wanted: Mapping[str, int | None],
        seconds: float,
        lease_s: float,
    ) -> None:
        self.faults: list[Fault] = []
        self._daemons = daemons
        self._server = server
        self._url = url
        self._application = application
        self._seed = seed
        self._on_daemons = {name: count for name, count in wanted.items() if not KINDS[name].on_database}
        self._on_database = {name: count for name, count in wanted.items() if KINDS[name].on_database}
        self._seconds = seconds
        self._lease_s = lease_s
        self._stopped = threading.Event()
        self._network = Network()
        self._threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []

    def start(self) -> None:
        """Begin."""
        for daemon in self._daemons:
            self._spawn(partial(self._torment, daemon))
        self._spawn(self._torment_database)

    @property
    def counted(self) -> bool:
        """Whether a certain number of faults is wanted, so that they come to an end."""
        return any(count is not None for count in (*self._on_daemons.values(), *self._on_database.values()))

    def running(self) -> bool:
        """Tell whether there are faults still to come."""
        return any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Let the faults under way be the last, and wait for them: every daemon runs then, and the database too."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        self._network.heal()

    def _spawn(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - handed to whoever waits
                self.errors.append(error)

        thread = threading.Thread(target=run, name="nemesis", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _chance(self, lane: str) -> random.Random:
        return random.Random(f"{self._seed}/{lane}")

    def _torment(self, daemon: Daemon) -> None:
        lane = self._daemons.index(daemon)
        chance = self._chance(f"daemon/{lane}")
        pause_s = self._pause_s(self._on_daemons, len(self._daemons), DAEMON_PAUSE_S)
        kinds = dealt(self._chance("daemons"), self._on_daemons, lane, len(self._daemons))
        for kind in self._paced(kinds, chance, pause_s, at_least_s=AT_WORK_S, ready=daemon.await_work):
            getattr(self, f"_{kind}")(daemon, chance)

    def _torment_database(self) -> None:
        chance = self._chance("database")
        pause_s = self._pause_s(self._on_database, 1, DATABASE_PAUSE_S)
        for kind in self._paced(dealt(self._chance("database deck"), self._on_database), chance, pause_s):
            getattr(self, f"_{kind}")(chance)

    def _paced(
        self,
        kinds: Iterator[str],
        chance: random.Random,
        pause_s: float,
        *,
        at_least_s: float = 0.0,
        ready: Callable[[], None] = lambda: None,
    ) -> Iterator[str]:
        """Yield each fault when it is due, about every `pause_s`, and the victim is `ready` and was so for a moment.

        A fault that was late does not delay those after it.
        """
        due = time.monotonic()
        for kind in kinds:
            due += chance.uniform(0, 2 * pause_s)
            ready()
            self._stopped.wait(max(due - time.monotonic(), chance.uniform(0, 2 * at_least_s)))
            if self._stopped.is_set():
                return
            yield kind

    def _pause_s(self, wanted: Mapping[str, int | None], lanes: int, usual_s: float) -> float:
        """Return the mean time between two faults of a lane, so that counted ones are spread over the whole time."""
        total = sum(count or 0 for count in wanted.values())
        return self._seconds * lanes / total if total else usual_s

    def _note(
        self,
        kind: str,
        target: str,
        began: float,
        *,
        graceful: bool = False,
        detail: str = "",
        backends: int = 0,
        noticed: float | None = None,
    ) -> None:
        self.faults.append(Fault(kind, target, began, time.monotonic(), graceful, detail, backends, noticed))

    def _kill(self, daemon: Daemon, _chance: random.Random) -> None:
        began = time.monotonic()
        daemon.send(signal.SIGKILL)
        daemon.await_end()
        self._note("kill", daemon.name, began)
        daemon.start()

    def _term(self, daemon: Daemon, _chance: random.Random) -> None:
        self.stop_gracefully(daemon, "term")
        daemon.start()

    def stop_gracefully(self, daemon: Daemon, kind: str) -> None:
        """Ask a daemon to stop, once it can hear that, and wait for its end."""
        daemon.await_ears()
        began = time.monotonic()
        daemon.send(signal.SIGTERM)
        code = daemon.await_end()
        detail = "no end, so that it was killed" if code is None else f"exit {code}"
        self._note(kind, daemon.name, began, graceful=True, detail=detail)

    def _pause(self, daemon: Daemon, chance: random.Random) -> None:
        began = time.monotonic()
        daemon.send(signal.SIGSTOP)
        # Not cut short by the end of the phase: a pause is of use only beyond the lease.
        time.sleep(self._lease_s + chance.uniform(0.5, 2))
        daemon.send(signal.SIGCONT)
        self._note("pause", daemon.name, began)

    def _log_pipe(self, daemon: Daemon, _chance: random.Random) -> None:
        self.stop_gracefully(daemon, "log_pipe")
        daemon.start(unread_log=True)

    def _clock(self, daemon: Daemon, chance: random.Random) -> None:
        self.stop_gracefully(daemon, "clock")
        offset_s = round(chance.uniform(-7200, 7200))
        daemon.start(
            environ={"LD_PRELOAD": libfaketime() or "", "FAKETIME": f"{offset_s:+d}", "DONT_FAKE_MONOTONIC": "1"}
        )

    def _cut(self, daemon: Daemon, chance: random.Random) -> None:
        began = time.monotonic()
        log = daemon.log.stat().st_size if daemon.log.exists() else None
        with self._network.cut(daemon.pid):
            noticed = None if log is None else daemon.await_complaint(log, within_s=UNNOTICED_S)
            time.sleep(max(0.0, began + self._lease_s + chance.uniform(1, 3) - time.monotonic()))
        detail = "" if noticed is None else f"noticed it after {noticed - began:.1f} s"
        self._note("cut", daemon.name, began, detail=detail, noticed=noticed)
        daemon.await_recovery()  # what has not recovered has no more to say when it is cut off again

    def _terminate(self, chance: random.Random) -> None:
        began = time.monotonic()
        share = 1.0 if chance.random() < ALL else chance.uniform(*SOME)
        with suppress(psycopg.Error, DatabaseError), closing(connect(self._url, name="torture-nemesis")) as conn:
            row = conn.execute(TERMINATE, {"application": self._application, "share": share}).fetchone()
            self._note("terminate", DATABASE, began, backends=row[0] if row else 0)

    def _restart_immediate(self, _chance: random.Random) -> None:
        self._restart("restart_immediate")

    def _restart_fast(self, _chance: random.Random) -> None:
        self._restart("restart_fast")

    def _restart(self, kind: str) -> None:
        assert self._server is not None, "no server to restart"
        began = time.monotonic()
        self._server.restart("immediate" if kind == "restart_immediate" else "fast")
        self._note(kind, DATABASE, began)

    def _exhaust(self, _chance: random.Random) -> None:
        began = time.monotonic()
        taken = list(self._take_all())
        self._stopped.wait(EXHAUSTED_S)
        for conn in taken:
            conn.close()
        self._note("exhaust", DATABASE, began)

    def _take_all(self) -> Iterator[psycopg.Connection[object]]:
        while True:
            try:
                yield connect(self._url, name="torture-hog")
            except DatabaseError:
                return

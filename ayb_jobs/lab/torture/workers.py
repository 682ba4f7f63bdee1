"""The workers in other languages that work beside the daemons, each in a process of its own."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.conninfo import make_conninfo

from ayb_jobs.errors import DatabaseError
from ayb_jobs.lab.checker import Fault
from ayb_jobs.lab.torture import effects
from ayb_jobs.lab.torture.fleet import Setting
from ayb_jobs.lab.torture.sql_worker import DATABASE_URL, WORKER

COUNT = 2
PROGRAM = "from ayb_jobs.lab.torture.sql_worker import main; main()"
# From its first run on.
LIVES_S = (0.2, 3.0)
END_S = 10.0


class Worker:
    """One worker, in which one process after the other runs under the same id."""

    def __init__(self, number: int, setting: Setting) -> None:
        self.id = f"torture-worker-{number}"
        self._number = number
        self._setting = setting
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """The name of the process that runs now, or ran last."""
        return f"worker{self._number}.{self._starts}"

    def start(self) -> None:
        """Start a process."""
        self._starts += 1
        setting = self._setting
        variables = {
            **os.environ,
            DATABASE_URL: make_conninfo(setting.url, application_name=setting.application + self.name),
            WORKER: self.id,
            effects.FOLDER: str(setting.folder),
            effects.WRITER: self.name,
        }
        with (setting.folder / f"{self.name}.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                env=variables,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    @property
    def works(self) -> bool:
        """Whether it has begun to run jobs. Raises `DatabaseError` if the process ended by itself."""
        if self._process is not None and (code := self._process.poll()) is not None:
            log = (self._setting.folder / f"{self.name}.log").read_text(errors="replace")
            raise DatabaseError(f"{self.name} ended by itself with exit code {code}: {log[-500:]}")
        return (self._setting.folder / f"effects-{self.name}.jsonl").exists()

    def kill(self) -> None:
        """Kill the process."""
        if self._process is not None and self._process.stdin is not None:
            self._process.kill()
            self._process.wait(END_S)
            self._process.stdin.close()
            self._process = None


class Workers:
    """All of them. If they `die`, each is killed now and then, a step further in each `turn`."""

    def __init__(self, setting: Setting, *, seed: int, die: bool) -> None:
        self.faults: list[Fault] = []
        self.writers: set[str] = set()
        self._workers = [Worker(number, setting) for number in range(1, COUNT + 1)]
        self._chance = random.Random(f"{seed}/workers")
        self._die = die
        self._due: dict[str, float] = {}

    @property
    def ids(self) -> list[str]:
        """Under which ids the database knows them."""
        return [worker.id for worker in self._workers]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Have them work for the time of the block."""
        try:
            for worker in self._workers:
                self._start(worker)
            yield
        finally:
            for worker in self._workers:
                worker.kill()

    def turn(self) -> None:
        """Kill and start anew whoever is due. Raises `DatabaseError` if one ended by itself."""
        for worker in self._workers:
            if not worker.works:
                continue
            due = self._due.setdefault(worker.name, time.monotonic() + self._chance.uniform(*LIVES_S))
            if self._die and time.monotonic() >= due:
                began = time.monotonic()
                worker.kill()
                self.faults.append(Fault("kill_worker", worker.name, began, time.monotonic()))
                self._start(worker)

    def _start(self, worker: Worker) -> None:
        worker.start()
        self.writers.add(worker.name)

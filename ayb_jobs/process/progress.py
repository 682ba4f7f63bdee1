"""Whether the daemon's loops make progress, for probes and for systemd's watchdog."""

from collections.abc import Sequence
from typing import Protocol

from ayb_jobs.checks.loops import LoopAge

# A loop whose turn takes longer than this counts as stuck: no statement of ours may take half as long.
STUCK_S = 120.0
# One that fails in every turn for so long is not healthy. A server that restarts takes less.
FAILING_S = 60.0
# Pruning a large backlog is one long turn of many short batches.
SLOW_LOOPS = {"pruner": 6 * 3600.0, "legacy pruning": 6 * 3600.0}


class Looping(Protocol):
    """What should do its work again and again: a loop of the daemon's, or the server of its API."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def overdue_s(self) -> float:
        """For how many seconds it has been due without a success."""

    @property
    def failing(self) -> bool:
        """Whether its last try failed."""

    @property
    def error(self) -> BaseException | None:
        """What its last try failed with, if it failed."""

    @property
    def waits_for_database(self) -> bool:
        """Whether that was because there is no database."""


def stuck_names(ages: Sequence[LoopAge]) -> list[str]:
    """Return the loops that a daemon's row names as stuck.

    Among them are those that wait for the database: it took the row, and is still not there for them.
    """
    return [age.name for age in ages if age.is_stuck]


def loop_ages(loops: Sequence[Looping]) -> list[LoopAge]:
    """Return for how long each loop has made no progress, and for how long it may."""
    return [
        LoopAge(
            loop.name,
            loop.overdue_s,
            FAILING_S if loop.failing else SLOW_LOOPS.get(loop.name, STUCK_S),
            failing=loop.failing,
            waits_for_database=loop.waits_for_database,
            error=loop.error,
        )
        for loop in loops
    ]

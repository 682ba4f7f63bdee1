"""Whether the daemon's loops make progress, for probes and for systemd's watchdog."""

from collections.abc import Sequence

from ayb_jobs.checks.loops import LoopAge
from ayb_jobs.runtime.loop import Loop

# A loop whose turn takes longer than this counts as stuck: no statement of ours may take half as long.
STUCK_S = 120.0
# One that fails in every turn for so long is not healthy. A server that restarts takes less.
FAILING_S = 60.0
# Pruning a large backlog is one long turn of many short batches.
SLOW_LOOPS = {"pruner": 6 * 3600.0, "legacy pruning": 6 * 3600.0}


def loop_ages(loops: Sequence[Loop]) -> list[LoopAge]:
    """Return for how long each loop has made no progress, and for how long it may."""
    return [
        LoopAge(
            loop.name,
            loop.overdue_s,
            FAILING_S if loop.failing else SLOW_LOOPS.get(loop.name, STUCK_S),
            failing=loop.failing,
            waits_for_database=loop.waits_for_database,
        )
        for loop in loops
    ]

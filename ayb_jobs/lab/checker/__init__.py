"""Decides from three independent logs whether a queue kept its promises.

- The **event log**: what the database saw, each change of a job written by a trigger in the change's own transaction.
- The **history**: what clients asked for, and what they were told.
- The **effects**: what handlers did, written by the handlers themselves.

Beside them stand the faults that were injected, and snapshots of the table. `check(evidence)` returns every broken
invariant by name, with the job that shows it. The checker touches no database and trusts none of the daemon's code but
the table of legal transitions.
"""

from ayb_jobs.lab.checker.evidence import (
    Event,
    Evidence,
    Fault,
    Limits,
    Operation,
    Run,
    RunElsewhere,
    Snapshot,
    Violation,
)
from ayb_jobs.lab.checker.figures import Figures, figures
from ayb_jobs.lab.checker.flow import BatchLife, Dependency, JobLimit, JobPause
from ayb_jobs.lab.checker.invariants import INVARIANTS, check
from ayb_jobs.lab.checker.timeline import timeline

__all__ = [
    "INVARIANTS",
    "BatchLife",
    "Dependency",
    "Event",
    "Evidence",
    "Fault",
    "Figures",
    "JobLimit",
    "JobPause",
    "Limits",
    "Operation",
    "Run",
    "RunElsewhere",
    "Snapshot",
    "Violation",
    "check",
    "figures",
    "timeline",
]

"""Breaks a fleet of daemons on purpose while it works, and has `ayb_jobs.lab.checker` judge what became of the jobs.

`torture(...)` runs the phases: warm up, faults, heal, drain, check. Beside the daemons, which are ordinary processes,
it runs clients that keep a history and handlers that keep an effect log; a trigger in the database keeps the third log.
Whatever is chosen by chance follows from the seed.
"""

from ayb_jobs.lab.torture.plan import KINDS, Kind, parse_faults
from ayb_jobs.lab.torture.running import Torture, torture

__all__ = ["KINDS", "Kind", "Torture", "parse_faults", "torture"]

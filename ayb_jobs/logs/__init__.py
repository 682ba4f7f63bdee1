"""What is written to stderr, and how: the only place with log wording.

`wording` listens to events and turns each into a line; `bursts` keeps it at some tens of lines a second, with counts
beyond. `rendering` makes a line of it, for people or for programs, without secrets and without characters that could
forge a line. `sink` writes lines from a thread of its own, so that a full pipe or disk never stops a job. `setup` puts
them together.
"""

from ayb_jobs.logs.setup import Logs, configure_logging
from ayb_jobs.logs.wording import LINES, LogSubscriber

__all__ = ["LINES", "LogSubscriber", "Logs", "configure_logging"]

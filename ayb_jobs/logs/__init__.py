"""What is written to stderr, and how: the only place with log wording.

`lines` is the list of all lines, and `wording` turns an event into one of them. `subscriber` listens to events and
writes their lines; `bursts` keeps it at some tens of lines a second, with counts beyond. `rendering` makes text of a
line, for people or for programs, without secrets and without characters that could forge a line. `sink` writes from a
thread of its own, so that a full pipe or disk never stops a job. `setup` puts them together.
"""

from ayb_jobs.logs.lines import LINES
from ayb_jobs.logs.setup import Logs, configure_logging
from ayb_jobs.logs.subscriber import LogSubscriber

__all__ = ["LINES", "LogSubscriber", "Logs", "configure_logging"]

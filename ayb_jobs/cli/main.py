"""Where the program starts: Ctrl-C ends it without a traceback while it is still being imported, too."""

import os
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ayb_jobs.runtime.garbage import import_without_searches

if TYPE_CHECKING:
    from ayb_jobs.model.project import Project

INTERRUPTED = 130  # as `exits` has it, which is not imported yet


def main(arguments: Sequence[str] | None = None, *, project: "Project | None" = None) -> NoReturn:
    """Run the program with the process's arguments and end the process; given `arguments`, leave the streams alone.

    `project` is what a framework sets beneath the configuration.
    """
    ends_at_once = arguments is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ends_at_once:
        signal.signal(signal.SIGINT, _end_at_once)
    if arguments is None:
        import_without_searches()
    from ayb_jobs.cli.program import start  # takes most of the time that a command takes

    start(arguments, project=project, hear_ctrl_c=ends_at_once)


def _end_at_once(*_: Any) -> None:
    """End the process: nothing has been begun or printed."""
    os._exit(INTERRUPTED)

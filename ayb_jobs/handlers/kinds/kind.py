"""What a kind of job types is."""

from collections.abc import Callable
from typing import Any

from ayb_jobs.config import JobTypeSettings
from ayb_jobs.frozen import frozen
from ayb_jobs.handlers.job_type import AnyHandler, Executor


@frozen
class Kind:
    """One kind: its name, its settings, and how a job of it is run.

    `settings` is a class of settings whose `contradictions` are the faults. A table `[job_types.NAME]` is of the kind
    that alone has the keys in it. `keys` says for people which of them make a job type of this kind.
    `handler` makes of checked settings what runs. It is None if the application registers what runs, and the settings
    override what it says of the type. `executor` names what runs it, see `runtime.executors`.
    """

    name: str
    settings: type[JobTypeSettings]
    keys: str = ""
    handler: Callable[[Any], AnyHandler] | None = None
    executor: Executor = "thread"

"""What a job is given if its enqueuer says nothing, and what it may hold.

Apart from `acting`, since the configuration needs no database.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ayb_jobs.model.bounds import NO_BOUNDS, Bounds


class Defaults(NamedTuple):
    """The payload and the attempts of a job of some type, and the numbers that its payload may hold."""

    payload: Mapping[str, Any]
    max_attempts: int
    bounds: Bounds = NO_BOUNDS


# Finds the defaults of a job type, known or not.
FindDefaults = Callable[[str], Defaults]

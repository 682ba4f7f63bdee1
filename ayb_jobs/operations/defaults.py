"""What a job is given if its enqueuer says nothing; apart from `acting`, since the configuration needs no database."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Defaults(NamedTuple):
    """The payload and the attempts of a job of some type."""

    payload: Mapping[str, Any]
    max_attempts: int


# Finds the defaults of a job type, known or not.
FindDefaults = Callable[[str], Defaults]

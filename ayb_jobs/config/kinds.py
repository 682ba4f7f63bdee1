"""Which kind of job type a table `[job_types.NAME]` describes: the kind that alone has the keys in it.

The table of kinds is handed down to `load_config` by whoever starts the process, since what kinds run lies above this
package.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from ayb_jobs.config.section import Fault
from ayb_jobs.config.tables import JobTypeSettings


class Kind(Protocol):
    """What loading needs to know of a kind: its name, and the settings that it takes."""

    @property
    def name(self) -> str:
        """The kind's name."""

    @property
    def settings(self) -> type[JobTypeSettings]:
        """The settings of a job type of this kind; their `contradictions` are the faults."""


def settings_of(table: Any, kinds: Sequence[Kind]) -> type[JobTypeSettings]:
    """Return the settings by which to read a table: those of the first kind that has keys in it.

    A table with the common keys alone has the common settings.
    """
    found = kinds_in(table, kinds)
    return next(iter(found)).settings if found else JobTypeSettings


def mixed(table: Any, kinds: Sequence[Kind]) -> Fault | None:
    """Return what is wrong with a table that has keys of several kinds; None if it has not."""
    found = [keys[0] for keys in kinds_in(table, kinds).values()]
    if len(found) <= 1:
        return None
    return (found[0],), f"and `{found[1]}` are both set; one job type is one or the other"


def kinds_in(table: Any, kinds: Sequence[Kind]) -> Mapping[Kind, list[str]]:
    """Return the kinds that have keys in a table, each with these keys."""
    if not isinstance(table, dict):
        return {}
    found = {kind: [key for key in own_keys(kind, kinds) if key in table] for kind in kinds}
    return {kind: keys for kind, keys in found.items() if keys}


def own_keys(kind: Kind, kinds: Iterable[Kind]) -> list[str]:
    """Return the keys that this kind has and no other."""
    others = {key for other in kinds if other is not kind for key in other.settings.model_fields}
    return [key for key in kind.settings.model_fields if key not in others and key not in JobTypeSettings.model_fields]


def kind_meant(key: str, kinds: Sequence[Kind]) -> str | None:
    """Say which key makes a job type one of the kind that is called `key`; None if no kind is called so."""
    own = next((own_keys(kind, kinds) for kind in kinds if kind.name == key), [])
    return f"did you mean {own[0]}?" if own else None


def known_keys(kinds: Iterable[Kind]) -> set[str]:
    """Return every key that a job type may have."""
    return {key for kind in kinds for key in kind.settings.model_fields} | set(JobTypeSettings.model_fields)

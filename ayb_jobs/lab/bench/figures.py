"""What a measurement ends in."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

BARE_LOOP = "bare loop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number beside what it is compared with.

    `value` and `bare` are in `unit`; `ratio` is the median, over the rounds, of one by the other. `against` says what
    `bare` is: a bare loop, or the same work under easier conditions.
    """

    work: str
    name: str
    value: float
    unit: str
    bare: float
    ratio: float
    against: str = BARE_LOOP


class Pair(NamedTuple):
    """What one round measured: our value, and that of what it is compared with."""

    value: float
    bare: float


def figure(work: str, name: str, unit: str, rounds: Sequence[Pair], *, against: str = BARE_LOOP) -> Figure:
    """Return the figure of several rounds: medians, since one round may fall into a checkpoint."""
    return Figure(
        work=work,
        name=name,
        value=statistics.median(pair.value for pair in rounds),
        unit=unit,
        bare=statistics.median(pair.bare for pair in rounds),
        ratio=statistics.median(pair.value / pair.bare if pair.bare else 0.0 for pair in rounds),
        against=against,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

"""Where the last lease of each key of a limit ended, so that a look need not walk what is dead before it.

A floor hides what appears below it: a job that is committed late, or queued again. So each lasts only for so long that
looks from the bottom of its key take a twentieth of the time, as sweeps of lanes do. A key whose floor is gone is
looked at from the bottom, which costs time alone.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

from ayb_jobs.runtime.jobs.sweep import SHARE
from ayb_jobs.storage.queue.limited import Floors, Limited

# To send a floor costs about as much as to walk so many jobs.
WORTH_IT = 50
# About as many keys as a look meets.
MOST = 100
MOST_COUNTED = 10_000
# A look may have waited for its limit, which is no cost of walking.
LONGEST_S = 1.0


@dataclass(slots=True)
class _Key:
    until: float
    places: dict[int, tuple[str, str]] = field(default_factory=dict)


class KeyFloors:
    """The floors of one limit's keys, for looks that lease the same types of the same queues."""

    def __init__(self) -> None:
        self._leased: dict[str, int] = {}
        self._keys: dict[str, _Key] = {}
        self._given: Mapping[str, Floors] = {}

    def now(self) -> Mapping[str, Floors]:
        """Return the floors for the next look: of the keys from which no job was leased for longest."""
        now = time.monotonic()
        given: dict[str, Floors] = {}
        for name in list(islice(self._keys, MOST)):
            if self._keys[name].until <= now:
                del self._keys[name]
            else:
                given[name] = self._keys[name].places
        self._given = given
        return given

    def looked(self, found: Limited, cost_s: float) -> None:
        """Note what the look has leased that got the newest floors, and what it cost."""
        until = time.monotonic() + min(cost_s * (1 / SHARE - 1), LONGEST_S)
        for name in self._count(found):
            known = self._keys.pop(name, None)
            self._keys[name] = known if known and name in self._given else _Key(until)
        for job in found.leased:
            if key := self._keys.get(found.keys[job.id]):
                key.places[job.priority] = (job.run_at_text, job.id)

    def _count(self, found: Limited) -> list[str]:
        """Return the keys of these jobs that are worth a floor."""
        if len(self._leased) > MOST_COUNTED:
            self._leased.clear()
        for job in found.leased:
            name = found.keys[job.id]
            self._leased[name] = self._leased.get(name, 0) + 1
        return [name for name in dict.fromkeys(found.keys.values()) if self._leased.get(name, 0) >= WORTH_IT]

    def wait_s(self) -> float:
        """Return the seconds until the first floor is gone of those that the last look got: a job may wait below it."""
        untils = [self._keys[name].until for name in self._given if name in self._keys]
        return max(0.0, min(untils) - time.monotonic()) if untils else math.inf

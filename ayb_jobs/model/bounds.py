"""Between which numbers the values of a payload may lie."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from ayb_jobs.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The least and the greatest value of some keys of a payload, both allowed."""

    least: Mapping[str, float] = field(default_factory=dict)
    greatest: Mapping[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.least or self.greatest)

    def check(self, payload: Any) -> None:
        """Raise `InvalidInput`, which names the first key at fault, if a value is no number or beyond its bounds.

        A key that the payload lacks is not at fault: its default is used.
        """
        if not self or payload is None:
            return
        if not isinstance(payload, Mapping):
            raise InvalidInput(
                f"payload is a {type(payload).__name__}; an object is needed, such as {{}}", field="payload"
            )
        for key in self.keys():
            if key in payload and not self._holds(key, payload[key]):
                value = payload[key]
                found = str(value) if isinstance(value, Decimal) else f"{value!r:.100}"
                raise InvalidInput(
                    f"payload.{key} is {found}; it should be a number {self.words(key)}",
                    field=f"payload.{key}",
                )

    def keys(self) -> Iterator[str]:
        """Yield the keys that have bounds."""
        yield from dict.fromkeys([*self.least, *self.greatest])

    def words(self, key: str) -> str:
        """Say between which numbers the value of a key lies, such as `from 1 to 365`."""
        least, greatest = self.least.get(key), self.greatest.get(key)
        if greatest is None:
            return f"of at least {least:.15g}"
        return f"of at most {greatest:.15g}" if least is None else f"from {least:.15g} to {greatest:.15g}"

    def _holds(self, key: str, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            return False
        return self.least.get(key, value) <= value <= self.greatest.get(key, value)


NO_BOUNDS = Bounds()

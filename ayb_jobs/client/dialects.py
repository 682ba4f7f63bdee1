"""A statement as a driver wants it: psycopg's `%(name)s`, SQLAlchemy's `:name`, asyncpg's `$1`."""

import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ayb_jobs.storage.array_text import text_array

PARAMETER = re.compile(r"%\((\w+)\)s")


@lru_cache(maxsize=16)
def sqlalchemy_text(statement: str) -> Any:
    """Return a statement as SQLAlchemy's `text`. Whoever has a connection of SQLAlchemy's has imported it."""
    return sys.modules["sqlalchemy"].text(PARAMETER.sub(r":\1", statement))


class Numbered(NamedTuple):
    """A statement with `$1`, `$2`, and the names of the values in that order."""

    text: str
    names: tuple[str, ...]

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the values in the statement's order."""
        return [values[name] for name in self.names]


@lru_cache(maxsize=16)
def numbered(statement: str) -> Numbered:
    """Return a statement as asyncpg takes it."""
    names = tuple(dict.fromkeys(PARAMETER.findall(statement)))
    return Numbered(PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", statement), names)


def with_literals(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values for psycopg, which takes the text of an array at a fraction of what it takes to write a list."""
    return {name: text_array(value) if isinstance(value, list) else value for name, value in values.items()}

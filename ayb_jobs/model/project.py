"""What an application's framework knows of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """Settings by dotted key that hold unless a file, the environment or a flag says otherwise.

    `name` is what people know the project's own settings by.
    """

    name: str
    values: Mapping[str, Any]

"""Shows the effective settings: each with where it came from, secrets masked."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from pydantic import BaseModel

from ayb_jobs.config.checking import MAPPINGS
from ayb_jobs.config.section import Section, is_secret
from ayb_jobs.config.settings import SECTIONS, Config
from ayb_jobs.model.address import is_address
from ayb_jobs.redact import MASK, redact

CONNECTION_STRINGS = ("url", "direct_url")


class Shown(NamedTuple):
    """A setting as it may be shown. `origin` is `default`, or the file, variable or flag that set it."""

    table: tuple[str, ...]
    key: str
    value: Any
    origin: str

    @property
    def name(self) -> str:
        """The dotted key."""
        return ".".join((*self.table, self.key))


def effective(config: Config) -> Iterator[Shown]:
    """Yield every setting in the order of the documentation, secrets masked."""
    for name in SECTIONS:
        yield from _section(config, (name,), getattr(config, name))
    for name in MAPPINGS:
        for key, section in getattr(config, name).items():
            yield from _section(config, (name, key), section)


def as_toml(config: Config) -> str:
    """Return the settings as TOML, with where each came from beside it."""
    lines: list[str] = []
    settings = list(effective(config))
    width = max(len(_assignment(setting)) for setting in settings if len(_assignment(setting)) <= 50)  # noqa: PLR2004 - longer ones stand out
    table: tuple[str, ...] = ()
    for setting in settings:
        if setting.table != table:
            table = setting.table
            lines += ["", f"[{'.'.join(map(_key, table))}]"]
        lines.append(f"{_assignment(setting):<{width}}  # {setting.origin}")
    return "\n".join(lines[1:])


def as_json(config: Config) -> dict[str, Any]:
    """Return the settings by dotted key, each with its value and origin."""
    return {setting.name: {"value": setting.value, "origin": setting.origin} for setting in effective(config)}


def _section(config: Config, table: tuple[str, ...], section: Section) -> Iterator[Shown]:
    """Yield a section's settings, then the tables within it."""
    inner: list[tuple[str, Section]] = []
    for key in type(section).model_fields:
        value = getattr(section, key)
        if isinstance(value, dict) and value and all(isinstance(part, Section) for part in value.values()):
            inner += [(f"{key}.{name}", part) for name, part in value.items()]
        elif not (key == "tokens" and not value) and value is not None:
            origin = config.origins.get(".".join((*table, key)))
            yield Shown(table, key, _masked(section, key, value), origin.label() if origin else "default")
    for name, part in inner:
        key, _, name_ = name.partition(".")
        yield from _section(config, (*table, key, name_), part)


def _masked(section: Section, key: str, value: Any) -> Any:
    """Return a value as it may be shown: of a connection string all but its password, of another secret nothing."""
    if value and is_secret(type(section), key):
        shown = redact(value) if key in CONNECTION_STRINGS and is_address(value) else MASK
        if isinstance(value, dict):
            return dict.fromkeys(value, MASK)
        return [MASK for _ in value] if isinstance(value, list) else shown
    return _plain(value)


def _plain(value: Any) -> Any:
    """Return a value in JSON's terms, with the Decimals of payloads."""
    match value:
        case BaseModel():
            return _plain(value.model_dump())
        case dict():
            return {str(key): _plain(part) for key, part in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(part) for part in value]
        case None | bool() | int() | float() | Decimal():
            return value
        case _:
            return str(value)


def _assignment(setting: Shown) -> str:
    return f"{_key(setting.key)} = {toml_value(setting.value)}"


def _key(key: str) -> str:
    bare = key and all(character.isascii() and (character.isalnum() or character in "-_") for character in key)
    return key if bare else json.dumps(key)


def toml_value(value: Any) -> str:
    """Return a JSON value as TOML on one line."""
    match value:
        case dict():
            pairs = ", ".join(f"{_key(key)} = {toml_value(inner)}" for key, inner in value.items() if inner is not None)
            return f"{{ {pairs} }}" if pairs else "{}"
        case list():
            return f"[{', '.join(map(toml_value, value))}]"
        case float() if value.is_integer():
            return str(int(value))
        case Decimal():
            return str(value)
        case _:
            return json.dumps(value)

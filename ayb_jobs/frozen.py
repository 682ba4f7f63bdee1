"""Values that never change, at next to no cost to a program's start; for what is made seldom.

`dataclass` writes and compiles half a dozen methods for each class, which takes 0.5 ms, and the daemon has a hundred
kinds of values. These methods are shared by all classes.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, fields
from typing import Any, NamedTuple, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def frozen(cls: type[T]) -> type[T]:
    """Give a class with annotated fields what `dataclass(frozen=True, kw_only=True)` gives it.

    That is a constructor by keyword that calls `__post_init__`, and `==`, `hash` and `repr`; `replace`, `fields` and
    `asdict` take its values. It knows no `field`, and inherits none. Raises `TypeError` if a default could be changed.
    """
    names = tuple(cls.__annotations__)
    defaults = {name: vars(cls)[name] for name in names if name in vars(cls)}
    for name, default in defaults.items():
        if isinstance(default, (Field, dict, list, set)):
            raise TypeError(f"{cls.__qualname__}.{name} has a default that is shared: {default!r}")
    found = Fields(names, frozenset(names), frozenset(names) - defaults.keys(), defaults)
    added = {**METHODS, "__frozen__": found, "__dataclass_fields__": FieldsOfDataclass()}
    if hasattr(cls, "__post_init__"):
        added["__init__"] = _init_and_check
    for name, value in added.items():
        setattr(cls, name, value)
    return cls


class Fields(NamedTuple):
    """The fields of a class: in order, all, those without a default, and the defaults."""

    names: tuple[str, ...]
    known: frozenset[str]
    required: frozenset[str]
    defaults: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Example:
    """Its field is one as `dataclasses` makes them."""

    field: int


class FieldsOfDataclass:
    """What the functions of `dataclasses` ask a class for; made when they do."""

    def __get__(self, _value: object, cls: type) -> Mapping[str, Field[Any]]:
        """Return the fields of a class, by name."""
        (example,) = fields(Example)
        found = {name: copy(example) for name in cls.__annotations__}
        for name, made in found.items():
            made.name, made.type, made.default = name, cls.__annotations__[name], vars(cls).get(name, MISSING)
        return found


def _init(self: Any, **values: Any) -> None:
    names, known, required, defaults = self.__frozen__
    if not required <= values.keys() <= known:
        wrong = [f"no {name}" for name in names if name in required - values.keys()]
        wrong += [f"an unknown {name}" for name in values if name not in known]
        raise TypeError(f"{type(self).__name__} was given {', '.join(wrong)}")
    vars(self).update(defaults, **values)  # a default that is a function would be a method, were it in the class alone


def _init_and_check(self: Any, **values: Any) -> None:
    _init(self, **values)
    self.__post_init__()


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, name) for name in self.__frozen__.names)


def _eq(self: Any, other: object) -> Any:
    return _values(self) == _values(other) if type(self) is type(other) else NotImplemented


def _hash(self: Any) -> int:
    return hash((type(self), _values(self)))


def _repr(self: Any) -> str:
    shown = ", ".join(f"{name}={value!r}" for name, value in zip(self.__frozen__.names, _values(self), strict=True))
    return f"{type(self).__qualname__}({shown})"


def _refuse_to_set(_self: Any, name: str, _value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


METHODS: Mapping[str, Any] = {
    "__init__": _init,
    "__eq__": _eq,
    "__hash__": _hash,
    "__repr__": _repr,
    "__setattr__": _refuse_to_set,
    "__delattr__": _refuse_to_delete,
}

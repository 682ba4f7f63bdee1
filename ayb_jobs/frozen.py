"""Values that never change, at next to no cost to a program's start; for what is made seldom.

`dataclass` writes and compiles half a dozen methods for each class, which takes 0.5 ms, and the daemon has a hundred
kinds of values. These methods are shared by all classes.
"""

from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from typing import Any, NamedTuple, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def frozen(cls: type[T]) -> type[T]:
    """Give a class with annotated fields what `dataclass(frozen=True, kw_only=True)` gives it.

    That is a constructor by keyword, `==`, `hash` and `repr`. The functions of `dataclasses`, such as `replace`, do not
    take such values, and a default must be one that nobody can change.
    """
    names = tuple(cls.__annotations__)
    fields = Fields(names, frozenset(names), frozenset(name for name in names if name not in vars(cls)))
    for name, value in {**METHODS, "__frozen__": fields}.items():
        setattr(cls, name, value)
    return cls


class Fields(NamedTuple):
    """The fields of a class: in order, all, and those without a default."""

    names: tuple[str, ...]
    known: frozenset[str]
    required: frozenset[str]


def _init(self: Any, **values: Any) -> None:
    names, known, required = self.__frozen__
    if not required <= values.keys() <= known:
        wrong = [f"no {name}" for name in names if name in required - values.keys()]
        wrong += [f"an unknown {name}" for name in values if name not in known]
        raise TypeError(f"{type(self).__name__} was given {', '.join(wrong)}")
    vars(self).update(values)


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

"""Which faults there are, and which come when: all from the seed."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ayb_jobs.errors import InvalidInput

Need = Literal["own server", "libfaketime", "own network"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of fault: whom it strikes, how often it comes beside others, and what it needs."""

    name: str
    on_database: bool
    share: int
    meaning: str
    needs: Need | None = None


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(name="kill", on_database=False, share=10, meaning="SIGKILL, and a new start"),
        Kind(name="term", on_database=False, share=5, meaning="SIGTERM, and a new start"),
        Kind(name="pause", on_database=False, share=3, meaning="SIGSTOP for longer than a lease, then SIGCONT"),
        Kind(name="log_pipe", on_database=False, share=1, meaning="a new start with a log that nobody reads"),
        Kind(
            name="clock",
            on_database=False,
            share=1,
            meaning="a new start with a clock that is up to two hours off",
            needs="libfaketime",
        ),
        Kind(name="terminate", on_database=True, share=20, meaning="some or all database connections are terminated"),
        Kind(
            name="restart_immediate",
            on_database=True,
            share=3,
            meaning="the database crashes and recovers",
            needs="own server",
        ),
        Kind(name="restart_fast", on_database=True, share=2, meaning="the database is restarted", needs="own server"),
        Kind(
            name="exhaust",
            on_database=True,
            share=1,
            meaning="every free connection is taken for a while",
            needs="own server",
        ),
        Kind(
            name="cut",
            on_database=False,
            share=1,
            meaning="every packet between a daemon and the database is dropped for longer than a lease",
            needs="own network",
        ),
    )
}

LIBFAKETIME = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
)


def parse_faults(text: str) -> dict[str, int | None]:
    """Return how often each kind is to come, from `kill,pause` or `kill=200,pause=20`; None leaves it to chance.

    `all` names every kind and `none` names none. Raises `InvalidInput`.
    """
    if text == "none":
        return {}
    if text == "all":
        return dict.fromkeys(KINDS)
    wanted: dict[str, int | None] = {}
    for part in text.split(","):
        name, equals, count = part.strip().partition("=")
        if name not in KINDS:
            raise InvalidInput(f"there is no fault {name!r}; there are {', '.join(KINDS)}", field="faults")
        if equals and not count.isdecimal():
            raise InvalidInput(f"the number of {name} faults is {count!r}; give a whole number", field="faults")
        wanted[name] = int(count) if equals else None
    if any(count is None for count in wanted.values()) and any(count is not None for count in wanted.values()):
        raise InvalidInput("give a number for each fault or for none", field="faults")
    return wanted


def dealt(chance: random.Random, wanted: Mapping[str, int | None], lane: int = 0, lanes: int = 1) -> Iterator[str]:
    """Yield the faults that one daemon (or, with one lane, the database) is to suffer, one after the other.

    Counted faults are dealt out over all lanes, and end; others go on for ever.
    """
    if not wanted:
        return
    if all(count is not None for count in wanted.values()):
        deck = [name for name, count in wanted.items() for _ in range(count or 0)]
        chance.shuffle(deck)
        yield from deck[lane::lanes]
        return
    while True:
        yield chance.choices(list(wanted), [KINDS[name].share for name in wanted])[0]


def libfaketime() -> str | None:
    """Return the path of the library that changes a process's clock, or None where it is not installed."""
    return next((path for path in LIBFAKETIME if Path(path).exists()), None)


def missing(kind: Kind, *, own_server: bool, own_network: bool) -> str | None:
    """Say why a kind of fault cannot be had here; None where it can."""
    match kind.needs:
        case "own server" if not own_server:
            return "the database is not ours to restart"
        case "libfaketime" if libfaketime() is None:
            return "libfaketime is not installed"
        case "own network" if not own_network:
            return "it needs root, iptables and a network of its own: unshare --net"
        case _:
            return None

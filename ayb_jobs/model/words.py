"""Figures as people read them in sentences: time spans, counts, names."""

import signal

# Below these, rounded, a span is told in milliseconds, and in tenths of a second.
IN_MS = 0.0995
IN_TENTHS = 9.95
MINUTE_S = 60
HOUR_S = 3600
DAY_S = 86400
MOST_DAYS = 10_000
MOST_LETTERS = 100


def span_words(seconds: float) -> str:
    """Return a time span with a unit and two parts at most: `31 ms`, `0.3 s`, `41 s`, `4 min 12 s`, `27 h 10 min`."""
    seconds = max(0.0, seconds)
    if seconds < IN_MS:
        return f"{seconds * 1000:.0f} ms"
    if seconds < IN_TENTHS:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < MINUTE_S:
        return f"{whole} s"
    if whole < HOUR_S:
        return _parts(whole // MINUTE_S, "min", whole % MINUTE_S, "s")
    if whole < 2 * DAY_S:
        return _parts(whole // HOUR_S, "h", whole % HOUR_S // MINUTE_S, "min")
    days = whole // DAY_S
    return f"over {MOST_DAYS:,} days" if days > MOST_DAYS else _parts(days, "days", whole % DAY_S // HOUR_S, "h")


def _parts(first: int, first_unit: str, second: int, second_unit: str) -> str:
    return f"{first} {first_unit} {second} {second_unit}" if second else f"{first} {first_unit}"


def count_words(count: int, one: str, many: str = "", *, most: int | None = None, cut: bool = False) -> str:
    """Return a count with its noun: `1 job`, `2 jobs`, or `at least 10,000 jobs` from `most` on.

    A count that is `cut` left something out that was not looked at.
    """
    noun = one if count == 1 else many or f"{one}s"
    return f"at least {count:,} {noun}" if cut or (most is not None and count >= most) else f"{count:,} {noun}"


def counted(count: int, *, most: int | None = 10_000, cut: bool = False) -> str:
    """Return a count that ends at a bound, or is `cut`: `9,999`, then `10,000+`."""
    return f"{count:,}+" if cut or (most is not None and count >= most) else f"{count:,}"


def one_line(text: str) -> str:
    """Return what somebody wrote as sentences show it: printable, in one line, and not too long."""
    shown = " ".join(text.split())
    return "".join(part if part.isprintable() else "?" for part in shown[:MOST_LETTERS])


def quoted(name: str) -> str:
    """Return a name that somebody gave, as sentences show it: in backticks, in one line, and not too long."""
    shown = name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…"
    return f"`{''.join(part if part.isprintable() and part != '`' else '?' for part in shown)}`"


def as_sentence(fact: str) -> str:
    """Return a fact, or what an error says, as a sentence: its first letter large, and a full stop at its end."""
    return as_ended(f"{fact[:1].upper()}{fact[1:]}")


def as_ended(words: str) -> str:
    """Return words with a full stop at their end, unless they end a sentence themselves."""
    return words if words.endswith((".", "?")) else f"{words}."


def signal_name(number: int) -> str:
    """Return a signal's name, such as SIGSEGV."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

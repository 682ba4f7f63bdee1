"""Arrays as text, for statements that take many rows at once."""

from collections.abc import Iterable, Sequence


def plain_array(texts: Iterable[str]) -> str:
    """Write an array of ids or fixed words, in which nothing needs quoting, at a tenth of psycopg's cost."""
    return "{" + ",".join(texts) + "}"


def text_array(texts: Iterable[str]) -> str:
    """Write an array of texts of any kind."""
    return "{" + ",".join(['"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in texts]) + "}"


def numbers_array(numbers: Sequence[float | None]) -> str:
    """Write an array of numbers and nulls; an empty one if all are null, since `unnest` makes up for it."""
    if numbers.count(None) == len(numbers):
        return "{}"
    return plain_array(["NULL" if number is None else str(number) for number in numbers])

"""Names that were meant, and names that no live daemon knows."""

from collections.abc import Iterable

# One slip in so many letters is a slip; more are another word.
LETTERS_A_SLIP = 4


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` for the known name that is nearest; empty if none is near."""
    near = nearest(name, known)
    return f"; did you mean {near}?" if near else ""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that differs from `name` by the fewest slips of the keyboard.

    None if all differ by many.
    """
    most = max(1, len(name) // LETTERS_A_SLIP)
    near = [(slips(name, other), other) for other in known if abs(len(name) - len(other)) <= most]
    fewest = min(near, default=None)
    return fewest[1] if fewest and fewest[0] <= min(most, len(fewest[1]) - 1) else None


def slips(one: str, other: str) -> int:
    """Return how many letters are missing, added, wrong or swapped with the next."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        this = [row]
        for column, beside in enumerate(other, 1):
            swapped = row > 1 and column > 1 and letter == other[column - 2] and one[row - 2] == beside
            least = min(last[column] + 1, this[-1] + 1, last[column - 1] + (letter != beside))
            this.append(min(least, before[column - 2] + 1) if swapped else least)
        before, last = last, this
    return last[-1]


def unknown_type(job_type: str, known: Iterable[str]) -> str | None:
    """Return a warning where none of the live daemons, which know these types, knows a job type."""
    types = set(known)
    if job_type in types:
        return None
    return f"no live daemon knows the job type {job_type}{did_you_mean(job_type, types)}"


def unserved_queue(queue: str, served: Iterable[str]) -> str | None:
    """Return a warning where none of the live daemons, which serve these queues, serves a queue."""
    queues = sorted(set(served))
    if queue in queues:
        return None
    return f"no live daemon serves the queue {queue}; served are {', '.join(queues)}{did_you_mean(queue, queues)}"

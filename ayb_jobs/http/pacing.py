"""How often what costs the database something is made again for those who watch."""

# Its making takes at most a thirtieth of the time of one connection. Beyond ten seconds nobody would call it live.
COST = 30
MOST_S = 10.0


def apart_s(took_s: float, *, least_s: float) -> float:
    """Return how long to wait until something is made again, at least `least_s`, by how long it took to make."""
    return min(MOST_S, max(least_s, COST * took_s))

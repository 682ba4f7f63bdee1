"""Whether the last look left due jobs behind, and whether the next one is wanted at once."""

from collections.abc import Callable


class Backlog:
    """What the producer knows of one look's jobs, and what wakes it. It is made before the buffer, which rings it.

    `waits` says that there may be more due jobs than were leased, and `asks` that the look is wanted at once.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self.ring = ring
        self.waits = False
        self.asks = False

    def room_made(self) -> None:
        """Have the producer look again at once if jobs wait. The buffer calls this whenever it runs low."""
        if self.waits:
            self.waits = False
            self.asks = True
            self.ring()

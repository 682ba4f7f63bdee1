"""What a daemon knows of the limits."""


class Limits:
    """Whether there are limits. Until it is known that there are none, jobs are leased beside them."""

    def __init__(self, *, exist: bool = True) -> None:
        self.exist = exist

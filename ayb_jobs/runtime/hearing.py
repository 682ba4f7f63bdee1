"""Whether a daemon hears notifications. It is made before the parts, so that any of them may ask."""


class Hearing:
    """`now` says whether the notifier listens. What was said before it did is looked for once it does."""

    def __init__(self) -> None:
        self.now = False

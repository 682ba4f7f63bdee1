"""How an attempt in a child process ended, from the message that tells it."""

from typing import Any

from ayb_jobs.errors import AybJobsError, ChildDied, Discard, LeaseLost, PayloadUndecodable, Stopped
from ayb_jobs.model.results import Cancel, Returned, Snooze


def outcome(message: dict[str, Any]) -> object:
    """Return what the handler returned, or raise what it raised."""
    if "raised" in message:
        raise error_of(str(message.get("kind")), str(message["raised"]))
    match message["returned"]:
        case {"snooze": float(seconds) | int(seconds)}:
            return Snooze(seconds)
        case {"cancel": str(reason)}:
            return Cancel(reason)
        case {"kept": str(text)}:
            return Returned(text)
        case {"value": value}:
            return value
        case other:
            raise ChildDied(f"the child process returned {other!r:.100}")


class HandlerRaised(AybJobsError):
    """A handler in a child process raised this."""


def error_of(kind: str, text: str) -> AybJobsError:
    """Return the error that a handler raised in its child, with the text that tells of it."""
    match kind:
        case "Discard":
            return Discard(text)
        case "PayloadUndecodable":
            return PayloadUndecodable(text)
        case "LeaseLost":
            return LeaseLost(text)
        case "Stopped":
            return Stopped("asked in its child process")
        case _:
            return HandlerRaised(text)

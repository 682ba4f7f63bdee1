"""What is stored of an exception: what it says and where it came from, then its causes and a group's members."""

import os
import traceback
from collections.abc import Callable, Iterator
from itertools import dropwhile
from pathlib import Path

from ayb_jobs.errors import AybJobsError
from ayb_jobs.model.lifecycle import MAX_ERROR

OURS = f"{Path(__file__).parents[2]}{os.sep}"
# So many exceptions of one attempt are told; a chain may be as long as a handler likes.
MOST_TOLD = 32


def error_text(error: BaseException) -> str:
    """Return the text of an exception and of those that belong to it, each with its type and message first."""
    return "\n".join(heading + one_text(one) for heading, one in related(error))


def masked(text: str, mask: Callable[[str], str]) -> str:
    """Return a text without its secrets, as far as it will be kept: they are masked before it is cut.

    Else half of a secret could be left on either side of the cut.
    """
    most = 2 * MAX_ERROR
    if len(text) <= 2 * most:
        return mask(text)
    return mask(text[:most]) + text[most:-most] + mask(text[-most:])


def related(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    """Yield an exception, the members of its group, and what led to it, each once, with words for which it is."""
    waiting = [("", error)]
    told: set[int] = set()
    while waiting and len(told) < MOST_TOLD:
        heading, one = waiting.pop()
        if id(one) in told:
            continue
        told.add(id(one))
        yield heading, one
        if one.__cause__ is not None:
            waiting.append(("Caused by: ", one.__cause__))
        elif one.__context__ is not None and not one.__suppress_context__:
            waiting.append(("While handling: ", one.__context__))
        if isinstance(one, BaseExceptionGroup):
            members = one.exceptions[:MOST_TOLD]
            numbered = [(f"Member {number} of {len(one.exceptions)}: ", each) for number, each in enumerate(members, 1)]
            waiting += reversed(numbered)


def one_text(error: BaseException) -> str:
    """Return an exception's type and message, then its frames; the message alone for an error of ours."""
    try:
        if isinstance(error, AybJobsError):
            return str(error)
        head = "".join(traceback.format_exception_only(error)).strip()
        frames = "".join(traceback.format_list(told_frames(error))).rstrip()
    except Exception as unprintable:  # a message that raises while being made is still a failure
        return f"{type(error).__name__} (its message raised {type(unprintable).__name__})"
    return f"{head}\n{frames}" if frames else head


def told_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of an exception from the handler on: ours, which called it, tell nobody anything.

    If all are ours, the first alone is left out.
    """
    frames = list(traceback.extract_tb(error.__traceback__))
    theirs = list(dropwhile(lambda frame: frame.filename.startswith(OURS), frames))
    return theirs or frames[1:]

"""Why a queued job waits, in words."""

import pytest

from ayb_jobs.model.names import unknown_type
from ayb_jobs.model.waiting import ahead_words


@pytest.mark.parametrize(
    ("ahead", "more", "words"),
    [
        (1, False, "1 due job is ahead of it"),
        (2, False, "2 due jobs are ahead of it"),
        (1, True, "at least 1 due job is ahead of it"),
        (10_000, True, "at least 10,000 due jobs are ahead of it"),
    ],
)
def test_the_jobs_ahead_are_numbered_as_far_as_they_are_counted(ahead: int, more: bool, words: str) -> None:
    assert ahead_words(ahead, more=more) == words


def test_only_a_near_name_is_suggested() -> None:
    assert unknown_type("mail", ["mail"]) is None
    assert unknown_type("mial", ["mail"]) == "no live daemon knows the job type mial; did you mean mail?"
    assert unknown_type("report", ["mail"]) == "no live daemon knows the job type report"

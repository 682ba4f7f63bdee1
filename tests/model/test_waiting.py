"""Why a queued job waits, in words."""

import pytest

from ayb_jobs.model.waiting import MOST_AHEAD, ahead_words, unknown_type


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (1, "1 due job is ahead of it"),
        (2, "2 due jobs are ahead of it"),
        (MOST_AHEAD - 1, "9,999 due jobs are ahead of it"),
        (MOST_AHEAD, "at least 10,000 due jobs are ahead of it"),
    ],
)
def test_the_jobs_ahead_are_numbered_as_far_as_they_are_counted(ahead: int, words: str) -> None:
    assert ahead_words(ahead) == words


def test_only_a_near_name_is_suggested() -> None:
    assert unknown_type("mail", ["mail"]) is None
    assert unknown_type("mial", ["mail"]) == "no live daemon knows the job type mial; did you mean mail?"
    assert unknown_type("report", ["mail"]) == "no live daemon knows the job type report"

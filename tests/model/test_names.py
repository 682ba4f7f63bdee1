"""Names that were meant, by their letters."""

import pytest

from ayb_jobs.model.names import did_you_mean, nearest


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("mial", ["mail", "rail"], "mail"),
        ("hour", ["hours", "days"], "hours"),
        ("sendmail", ["send_mail", "mail"], "send_mail"),
        ("concurency", ["concurrency"], "concurrency"),
        ("all", ["url", "at"], None),
        ("x", ["y"], None),
        ("", ["a"], None),
        ("report", ["retry"], None),
        ("anything", [], None),
    ],
)
def test_only_a_slip_of_the_keyboard_is_taken_for_another_name(name: str, known: list[str], meant: str | None) -> None:
    assert nearest(name, known) == meant


def test_a_name_that_was_meant_ends_an_error() -> None:
    assert did_you_mean("mial", ["mail"]) == "; did you mean mail?"
    assert did_you_mean("mial", ["report"]) == ""

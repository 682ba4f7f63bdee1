"""The numbers that a payload may hold."""

import pytest

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.bounds import Bounds


def test_no_bounds_take_anything() -> None:
    assert not Bounds()
    Bounds().check([1])


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        (Bounds(least={"n": 1}), "of at least 1"),
        (Bounds(greatest={"n": 0.5}), "of at most 0.5"),
        (Bounds(least={"n": -1}, greatest={"n": 10**9}), "from -1 to 1000000000"),
    ],
)
def test_the_words_name_what_is_right(bounds: Bounds, words: str) -> None:
    with pytest.raises(InvalidInput, match=f"payload.n is 'x'; it should be a number {words}$"):
        bounds.check({"n": "x"})


def test_a_number_of_any_size_can_be_compared() -> None:
    Bounds(least={"n": 0}).check({"n": 10**400})
    with pytest.raises(InvalidInput):
        Bounds(greatest={"n": 1.5}).check({"n": 10**400})

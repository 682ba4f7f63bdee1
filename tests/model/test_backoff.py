"""AYB's backoff: min(5 s × 2^(n−1), 5 min) plus a random 0–1 s."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ayb_jobs.model.backoff import Backoff


@pytest.mark.parametrize(("attempt", "delay_s"), [(1, 5), (2, 10), (3, 20), (6, 160), (7, 300), (8, 300), (1000, 300)])
def test_the_delay_doubles_up_to_five_minutes(attempt: int, delay_s: float) -> None:
    assert Backoff().delay_s(attempt, 0.0) == delay_s


@given(attempt=st.integers(-5, 10**9), chance=st.floats(0, 1))
def test_the_delay_is_bounded(attempt: int, chance: float) -> None:
    assert 5 <= Backoff().delay_s(attempt, chance) <= 301


def test_chance_adds_up_to_a_second() -> None:
    assert Backoff().delay_s(1, 1.0) - Backoff().delay_s(1, 0.0) == 1.0

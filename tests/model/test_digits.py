"""JSON that keeps the digits of its numbers."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.digits import exact, json_text
from ayb_jobs.model.new_job import NewJob

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
def test_what_is_written_is_read_back_and_written_alike(value: Any) -> None:
    assert json.loads(json_text(exact(json.dumps(value)))) == value


@pytest.mark.parametrize("digits", ["1.10", "-0.0", "100.000", "0.1000000000000000055511151231257827"])
def test_a_fraction_keeps_its_digits(digits: str) -> None:
    assert (
        json_text(exact(f'{{"a":[{digits},{digits}],"b":"{digits}"}}')) == f'{{"a":[{digits},{digits}],"b":"{digits}"}}'
    )


def test_a_decimal_of_the_applications_own_is_a_number() -> None:
    assert NewJob(type="t", payload={"price": Decimal("19.90")}).payload_text == '{"price":19.90}'


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("Infinity"), {Decimal(1): 1}, object(), {"a": {1, 2}}])
def test_what_is_no_json_value_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"payload(\.a)?: .* cannot be"):
        _ = NewJob(type="t", payload=value).payload_text


@pytest.mark.parametrize("digits", ["1e400", "1.8e308", "1e-324", "-1e99999999999999999999"])
def test_a_number_that_no_float_is_near_is_refused(digits: str) -> None:
    with pytest.raises(ValueError, match=r"is too .* a number"):
        exact(digits)


@pytest.mark.parametrize("digits", ["5e-324", "1.7976931348623157e308", "0e-400"])
def test_the_least_and_the_greatest_float_are_taken(digits: str) -> None:
    assert exact(digits) == Decimal(digits)


@pytest.mark.parametrize("digits", ["1" * 200_000, "-" + "9" * 5000])
def test_a_whole_number_that_python_does_not_read_is_refused_in_words_of_ours(digits: str) -> None:
    with pytest.raises(ValueError, match=r"^-?\d{19,20}… is too large a number: it has (200000|5000) digits$"):
        exact(f'{{"n": {digits}}}')


def test_a_value_that_could_not_be_written_is_written_once_it_is_right() -> None:
    value: dict[str, Any] = {"a": [object()]}
    with pytest.raises(TypeError, match="cannot be stored"):
        json_text(value)
    value["a"][0] = Decimal("1.10")
    assert json_text(value) == '{"a":[1.10]}'
    value["a"][0] = value
    with pytest.raises(ValueError, match="Circular"):
        json_text(value)
    value["a"][0] = 1
    assert json_text(value) == '{"a":[1]}'


def test_threads_may_write_the_same_value_at_once() -> None:
    values = {str(number): [UUID(int=number)] for number in range(50)}
    expected = json.dumps({key: [str(one)] for key, [one] in values.items()}, separators=(",", ":"))
    often = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            assert set(threads.map(json_text, [values] * 400)) == {expected}
    finally:
        sys.setswitchinterval(often)

"""What went wrong with a request is said in words of the project, whatever the client calls it."""

import asyncio

import aiohttp
import pytest

from ayb_jobs.handlers.requests import client


def every(kind: type[BaseException]) -> set[type[BaseException]]:
    return {kind, *(each for below in kind.__subclasses__() for each in every(below))}


def test_no_error_of_the_client_is_told_by_its_class() -> None:
    for kind in every(aiohttp.ClientError):
        error = kind.__new__(kind)
        assert kind.__name__ not in client.fault(error), kind


@pytest.mark.parametrize("url", ["http://2130706433/", "http://127.1/"])
def test_a_number_as_a_host_is_told_in_words(url: str) -> None:
    async def ask() -> None:
        asking = client.Client(allow_private=True)
        try:
            await asking.post(url, b"", headers={})
        finally:
            await asking.close()

    with pytest.raises(client.FAULTS) as told:
        asyncio.run(ask())
    assert client.fault(told.value) == "no request can be sent to its URL"

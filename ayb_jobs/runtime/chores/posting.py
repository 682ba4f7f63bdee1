"""Posting what the outside world is told: in bounded time, signed, and worded without the address."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ayb_jobs.config.section import url_host
from ayb_jobs.model.web_address import is_http
from ayb_jobs.redact import without_address

NOT_INSTALLED = "the extra `http` is not installed; install it with: pip install 'ayb-jobs[http]'"


class Message(NamedTuple):
    """What is signed by Standard Webhooks: a message with an id, the same in each delivery, and these secrets."""

    id: str
    secrets: Sequence[str]


def post(
    url: str,
    body: bytes,
    *,
    headers: Mapping[str, str] | None = None,
    message: Message | None = None,
    timeout_s: float,
) -> str | None:
    """Post to an address; return None if it answers with a 2xx status, else what went wrong, without the address.

    A `message` is sent with its id, the time, and a signature by each of its secrets.
    `timeout_s` bounds the whole exchange. Redirects are not followed, proxies of the environment are not used.
    """
    if not is_http(url):  # it may have been written by plain SQL
        return "it is not an http:// or https:// address"
    try:
        # An extra, and slow to import: only who has an address to post to pays for it.
        from ayb_jobs.runtime import http_client  # noqa: PLC0415 - an optional extra
    except ImportError:
        return NOT_INSTALLED
    try:
        signed = http_client.signed(message.id, body.decode(), message.secrets) if message else {}
        http_client.post_to_end(url, body, headers={**(headers or {}), **signed}, timeout_s=timeout_s)
    except TimeoutError:
        return f"it did not answer within {timeout_s:g} s"
    except Exception as error:  # an address can make a client raise anything; the courier tells it
        return (
            str(error) if isinstance(error, http_client.Answered) else f"it cannot be reached: {without_address(error)}"
        )
    return None


def host_of(url: str) -> str:
    """Return the host of an address for messages, which show no more of it."""
    return url_host(url) or "?"

"""Sending a small request to an address of the outside world, without ever hanging or following it elsewhere."""

import hashlib
import hmac
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

USER_AGENT = "ayb-jobs"


def post(url: str, body: bytes, *, headers: Mapping[str, str] | None = None, timeout_s: float) -> str | None:
    """Post to an address; return None where it answers with a 2xx status, else what went wrong, without the address."""
    try:
        if urlsplit(url).scheme.lower() not in ("http", "https"):  # it may have been written by plain SQL
            return "it is no http:// or https:// address"
        request = urllib.request.Request(  # noqa: S310 - of a scheme that was looked at
            url, data=body, headers={"User-Agent": USER_AGENT, **(headers or {})}, method="POST"
        )
        with _OPENER.open(request, timeout=timeout_s):
            return None
    except urllib.error.HTTPError as error:
        with error:
            return f"it answered {error.code} {error.reason}"
    except urllib.error.URLError as error:
        return f"it cannot be reached: {error.reason}"
    except (OSError, HTTPException, ValueError) as error:
        return f"it cannot be reached: {type(error).__name__}"


def signature(secret: str, body: bytes) -> str:
    """Return the value of `X-Ayb-Jobs-Signature`: `t=SECONDS,v1=HEX`, an HMAC-SHA256 of `SECONDS.BODY`."""
    seconds = int(time.time())
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def host_of(url: str) -> str:
    """Return the host of an address, which may be shown where the rest may be secret."""
    try:
        return urlsplit(url).hostname or "?"
    except ValueError:
        return "?"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Lets a redirect fail as the error that it is here: a signed body goes where it was meant to go."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


_OPENER = urllib.request.build_opener(_NoRedirects)

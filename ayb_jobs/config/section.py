"""What every table of settings is made of, and the checks that they share."""

import base64
import binascii
import re
import socket
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ayb_jobs.errors import InvalidInput
from ayb_jobs.model.payload import encode_payload

# Beyond the loopback interface a token is all that stands between a stranger and code that will run.
MIN_TOKEN = 32
MAKE_ONE = "make one with `openssl rand -hex 32`"
HOW_TO_SIGN = "make one with `echo whsec_$(openssl rand -base64 32)`"
WEBHOOK_SECRET_BYTES = range(24, 65)
NEEDS_HTTP = "needs the extra `http`; install it with: pip install 'ayb-jobs[http]'"
DAY_S = 24 * 3600
HOST_NAME = re.compile(r"(?=.{1,254}\Z)\w(?:[\w-]{0,61}\w)?(?:\.\w(?:[\w-]{0,61}\w)?)*\.?")

SECRET: dict[str, JsonValue] = {"secret": True}

# A contradiction: the path of the key it is about, from its section on, and what is wrong with it.
Fault = tuple[tuple[str, ...], str]
# What is valid and yet does not work as things are, and what helps.
Doubt = tuple[str, str]


def setting(default: Any, meaning: str, *, secret: bool = False, **bounds: Any) -> Any:
    """Declare a setting; a secret is never shown, and may come from a file named by `<key>_file` where that exists."""
    return Field(default, description=meaning, repr=not secret, json_schema_extra=SECRET if secret else None, **bounds)


class Section(BaseModel):
    """A table of the file. Values are of the very type declared; unknown keys are refused."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    def contradictions(self) -> Iterator[Fault]:
        """Yield what is wrong although each value by itself is right."""
        yield from ()


def is_secret(model: type[Section], key: str) -> bool:
    """Tell whether a setting is never to be shown."""
    info = model.model_fields.get(key)
    return bool(info and info.json_schema_extra)


def payload_faults(payload: dict[str, Any]) -> Iterator[Fault]:
    """Yield why a payload cannot be stored; TOML has dates and infinity, JSON has not."""
    try:
        encode_payload(payload)
    except InvalidInput as error:
        yield ("payload",), f"cannot be used: {error}"


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on is reachable from this machine alone."""
    return host in ("localhost", "::1") or (host.startswith("127.") and host.replace(".", "").isdigit())


def can_be_listened_on(host: str) -> bool:
    """Tell whether a text is an address, or could be the name of a host; whether it is this one's is not looked at."""
    if ":" in host:
        return _is_address(host.partition("%")[0], socket.AF_INET6)
    if re.fullmatch(r"[\d.]+", host):
        return _is_address(host, socket.AF_INET)
    return bool(HOST_NAME.fullmatch(host))


def _is_address(host: str, family: socket.AddressFamily) -> bool:
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):
        return False
    return True


def url_host(url: str) -> str:
    """Return the host of a URL, which may be shown even if the rest is secret; empty if there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def webhook_secret_faults(given: Mapping[str, str]) -> Iterator[Fault]:
    """Yield which of these keys hold no secret of Standard Webhooks."""
    for key, secret in given.items():
        if secret and not _is_webhook_secret(secret):
            yield (key,), f"is no secret of Standard Webhooks, 24 to 64 bytes in base64; {HOW_TO_SIGN}"


def _is_webhook_secret(secret: str) -> bool:
    text = secret.removeprefix("whsec_")
    try:
        return len(base64.b64decode(text + "=" * (-len(text) % 4), validate=True)) in WEBHOOK_SECRET_BYTES
    except (binascii.Error, ValueError):
        return False


def has_http() -> bool:
    """Tell whether the extra `http` is installed."""
    return all(find_spec(library) is not None for library in ("aiohttp", "standardwebhooks"))


def is_showable(token: str) -> bool:
    """Tell whether a client can send a token: headers have no spaces at their ends, and carry UTF-8."""
    return token == token.strip() and token.encode(errors="replace").decode() == token


def how_to_make_a_token(host: str) -> str:
    """Say what a token for an address beyond loopback needs, and how to make one."""
    return f"listening on {host} needs a token of at least {MIN_TOKEN} characters: {MAKE_ONE}, or listen on 127.0.0.1"

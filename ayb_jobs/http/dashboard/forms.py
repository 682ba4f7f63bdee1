"""What a form sends."""

import json
from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import parse_qsl

from ayb_jobs.errors import InvalidInput

MOST_FIELDS = 100


def read_form(body: bytes) -> Mapping[str, str]:
    """Return the fields of a form, of several by one name the last; raises `InvalidInput` if it is none."""
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        raise InvalidInput("the form cannot be read") from None
    return {name: value.replace("\r\n", "\n") for name, value in fields}


def once_key(path: str, fields: Mapping[str, str]) -> str | None:
    """Return the idempotency key of what a form makes: the same if the same page's form is sent twice as it is.

    None if the form bears no value of its page.
    """
    if not fields.get("once"):
        return None
    return f"form:{sha256(json.dumps([path, sorted(fields.items())]).encode()).hexdigest()[:32]}"

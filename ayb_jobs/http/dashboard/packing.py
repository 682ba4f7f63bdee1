"""Pages and files as browsers take them: compressed, if that is shorter.

The API's answers are not: some are large, and compressing one would keep the event loop from all others. A page is made
on a thread of its own, and a file is compressed once.
"""

import gzip
from collections.abc import Mapping

from fastapi import Request

# Below this, the header that gzip adds is a good part of what it saves.
SHORTEST = 500
LEVEL = 6
VARY = "Accept-Encoding"


def compressed(content: bytes) -> bytes:
    """Return what `takes_gzip` allows to be sent; the same content gives the same bytes."""
    return gzip.compress(content, LEVEL, mtime=0)


def takes_gzip(request: Request) -> bool:
    """Tell whether whoever asks says that they read gzip."""
    for each in request.headers.get("accept-encoding", "").lower().split(","):
        name, _, weight = each.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


def packed(request: Request, content: bytes) -> tuple[bytes, Mapping[str, str]]:
    """Return content as it is sent, and the headers that say so."""
    if len(content) < SHORTEST or not takes_gzip(request):
        return content, {}
    return compressed(content), {"Content-Encoding": "gzip"}

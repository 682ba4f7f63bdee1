"""Addresses on the web that can be posted to, and the names and origins of pages."""

from ipaddress import ip_address
from urllib.parse import urlsplit


def is_http(url: str) -> bool:
    """Tell whether a text is an http:// or https:// URL with a host, a possible port, and no space or control sign."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    plain = url.isprintable() and " " not in url
    return plain and parts.scheme.lower() in ("http", "https") and bool(parts.hostname)


def web_fault(url: str) -> str | None:
    """Say what is wrong with the address of a request; None if one can be sent there.

    Shells and browsers read `127.1` and `2130706433` as an address. Nothing is ever sent to such a host from here.
    """
    if not is_http(url):
        return "is not an http:// or https:// URL"
    host = urlsplit(url).hostname or ""
    if not host.replace(".", "").isdigit():
        return None
    try:
        ip_address(host)
    except ValueError:
        return f"has the host {host:.100}, which is no address; write its four numbers, such as 127.0.0.1"
    return None


def is_origin(text: str) -> bool:
    """Tell whether a text is what browsers send as `Origin`: a scheme and a host, perhaps a port; `/` may follow."""
    return is_http(text) and text.removesuffix("/").count("/") == len("//") and not set(text) & set("?#@*")

"""Finds a request's proxy in the environment: ``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy``.

Names are read in lower and upper case; lower case wins, even if empty. An empty value names no proxy. ``HTTP_PROXY`` in
upper case is ignored in a CGI process, where a request header sets it. ``no_proxy`` is read as curl reads it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlsplit

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

NEEDS_PYSOCKS = "a SOCKS proxy needs PySocks: pip install 'shipper-logs[socks]'"

_PORTS = {"http": 80, "https": 443}


def find_proxy(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the URL of the proxy for a request to ``url``, with a scheme, or None for a direct connection."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    proxy = _variable(f"{scheme}_proxy", environ) or _variable("all_proxy", environ)
    if not proxy or bypasses_proxy(parts.hostname or "", parts.port or _PORTS[scheme], _variable("no_proxy", environ)):
        return None
    if "://" not in proxy:
        return f"http://{proxy}"
    # Desktop environments write socks:// for SOCKS version 5.
    return re.sub(r"^socks://", "socks5h://", proxy, flags=re.IGNORECASE)


def is_socks(proxy: str) -> bool:
    """Whether a proxy's URL is that of a SOCKS proxy."""
    return proxy.lower().startswith("socks")


def _variable(name: str, environ: Mapping[str, str]) -> str:
    if name in environ:
        return environ[name].strip()
    if name == "http_proxy" and "REQUEST_METHOD" in environ:
        return ""
    return environ.get(name.upper(), "").strip()


def bypasses_proxy(host: str, port: int, no_proxy: str) -> bool:
    """Whether ``no_proxy`` lists a host.

    The entries are separated by commas or blanks. ``example.com`` and ``.example.com`` match the domain and all of its
    subdomains. Addresses match as addresses, however they are written: IPv4, IPv6 with or without brackets, networks
    such as ``10.0.0.0/8``. A port limits an entry to this port. ``*`` alone matches everything; in a list it is no
    wildcard.
    """
    if no_proxy.strip() == "*":
        return True
    name = host.lower().rstrip(".")
    return any(_matches(entry.lower(), name, port) for entry in re.split(r"[\s,]+", no_proxy) if entry)


def _matches(entry: str, host: str, port: int) -> bool:
    pattern, own_port = _split_port(entry)
    if own_port and own_port != str(port):
        return False
    address = _address(host)
    if address is not None:
        return _contains(pattern, address)
    domain = pattern.strip(".")
    return domain != "" and (host == domain or host.endswith(f".{domain}"))


def _split_port(entry: str) -> tuple[str, str]:
    """The host of an entry, without brackets, and its port, "" when it has none."""
    bracketed = re.fullmatch(r"\[([^\]]*)\](/\d+)?(?::(\d+))?", entry)
    if bracketed:
        return bracketed[1] + (bracketed[2] or ""), bracketed[3] or ""
    pattern, colon, own_port = entry.rpartition(":")
    if colon and ":" not in pattern and own_port.isdigit():
        return pattern, own_port
    return entry, ""


def _address(host: str) -> IPv4Address | IPv6Address | None:
    import ipaddress  # a large import, needed only where a proxy is set

    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _contains(pattern: str, address: IPv4Address | IPv6Address) -> bool:
    import ipaddress

    try:
        return address in ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return False


def basic_credentials(url: str) -> str | None:
    """The value of an ``Authorization`` header for a URL's user and password, or None when it has neither.

    Percent-encoded bytes are sent as they are, other characters as UTF-8 (RFC 7617).
    """
    userinfo, at, _ = urlsplit(url).netloc.rpartition("@")
    if not at:
        return None
    user, _, password = userinfo.partition(":")
    pair = _decoded(user) + b":" + _decoded(password)
    return "Basic " + base64.b64encode(pair).decode("ascii")


def _decoded(text: str) -> bytes:
    return unquote_to_bytes(text.encode(errors="surrogateescape"))  # a variable may hold bytes that are not UTF-8


def without_credentials(url: str) -> str:
    """A URL without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

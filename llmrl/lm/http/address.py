"""The address of a server, and its key: checked as typed, before the server is asked."""

from __future__ import annotations

import os
from ipaddress import ip_address
from urllib.parse import urlsplit

from llmrl.core.secrets import hide


def check_url(url: str, allow_http: bool, setting: str = "lm.url") -> None:
    """Raises ValueError for an address that is none, or over which anybody could read along."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        usable = False
    if not usable or not url.isprintable() or " " in url:
        raise ValueError(f"{setting}={url}: it has to be a server's address, as in {setting}=http://127.0.0.1:8000/v1")
    if parts.scheme == "http" and not allow_http and not is_loopback(url):
        raise ValueError(
            f"{setting}={url}: without encryption, prompts and keys cross the network for others to read; use https, a "
            f"tunnel to 127.0.0.1, or say lm.allow_http=true"
        )


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def root(url: str) -> str:
    """The server's own address, without the API's version."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


def read_key(name: str | None) -> str:
    """The key that the environment variable `name` holds; from here on no message shows it.

    Raises ValueError, without showing it, for one that is not there or that no HTTP header can carry.
    """
    if name is None:
        return ""
    hide(name)
    key = os.environ.get(name, "").strip()
    if not key:
        raise ValueError(f"lm.api_key_env={name}: there is no such environment variable, or it is empty: export {name}")
    if not all("!" <= letter <= "~" for letter in key):
        raise ValueError(
            f"lm.api_key_env={name}: the value of this environment variable is no key: it has a space, a line break or "
            f"a letter beyond ASCII in it; export {name} anew"
        )
    return key

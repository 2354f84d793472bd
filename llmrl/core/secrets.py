"""Secrets: an environment variable holds each, and no config, message or log does."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

_WORDS = {
    "apikey", "accesskey", "authorization", "bearer", "credential", "credentials", "passphrase", "passwd", "password",
    "secret", "secrets", "token",
}  # fmt: skip
_BEFORE_KEY = {"access", "api", "auth", "private", "secret"}
_NAMES_A_VARIABLE = ("env", "var", "variable")
_SHAPES = {
    "a key of a model's provider": r"(?<![\w-])sk-(?=[\w-]*\d)[\w-]{20,}|(?<!\w)AIza[\w-]{30,}",
    "a token": r"(?<!\w)(?:hf_\w{30,}|gh[oprsu]_\w{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}|xox[abprs]-[\w-]{20,})",
    "an access key": r"(?<!\w)AKIA[0-9A-Z]{16}(?!\w)",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a header with a token": r"(?i)(?<!\w)bearer[\s:=]+[\w.~+/-]{16,}",
    "a URL with a name and a password": r"://[^/\s@]*:[^/\s@]+@|https?://[^/\s@]+@",
}
_IN_QUERY = re.compile(r"[?&]([\w.-]+)=")
_FROM_ENVIRONMENT = re.compile(r"\$\{\s*oc\.env\s*:\s*(\w+)")
_SHORTEST = 8  # characters of a variable's value that is looked for
_SHORTEST_HIDDEN = 4  # of one that is known to be a secret, and is only replaced
_hidden: set[str] = set()  # variables that hold a secret by what they are used for, whatever they are called


@lru_cache
def names_secret(key: str) -> bool:
    """Whether a setting or a variable of this name would hold a secret; `api_key_env` only names a variable."""
    words = _words(key)
    if words and words[-1] in _NAMES_A_VARIABLE:
        return False
    return not _WORDS.isdisjoint(words) or any(a in _BEFORE_KEY and b == "key" for a, b in pairwise(words))


def names_variable_of_secret(key: str) -> bool:
    """Whether the value of this setting has to be the name of an environment variable."""
    words = _words(key)
    return bool(words) and words[-1] in _NAMES_A_VARIABLE and names_secret("_".join(words[:-1]))


def found_in(text: str) -> str | None:
    """The kind of secret that a text holds, in words that do not show it; None where it seems to hold none."""
    for kind, shape in _SHAPES.items():
        if re.search(shape, text):
            return kind
    if any(map(names_secret, _IN_QUERY.findall(text))):
        return "a URL with a key in it"
    for name in _FROM_ENVIRONMENT.findall(text):
        if names_secret(name):
            return f"the value of ${name}"
    return next(
        (f"the value of ${name}" for name, value in _in_environment() if value in text and len(value) >= _SHORTEST),
        None,
    )


def hide(name: str) -> None:
    """Makes the value of the environment variable `name` a secret from here on, also where its name does not say so."""
    _hidden.add(name)


def without_secrets(text: str) -> str:
    """The text with the values of environment variables that hold secrets replaced by their names."""
    for name, value in sorted(_in_environment(), key=lambda both: -len(both[1])):  # one may be a part of another
        text = text.replace(value, f"${name}")
    return text


def _words(key: str) -> list[str]:
    """api_key, api-key, apiKey and API_KEY are the same two words."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", key)]


def _in_environment() -> Iterator[tuple[str, str]]:
    for name, value in os.environ.items():
        is_path = value.startswith(os.sep)  # where a secret lies is none
        if names_secret(name) and len(value) >= _SHORTEST and not is_path:
            yield name, value
        elif name in _hidden and len(value.strip()) >= _SHORTEST_HIDDEN:
            yield name, value.strip()

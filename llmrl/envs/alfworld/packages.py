"""The packages behind ALFWorld: an extra, loaded when a game is played, and held to the versions it is made for.

Two of them are under the GPL (fast-downward-textworld, jericho), which is why they are no part of llmrl's own install.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path

# Whose inner parts `engine` and `grammar` know:
EXACT = {"textworld": "1.7.0", "tatsu": "5.8.3", "fast-downward-textworld": "20.6.4"}
SERIES = {"alfworld": "0.4"}
INSTALL = "pip install -e '.[alfworld]' in a checkout, or pip install 'llmrl[alfworld]'"


class MissingPackages(ValueError):
    """The extra is not installed, or other versions of its packages are. The message says what to type."""


def versions() -> dict[str, str]:
    """The installed packages by name; those that are missing are left out."""
    found = {}
    for name in (*SERIES, *EXACT):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def require() -> dict[str, str]:
    """The versions of the packages. Raises MissingPackages."""
    if sys.version_info >= (3, 13):
        raise MissingPackages(
            f"env=alfworld/* needs Python 3.11 or 3.12, as textworld {EXACT['textworld']} does, and this is "
            f"{sys.version.split()[0]}; env=household/* runs here"
        )
    found = versions()
    if missing := [name for name in (*SERIES, *EXACT) if name not in found]:
        raise MissingPackages(
            f"env=alfworld/* needs packages that are not installed ({', '.join(missing)}): {INSTALL}; "
            "env=household/* has the same tasks and needs none"
        )
    wrong = [f"{name} {found[name]} instead of {version}" for name, version in EXACT.items() if found[name] != version]
    wrong += [
        f"{name} {found[name]} instead of {series}.x"
        for name, series in SERIES.items()
        if not found[name].startswith(f"{series}.")
    ]
    if wrong:
        raise MissingPackages(
            f"env=alfworld/* is made for other versions than those installed: {', '.join(wrong)}; {INSTALL}"
        )
    return found


def logic_files() -> tuple[Path, Path]:
    """The package's own PDDL domain and grammar, found without importing it: its import makes a folder in the home."""
    require()
    spec = util.find_spec("alfworld")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "data"
    return folder / "alfred.pddl", folder / "alfred.twl2"


@lru_cache(maxsize=1)
def packaged_logic() -> tuple[str, str]:
    """The texts of `logic_files`."""
    domain, grammar = logic_files()
    return domain.read_text(encoding="utf-8"), grammar.read_text(encoding="utf-8")

"""Findings kept in the user's cache folder. They only save time: a torn or lost file is made anew."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import platformdirs


def recall(name: str) -> dict[str, Any]:
    """The JSON object in the file of this name; empty where there is none."""
    try:
        known = json.loads(_file(name).read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def remember(name: str, new: dict[str, Any]) -> None:
    """Adds to the file what is new. A home that cannot be written costs finding it out again."""
    try:
        _file(name).parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=_file(name).parent, delete=False) as file:
            json.dump(recall(name) | new, file)
        os.replace(file.name, _file(name))
    except OSError:
        return


def _file(name: str) -> Path:
    return Path(platformdirs.user_cache_dir("llmrl")) / name

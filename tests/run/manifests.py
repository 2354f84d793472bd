"""Checkpoints as another machine, or another config, would have made them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from llmrl.core.files import to_json
from llmrl.run.checkpoint import MANIFEST


def change(checkpoint: Path, **values: Any) -> dict[str, Any]:
    """Sets dotted keys of a manifest, and its own checksum to match; returns what was there."""
    file = checkpoint / MANIFEST
    about = json.loads(file.read_text())
    del about["sha256"]
    before = {}
    for key, value in values.items():
        *parts, last = key.split(".")
        inner = about
        for part in parts:
            inner = inner[part]
        before[key], inner[last] = inner[last], value
    about["sha256"] = hashlib.sha256(to_json(about).encode()).hexdigest()
    file.write_text(to_json(about) + "\n")
    return before

"""Models that were made on this machine, by `llmrl models get` and of GGUF files: folders in the user's cache."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs

from llmrl.core.locks import holding

NOTICE = "NOTICE.json"  # beside the weights: origin, hashes, licence; no part of the model's identity


def models_folder() -> Path:
    """$LLMRL_MODELS, or `models` in the user's cache folder."""
    given = os.environ.get("LLMRL_MODELS")
    return Path(given).expanduser().absolute() if given else Path(platformdirs.user_cache_dir("llmrl"), "models")


def find_stored(name: str) -> Path | None:
    """The folder of the model of this name; None where it was not made yet."""
    if not name or name.startswith(".") or Path(name).name != name:
        return None
    folder = models_folder() / name
    return folder if (folder / NOTICE).is_file() else None


def read_notice(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / NOTICE).read_text(encoding="utf-8"))
    return found


@contextmanager
def making(name: str, say: Callable[[str], None]) -> Iterator[Path | None]:
    """An empty folder to be filled, which becomes the model's when the block ends without an error.

    None where another process has made it in the meantime. Only one process at a time makes a model.
    """
    root = models_folder()
    root.mkdir(parents=True, exist_ok=True)
    waits = f"another process is making {name}; this one waits for it"
    temporary = root / f".{name}.tmp"
    with holding(root / f".{name}.lock", lambda: say(waits)):
        if find_stored(name) is not None:
            yield None
            return
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
        try:
            temporary.mkdir()
            yield temporary
            for file in [*temporary.rglob("*"), temporary]:
                _sync(file)
            os.rename(temporary, root / name)
            _sync(root)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_notice(folder: Path, notice: dict[str, Any]) -> None:
    text = json.dumps(notice, indent=2, ensure_ascii=False)
    (folder / NOTICE).write_text(f"{text}\n", encoding="utf-8")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

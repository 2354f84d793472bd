"""Files that are whole or absent, and JSON whose bytes are a function of its values."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def to_json(value: Any) -> str:
    """Compact JSON on one line, keys sorted. Numbers of numpy and torch are numbers.

    Raises ValueError, naming the place, for NaN and infinity: where there is no number, null is written.
    """
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain
        )
    except ValueError as error:
        where = next(_not_finite(value, ""), None)
        if where is None:
            raise
        raise ValueError(f"{where}: only finite numbers are kept; where there is none, null") from error


def publish(path: Path, data: bytes | str) -> None:
    """Writes a file that a reader, also after a power cut, finds either as it was or as it is to be."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _write(temporary, data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def publish_folder(path: Path, files: Mapping[str, bytes | str]) -> None:
    """Writes a folder of files in one go; an older one of that name is replaced."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    replaced = path.with_name(f".{path.name}.{os.getpid()}.old")
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        for name, data in files.items():
            _write(temporary / name, data)
        sync_folder(temporary)
        if path.exists():  # rename does not replace a folder that holds something
            os.rename(path, replaced)
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)
    sync_folder(path.parent)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSON-lines file. A last line that was cut off is left out; nothing where there is no file.

    Raises ValueError for a broken line further up: something else wrote to the file.
    """
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith("\n"):
                return
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error.msg})") from None


def unwritable(folder: Path) -> str | None:
    """Why no file can be made in `folder`, which may itself still be made; None where one can."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return f"{existing} cannot be written to ({error.strerror})"


def flatten(config: Any, prefix: str = "", separator: str = ".") -> dict[str, Any]:
    """Dotted key -> value."""
    if not isinstance(config, Mapping) or not config:
        return {prefix: config}
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}{separator}{key}" if prefix else str(key), separator)
    return flat


def _write(path: Path, data: bytes | str) -> None:
    with path.open("wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """A rename is on disk once its folder is."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _plain(value: Any) -> Any:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(f"{type(value).__name__} is not a number, text, list or dict: {value!r}")


def _not_finite(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _not_finite(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _not_finite(inner, f"{path}[{i}]")
    else:
        number = _plain(value) if getattr(value, "ndim", None) == 0 else value
        if isinstance(number, float) and not math.isfinite(number):
            yield f"{path or 'value'} is {number}"

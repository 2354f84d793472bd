"""A data set while it is collected: one record per episode, so that a kill loses none that was written.

The file begins with MAGIC. A record is its length and its CRC-32, four bytes each, little-endian, and then that many
bytes of JSON. The first record says how the set comes about; each later one is an episode, with the texts and menus
that no record before it has. What a kill left of a record is cut off when the file is opened again.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmrl.core.files import to_json
from llmrl.core.locks import held
from llmrl.data.dataset import COLUMNS, MENUS, OF_EPISODE, TEXTS, DataError

MAGIC = b"llmrl data 1\n"
_HEAD = struct.Struct("<II")
_STEP = tuple(name for name in COLUMNS if name not in (*OF_EPISODE, "episode"))

Episode = Sequence[Mapping[str, Any]]  # rows; `episode` is the writer's to number


class FrameWriter:
    """Appends episodes. `episodes`: what is there already, with what was noted about each, in order."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        """Goes on with what is there. Raises DataError where that came about otherwise than `about` says."""
        self.path = path
        self._texts: dict[str, int] = {}
        self._menus: dict[tuple[int, ...], int] = {}
        self.kept: list[tuple[int, dict[str, Any]]] = []  # (rows, what was noted) of each episode
        self._file = path.open("ab")
        try:
            if not held(self._file):
                raise DataError(
                    f"{path} is being written by another `llmrl collect`: wait for it, or name another out=FILE"
                )
            end = self._read(about)
        except BaseException:
            self._file.close()
            raise
        self._file.truncate(end)
        if end == 0:
            self._file.write(MAGIC)
            self._append(about)

    def _read(self, about: Mapping[str, Any]) -> int:
        """Reads the records in the file. Returns where the last whole one ends."""
        end = 0
        for payload, after in _frames(self.path) if self.path.stat().st_size else ():
            end = after
            if "rows" not in payload:
                _refuse_other(self.path, payload, about)
            else:
                self._refuse_unknown(payload)
                self.kept.append((len(payload["rows"]), payload["note"]))
        return end

    def add(self, episode: Episode, note: Mapping[str, Any]) -> None:
        """`note`: what the writer wants to know of this episode when it goes on."""
        texts, menus = len(self._texts), len(self._menus)
        rows = [[self._number(name, row[name]) for name in _STEP] for row in episode]
        same = {name: self._number(name, episode[0][name]) for name in OF_EPISODE}
        payload = {
            **same,
            "rows": rows,
            "texts": list(self._texts)[texts:],
            "menus": [list(menu) for menu in list(self._menus)[menus:]],
            "note": dict(note),
        }
        self._append(payload)
        self.kept.append((len(rows), dict(note)))

    def close(self) -> None:
        self._file.close()

    def _append(self, payload: Mapping[str, Any]) -> None:
        data = to_json(payload).encode()
        self._file.write(_HEAD.pack(len(data), zlib.crc32(data)) + data)
        self._file.flush()  # the system has it now: only a power cut can still lose it

    def _refuse_unknown(self, payload: Mapping[str, Any]) -> None:
        for text in payload["texts"]:
            self._texts[text] = len(self._texts)
        for menu in payload["menus"]:
            self._menus[tuple(menu)] = len(self._menus)

    def _number(self, name: str, value: Any) -> Any:
        if name in MENUS:
            menu = tuple(self._number("", text) for text in value)
            return self._menus.setdefault(menu, len(self._menus))
        if name in (*TEXTS, "action", ""):
            return self._texts.setdefault(value, len(self._texts))
        return value


def read_frames(path: Path) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """The provenance of the set, and its rows. Raises DataError for a file that is damaged or was not finished."""
    size = path.stat().st_size
    frames = [payload for payload, end in _frames(path, whole=size)]
    if not frames:
        raise DataError(f"{path} is empty: nothing was collected yet")
    return frames[0], _rows(frames[1:])


def _rows(frames: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    texts: list[str] = []
    menus: list[list[str]] = []
    for episode, payload in enumerate(frames):
        texts += payload["texts"]
        menus += [[texts[i] for i in menu] for menu in payload["menus"]]
        same = {name: payload[name] for name in OF_EPISODE}
        for step in payload["rows"]:
            row = {**dict(zip(_STEP, step, strict=True)), **same, "episode": episode}
            for name in (*TEXTS, "action"):
                row[name] = texts[row[name]]
            for name in MENUS:
                row[name] = menus[row[name]]
            row["reward"] = float(row["reward"])
            yield row


def _frames(path: Path, whole: int | None = None) -> Iterator[tuple[dict[str, Any], int]]:
    """(record, where it ends) of each whole record. `whole`: the file's size, where a torn end is an error."""
    with path.open("rb") as file:
        found = file.read(len(MAGIC))
        if found != MAGIC and not (whole is None and MAGIC.startswith(found)):  # a kill may have come very early
            raise DataError(f"{path} is no file that `llmrl collect` writes while it collects")
        at = len(found)
        for number in range(1 << 62):
            head = file.read(_HEAD.size)
            length, crc = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0)
            data = file.read(length) if length else b""
            # no record is empty: eight zeros are what a power cut left, and their CRC fits
            if not length or len(data) < length or zlib.crc32(data) != crc:
                if whole is not None and at < whole:
                    raise DataError(
                        f"{path}, record {number}: it is torn or damaged, from byte {at:,} of {whole:,} on; the "
                        "command that collected it resumes from the record before"
                    )
                return
            at += _HEAD.size + length
            yield json.loads(data), at


def _refuse_other(path: Path, there: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    now = json.loads(to_json(now))
    differing = [key for key in {**there, **now} if there.get(key) != now.get(key)]
    if differing:
        told = "; ".join(f"{key}: {to_json(there.get(key))} there, {to_json(now.get(key))} now" for key in differing)
        raise DataError(f"{path} was begun otherwise ({told}): move it away, or name another out=FILE")

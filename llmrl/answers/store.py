"""The store of answers: one SQLite file of records, their names, and the provenance beside them."""

from __future__ import annotations

import gc
import hashlib
import json
import platform
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from llmrl.answers.cache_file import (
    AnswerCacheError,
    explain_errors,
    is_damage,
    open_cache,
    open_memory,
    patiently,
    set_aside,
    transaction,
)

_KEYS_PER_SELECT = 500


class AnswerCache:
    """One SQLite file of records, safe for any number of processes of one machine; one object per thread and process.

    A record is what is known about one question: named answers (score: continuation -> [logprob, tokens]; generate:
    index -> text). It grows by parts, and what is stored is never changed. Each part has its provenance and its time.
    Feature rows are kept beside them, each once, with the same.

    path: made if absent, its folder too; ":memory:" keeps nothing. A file that is no answer cache, or is damaged, is
    set aside, and `note` says so. `durable`: what is added is on the disk when `add` returns.

    Raises AnswerCacheError for a file that was made by a later version, cannot be opened, or turns out to be damaged
    later; that one is set aside, too.
    """

    def __init__(self, path: str | Path, durable: bool = True) -> None:
        self.path = path if path == ":memory:" else Path(path).expanduser().resolve()
        self._db, self.note, self._file = open_cache(self.path) if isinstance(self.path, Path) else open_memory()
        # With NORMAL a committed answer outlives kill -9 but not a power cut, after which a run's checkpoint could
        # rest on answers that nobody has any more. FULL costs one fsync per commit, far less than asking the model.
        self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")

    def read(self, keys: Sequence[bytes]) -> list[dict[str, Any]]:
        """The record of each key: name -> answer, empty where nothing is known."""
        records: dict[bytes, dict[str, Any]] = {}
        with self._explain_errors(), without_garbage_collection():
            for rows in self._select("SELECT key, answers FROM answers", list(dict.fromkeys(keys))):
                # One document is parsed twice as fast as many: their keys, the menus, are mostly the same.
                parts = json.loads(f"[{','.join([answers for _, answers in rows])}]")
                for (key, _), part in zip(rows, parts, strict=True):
                    if key in records:
                        records[key].update(part)
                    else:
                        records[key] = part
        return [records.get(key) or {} for key in keys]

    def add(self, answers: Mapping[str, Mapping[str, Any]], provenance: Mapping[str, str]) -> None:
        """Stores, for each question (canonical JSON), the answers that it does not have yet: all of them, or none.

        When it returns they are on the disk. Raises AnswerCacheError where they cannot be stored.
        """
        at = now()
        with self._explain_errors(), transaction(self._db):
            source = self.source(canonical(dict(provenance)))
            for question, found in answers.items():
                self.extend(record_key(question), question, found, source, at)

    def read_rows(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The feature rows that are kept, by key."""
        with self._explain_errors():
            return {
                key: floats
                for rows in self._select("SELECT key, floats FROM feature_rows", keys)
                for key, floats in rows
            }

    def add_rows(self, encoder: str, rows: Mapping[str, bytes], provenance: Mapping[str, str]) -> None:
        """Stores the rows of those texts that have none; `encoder` is canonical JSON. As `add`."""
        at = now()
        with self._explain_errors(), transaction(self._db):
            source = self.source(canonical(dict(provenance)))
            for text, floats in rows.items():
                self.put_row(row_key(encoder, text), encoder, text, floats, source, at)

    def row_length(self, encoder: str) -> int | None:
        """The length of one encoder's rows, in numbers; None for an unknown encoder."""
        with self._explain_errors():
            select = "SELECT dim FROM encoders WHERE body = ?"
            found = patiently(lambda: self._db.execute(select, (encoder,)).fetchone())
        return found and int(found[0])

    def close(self) -> None:
        self._db.close()

    # ---- inside a transaction ----------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction, for what follows."""
        with self._explain_errors(), transaction(self._db):
            yield

    def source(self, body: str) -> int:
        """The number of a provenance (canonical JSON)."""
        self._db.execute("INSERT OR IGNORE INTO provenance (body) VALUES (?)", (body,))
        (number,) = self._db.execute("SELECT id FROM provenance WHERE body = ?", (body,)).fetchone()
        return int(number)

    def extend(
        self, key: bytes, question: str, found: Mapping[str, Any], source: int, at: str
    ) -> tuple[int, list[tuple[Any, Any]]]:
        """Stores what the record does not have yet: how many answers, and (ours, theirs) of those that differ."""
        parts = self._db.execute("SELECT part, answers FROM answers WHERE key = ?", (key,)).fetchall()
        stored = {name: answer for _, part in parts for name, answer in json.loads(part).items()}
        new = {name: answer for name, answer in found.items() if name not in stored}
        if new:
            self._db.execute("INSERT OR IGNORE INTO questions VALUES (?, ?)", (key, question))
            part = 1 + max((number for number, _ in parts), default=-1)
            self._db.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", (key, part, canonical(new), source, at))
        return len(new), [(stored[n], answer) for n, answer in found.items() if n in stored and stored[n] != answer]

    def put_row(self, key: bytes, encoder: str, text: str, floats: bytes, source: int, at: str) -> bool:
        """Stores a row. Returns whether it is new."""
        self._db.execute("INSERT OR IGNORE INTO encoders (body, dim) VALUES (?, ?)", (encoder, len(floats) // 4))
        number, dim = self._db.execute("SELECT id, dim FROM encoders WHERE body = ?", (encoder,)).fetchone()
        assert len(floats) == 4 * dim
        row = (key, number, text, floats, source, at)
        return self._db.execute("INSERT OR IGNORE INTO feature_rows VALUES (?, ?, ?, ?, ?, ?)", row).rowcount == 1

    # ---- below -------------------------------------------------------------------------------------------------------

    def _select(self, select: str, keys: Sequence[bytes]) -> Iterator[list[tuple[bytes, Any]]]:
        for start in range(0, len(keys), _KEYS_PER_SELECT):
            some = keys[start : start + _KEYS_PER_SELECT]
            yield patiently(partial(self._rows, f"{select} WHERE key IN ({','.join('?' * len(some))})", some))

    def _rows(self, select: str, keys: Sequence[bytes]) -> list[tuple[bytes, Any]]:
        return self._db.execute(select, keys).fetchall()

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        with explain_errors(self.path):
            try:
                yield
            except json.JSONDecodeError as error:
                raise AnswerCacheError(
                    f"an answer kept in {self.path} cannot be read ({error}): type `llmrl cache verify` to see which, "
                    "and `llmrl cache prune --damaged` to remove it"
                ) from error
            except sqlite3.DatabaseError as error:
                if not is_damage(error) or not isinstance(self.path, Path):
                    raise
                self._db.close()
                raise AnswerCacheError(set_aside(self.path, self._file)) from error


def canonical(value: Any) -> str:
    """The one JSON text of a value: keys sorted, no spaces, unicode as it is."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def record_key(question: str) -> bytes:
    """32 bytes that name a record."""
    return hashlib.sha256(question.encode()).digest()


class Questions:
    """The questions that differ in their text alone: the same bytes as `canonical` of all fields, and their keys."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        assert max(fields) < "text"
        self._before = f'{canonical(fields)[:-1]},"text":'
        self._hash = hashlib.sha256(self._before.encode())

    def text(self, text: str) -> str:
        return f"{self._before}{_quoted(text)}}}"

    def keys(self, texts: Iterable[str]) -> list[bytes]:
        """`record_key` of each."""
        keys = []
        for text in texts:
            digest = self._hash.copy()
            digest.update(f"{_quoted(text)}}}".encode())
            keys.append(digest.digest())
        return keys

    def seeds(self, indices: Mapping[str, Iterable[str]]) -> list[list[int]]:
        """The seeds of the generations with these indices, per text: the first 48 bits of its key, plus the index."""
        keys = self.keys(indices)
        return [
            [int.from_bytes(key[:6]) + int(i) for i in some] for key, some in zip(keys, indices.values(), strict=True)
        ]


def row_key(encoder: str, text: str) -> bytes:
    """32 bytes that name a feature row; `encoder` is canonical JSON."""
    return record_key(f'{{"encoder":{encoder},"text":{canonical(text)}}}')


def with_version(provenance: Mapping[str, str]) -> dict[str, str]:
    """The provenance stored beside an answer: the machine that computed it, and the software."""
    try:
        version = metadata.version("llmrl")
    except metadata.PackageNotFoundError:
        version = "not installed"
    return {"llmrl": version, "machine": platform.machine(), **provenance}


def now() -> str:
    """UTC, to the second: as text in the order of time."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Reading makes many lists and no cycle; to look for garbage meanwhile, among all there is, takes as long again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


_quoted = json.JSONEncoder(ensure_ascii=False).encode

"""Reads a cache of answers row by row, so that of a damaged file everything is found that SQLite still reaches."""

from __future__ import annotations

import json
import math
import sqlite3
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import Any, TypeVar

from llmrl.answers.answers import record_key, row_key

IDENTITY = ("model", "revision", "dtype", "tokenizer")
ROUNDING = 1e-3  # nats: a log-probability may be above 0 by as much, from sums in single precision
_AT_ONCE = 256  # records in a transaction
_SMALLEST_ROW = 64  # bytes: no row of a question or a feature row is smaller, which bounds how many a file can hold
_FIELDS = {"engine", "mode", "model", "parameters", "text"}

T = TypeVar("T")


@dataclass
class Part:
    number: int
    answers: dict[str, Any]
    provenance: str
    at: str
    sound: bool


@dataclass
class Record:
    """One question and its answers; `problems` are in a person's words, and what they are about is not `sound`."""

    key: bytes
    question: str | None = None  # None: unreadable
    model: dict[str, Any] = field(default_factory=dict)
    mode: str | None = None
    parts: list[Part] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class Row:
    key: bytes
    encoder: dict[str, Any]
    text: str = ""
    floats: bytes | None = None  # None: unreadable
    provenance: str = ""
    at: str = ""
    problems: list[str] = field(default_factory=list)


def read_records(db: sqlite3.Connection) -> Iterator[Record]:
    db.text_factory = decode_leniently
    sources = _read_bodies(db, "provenance")
    for row in _read_table(db, "questions", "key, question"):
        if isinstance(row, str):
            yield Record(b"", problems=[row])
            continue
        key, question = row
        record = Record(key, question)
        name = f"record {shorten_key(key)}"
        try:
            stored = db.execute(
                "SELECT part, answers, provenance, at FROM answers WHERE key = ? ORDER BY part", (key,)
            ).fetchall()
        except sqlite3.DatabaseError as error:
            record.problems.append(f"{name}: {error}")
            yield record
            continue
        fields, wrong = _parse_question(key, question)
        record.model, record.mode = fields.get("model", {}), fields.get("mode")
        if not stored:
            wrong.append("no answers")
        record.problems += [f"{name}: {text}" for text in wrong]
        names: set[str] = set()
        for number, text, source, at in stored:
            answers, problems = _parse_answers(record.mode, text)
            problems += _check_origin(sources.get(source), at)
            if twice := names & answers.keys():
                problems.append(f"answered twice: {min(twice)!r}")
            names |= answers.keys()
            record.problems += [f"{name}, part {number}: {text}" for text in problems]
            record.parts.append(Part(number, answers, sources.get(source, ""), str(at), not problems and not wrong))
        yield record


def read_rows(db: sqlite3.Connection) -> Iterator[Row]:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'feature_rows'").fetchone():
        return
    db.text_factory = decode_leniently
    sources = _read_bodies(db, "provenance")
    encoders = _read_bodies(db, "encoders")
    dims = {row[0]: row[1] for row in _read_table(db, "encoders", "id, dim") if not isinstance(row, str)}
    for found in _read_table(db, "feature_rows", "key, encoder, text, floats, provenance, at"):
        if isinstance(found, str):
            yield Row(b"", {}, problems=[found])
            continue
        key, number, text, floats, source, at = found
        body, problems = encoders.get(number), _check_origin(sources.get(source), at)
        encoder = parse_object(body)
        if encoder is None:
            problems.append("its encoder is unknown")
        elif row_key(str(body), text) != key:
            problems.append("its key is not the hash of its text")
        if not isinstance(floats, bytes) or len(floats) != 4 * dims.get(number, -1):
            problems.append(f"its length is not {dims.get(number)}")
        elif not all(math.isfinite(x) for x in struct.unpack(f"<{len(floats) // 4}f", floats)):
            problems.append("a feature is not a number")
        problems = [f"feature row {shorten_key(key)}: {problem}" for problem in problems]
        yield Row(key, encoder or {}, text, floats, sources.get(source, ""), str(at), problems)


def _parse_question(key: bytes, question: str) -> tuple[dict[str, Any], list[str]]:
    if not isinstance(question, str) or record_key(question) != key:
        return {}, ["its key is not the hash of its question"]
    fields = parse_object(question)
    if fields is None or fields.keys() != _FIELDS:
        return {}, ["its question is none that llmrl asks"]
    if fields["mode"] not in ("score", "generate") or not isinstance(fields["model"], dict):
        return {}, [f"mode {fields['mode']!r} is unknown"]
    return fields, []


def _parse_answers(mode: str | None, text: str) -> tuple[dict[str, Any], list[str]]:
    """The answers of a part, and what is wrong with them."""
    answers = parse_object(text)
    if answers is None:
        return {}, ["its answers are no JSON object"]
    problems = []
    for name, answer in answers.items():
        if mode == "score":
            is_score = isinstance(answer, list) and len(answer) == 2 and all(type(x) in (int, float) for x in answer)
            if not is_score or not math.isfinite(answer[0]) or answer[0] > ROUNDING:
                problems.append(f"{name!r} has no log-probability: {answer!r}")
            elif not isinstance(answer[1], int) or answer[1] < 1:
                problems.append(f"{name!r} has no number of tokens: {answer!r}")
        elif mode == "generate":
            if not (name.isascii() and name.isdecimal() and str(int(name)) == name):
                problems.append(f"{name!r} is no number of a generation")
            if not isinstance(answer, str):
                problems.append(f"generation {name} is no text: {answer!r}")
    return answers, problems


def _check_origin(provenance: str | None, at: object) -> list[str]:
    problems = [] if parse_object(provenance) is not None else ["where it came from is unknown"]
    try:
        if as_utc(str(at)) != at:
            raise ValueError
    except ValueError:
        problems.append(f"{at!r} is no time")
    return problems


def _read_table(db: sqlite3.Connection, table: str, columns: str) -> Iterator[tuple[Any, ...] | str]:
    """The rows of a table in the order in which they were stored; a text for each stretch that cannot be read."""
    (pages,), (size,) = db.execute("PRAGMA page_count").fetchone(), db.execute("PRAGMA page_size").fetchone()
    last, most = 0, pages * size // _SMALLEST_ROW
    failed_at = -1  # the last row id that could not be read
    while last <= most:
        try:
            rows = db.execute(
                f"SELECT rowid, {columns} FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT {_AT_ONCE}", (last,)
            ).fetchall()
            ids = [last, *(row[0] for row in rows)]
            if all(one < other for one, other in pairwise(ids)):
                if not rows:
                    return
                for row in rows:
                    yield row[1:]
                last = ids[-1]
                continue
            yield f"{table}, after row {last}: row ids are out of order"
        except sqlite3.DatabaseError:
            pass  # row by row
        for row_id in range(last + 1, last + 1 + _AT_ONCE):
            try:
                row = db.execute(f"SELECT {columns} FROM {table} WHERE rowid = ?", (row_id,)).fetchone()
                if row is not None:
                    yield row
            except sqlite3.DatabaseError as error:
                if failed_at != row_id - 1:
                    yield f"{table}, from row {row_id} on: {error}"
                failed_at = row_id
        last += _AT_ONCE


def _read_bodies(db: sqlite3.Connection, table: str) -> dict[int, str]:
    return {row[0]: row[1] for row in _read_table(db, table, "id, body") if not isinstance(row, str)}


def batch(items: Iterable[T]) -> Iterator[list[T]]:
    left = iter(items)
    while batch := list(islice(left, _AT_ONCE)):
        yield batch


def parse_object(text: object) -> dict[str, Any] | None:
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def shorten_key(key: object) -> str:
    return key.hex()[:12] if isinstance(key, bytes) else repr(key)[:20]


def decode_leniently(text: bytes) -> str:
    """Bytes that are no UTF-8 are replaced, and then do not fit their key."""
    return text.decode(errors="replace")


def check_integrity(db: sqlite3.Connection) -> list[str]:
    try:
        lines = [str(line) for (line,) in db.execute("PRAGMA integrity_check")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [] if lines == ["ok"] else lines


def as_utc(text: str) -> str:
    """A date or a time as a person types it, UTC unless it says otherwise, as the cache writes it.

    Raises ValueError.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--before {text}: type a date, as in 2026-01-31, or a time, 2026-01-31T12:00") from None
    return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC).isoformat(timespec="seconds")

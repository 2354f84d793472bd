"""Counts and verifies kept answers and feature rows (`llmrl cache info`, `verify`). Imports nothing heavy."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from llmrl.answers.answers import canonical
from llmrl.answers.cache_file import explain_errors, open_to_look, schema_of
from llmrl.answers.records import (
    IDENTITY,
    check_integrity,
    decode_leniently,
    parse_object,
    read_records,
    read_rows,
)


class Group(NamedTuple):
    """Records that differ in their prompts alone, or in how answers were drawn; or the rows of one encoder."""

    about: Mapping[str, Any]  # engine, mode, model; or what names the encoder
    prompts: int  # or texts
    answers: int  # or rows
    first: str  # when the first and the last were stored, UTC
    last: str


@dataclass(frozen=True)
class Info:
    path: Path
    bytes: int  # with the log beside it
    schema: int
    answers: list[Group]
    rows: list[Group]


def info(path: Path) -> Info:
    """The contents of a cache, counted. Raises AnswerCacheError where it cannot be read."""
    with closing(open_to_look(path)) as db, explain_errors(path):
        db.text_factory = decode_leniently
        schema = schema_of(db, path)
        group_of: dict[bytes, str] = {}
        prompts: Counter[str] = Counter()
        # All before the parameters, which is the same bytes for all records of one model, engine and mode.
        before = """SELECT key, substr(question, 1, instr(question, ',"parameters":') - 1) FROM questions"""
        for key, group in db.execute(before):
            group_of[key] = group
            prompts[group] += 1
        answers: Counter[str] = Counter()
        first: dict[str, str] = {}
        last: dict[str, str] = {}
        count_of = "CASE WHEN json_valid(answers) THEN (SELECT count(*) FROM json_each(answers)) ELSE 0 END"
        for key, count, at in db.execute(f"SELECT key, {count_of}, at FROM answers"):
            group = group_of.get(key, "")
            answers[group] += count
            first[group] = min(at, first.get(group, at))
            last[group] = max(at, last.get(group, at))
        groups = [
            Group(about, prompts[group], answers[group], first[group], last[group])
            for group in sorted(prompts)
            if group in first and (about := parse_object(f"{group}}}"))
        ]
        rows = []
        if schema >= 2:
            encoders = dict(db.execute("SELECT id, body FROM encoders"))
            counts = "SELECT encoder, count(*), min(at), max(at) FROM feature_rows GROUP BY encoder"
            for encoder, count, start, end in db.execute(counts):
                rows.append(Group(parse_object(encoders.get(encoder)) or {}, count, count, start, end))
    files = (path, path.with_name(f"{path.name}-wal"))
    return Info(path, sum(file.stat().st_size for file in files if file.exists()), schema, groups, rows)


def find_identities(path: Path, model: str, revision: str | None, dtype: str) -> list[dict[str, str]]:
    """The models with answers or rows in the cache that have this name (a folder: its own), revision and dtype.

    Raises AnswerCacheError where the cache cannot be read.
    """
    names = {model, Path(model).name}
    with closing(open_to_look(path)) as db, explain_errors(path):
        found = [body for (body,) in db.execute("SELECT DISTINCT json_extract(question, '$.model') FROM questions")]
        if schema_of(db, path) > 1:
            found += [body for (body,) in db.execute("SELECT body FROM encoders")]
    known = [
        {name: about.get(name, "") for name in IDENTITY} for about in map(parse_object, found) if about is not None
    ]
    fitting = [
        about
        for about in known
        if about["model"] in names and about["dtype"] == dtype and about["revision"].startswith(revision or "")
    ]
    return list({canonical(about): about for about in fitting}.values())


@dataclass
class Verified:
    """The entries that were checked, and the faults found."""

    prompts: int = 0
    answers: int = 0
    rows: int = 0
    problems: list[str] = field(default_factory=list)


def verify(path: Path) -> Verified:
    """Holds everything in a cache to what it should be; changes nothing."""
    found = Verified()
    with closing(open_to_look(path)) as db, explain_errors(path):
        found.problems += [f"SQLite: {line}" for line in check_integrity(db)]
        for record in read_records(db):
            found.prompts += record.question is not None
            found.answers += sum(len(part.answers) for part in record.parts)
            found.problems += record.problems
        for row in read_rows(db):
            found.rows += row.floats is not None
            found.problems += row.problems
        try:
            orphans = "SELECT count(*) FROM answers WHERE key NOT IN (SELECT key FROM questions)"
            (parts,) = db.execute(orphans).fetchone()
            if parts:
                found.problems.append(f"answers without a question: {parts}")
        except sqlite3.DatabaseError as error:
            found.problems.append(f"answers: {error}")
    return found

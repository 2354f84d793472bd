"""What a person does with kept answers and feature rows: look, verify, prune, export, import (`llmrl cache`).

A cache is read row by row, so that of a damaged file everything is found that SQLite still reaches; and nothing is
carried from one file to another before it is verified. Imports nothing heavy.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import struct
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from llmrl.answers.answers import AnswerCache, canonical, record_key, row_key
from llmrl.answers.cache_file import (
    AnswerCacheError,
    WrongFile,
    explain_errors,
    open_cache,
    open_to_look,
    schema_of,
    transaction,
)
from llmrl.core.files import sync_folder

ROWS = "rows"  # the mode under which feature rows are shown and pruned
MODES = ("score", "generate", ROWS)
ROUNDING = 1e-3  # nats: a log-probability may be above 0 by as much, from sums in single precision
_AT_ONCE = 256  # records in a transaction
_SMALLEST_ROW = 64  # bytes: no row of a question or a feature row is smaller, which bounds how many a file can hold
_FIELDS = {"engine", "mode", "model", "parameters", "text"}
_IDENTITY = ("model", "revision", "dtype", "tokenizer")

T = TypeVar("T")


# ---- looking ---------------------------------------------------------------------------------------------------------


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
    """What a cache holds. Raises AnswerCacheError where it cannot be read."""
    with closing(open_to_look(path)) as db, explain_errors(path):
        db.text_factory = _lenient
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
            if group in first and (about := _object(f"{group}}}"))
        ]
        rows = []
        if schema >= 2:
            encoders = dict(db.execute("SELECT id, body FROM encoders"))
            counts = "SELECT encoder, count(*), min(at), max(at) FROM feature_rows GROUP BY encoder"
            for encoder, count, start, end in db.execute(counts):
                rows.append(Group(_object(encoders.get(encoder)) or {}, count, count, start, end))
    files = (path, path.with_name(f"{path.name}-wal"))
    return Info(path, sum(file.stat().st_size for file in files if file.exists()), schema, groups, rows)


def identities(path: Path, model: str, revision: str | None, dtype: str) -> list[dict[str, str]]:
    """Of the models whose answers or rows are kept: those of this name (of a folder: its own), revision and dtype.

    Raises AnswerCacheError where the cache cannot be read.
    """
    names = {model, Path(model).name}
    with closing(open_to_look(path)) as db, explain_errors(path):
        found = [body for (body,) in db.execute("SELECT DISTINCT json_extract(question, '$.model') FROM questions")]
        if schema_of(db, path) > 1:
            found += [body for (body,) in db.execute("SELECT body FROM encoders")]
    known = [{name: about.get(name, "") for name in _IDENTITY} for about in map(_object, found) if about is not None]
    fitting = [
        about
        for about in known
        if about["model"] in names and about["dtype"] == dtype and about["revision"].startswith(revision or "")
    ]
    return list({canonical(about): about for about in fitting}.values())


# ---- verifying -------------------------------------------------------------------------------------------------------


@dataclass
class Verified:
    """What was looked at, and what is wrong."""

    prompts: int = 0
    answers: int = 0
    rows: int = 0
    problems: list[str] = field(default_factory=list)


def verify(path: Path) -> Verified:
    """Holds everything in a cache to what it should be; changes nothing."""
    found = Verified()
    with closing(open_to_look(path)) as db, explain_errors(path):
        found.problems += [f"SQLite: {line}" for line in _integrity(db)]
        for record in _records(db):
            found.prompts += record.question is not None
            found.answers += sum(len(part.answers) for part in record.parts)
            found.problems += record.problems
        for row in _rows(db):
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


def _integrity(db: sqlite3.Connection) -> list[str]:
    try:
        lines = [str(line) for (line,) in db.execute("PRAGMA integrity_check")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [] if lines == ["ok"] else lines


# ---- pruning ---------------------------------------------------------------------------------------------------------


@dataclass
class Pruned:
    prompts: int = 0  # of which no answer is left
    answers: int = 0
    rows: int = 0
    bytes: int = 0  # given back


@dataclass(frozen=True)
class Selection:
    """What is to be removed: what all conditions hold for. At least one is given."""

    models: Collection[str] = ()
    mode: str | None = None
    before: str | None = None  # UTC, as `at`
    damaged: bool = False

    def __post_init__(self) -> None:
        if not (self.models or self.mode or self.before or self.damaged):
            raise ValueError("say what is to be removed: --model NAME, --mode, --before DATE or --damaged")
        if self.mode is not None and self.mode not in MODES:
            raise ValueError(f"--mode {self.mode}: use one of {', '.join(MODES)}")

    def takes(self, model: object, mode: str | None, at: str | None, damaged: bool) -> bool:
        return (
            (not self.models or model in self.models)
            and (self.mode is None or mode == self.mode)
            and (self.before is None or (at is not None and at < self.before))
            and (damaged or not self.damaged)
        )


def moment(text: str) -> str:
    """A date or a time as a person types it, UTC unless it says otherwise, as the cache writes it.

    Raises ValueError.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--before {text}: type a date, as in 2026-01-31, or a time, 2026-01-31T12:00") from None
    return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC).isoformat(timespec="seconds")


def prune(path: Path, selection: Selection, really: bool) -> Pruned:
    """Removes what is selected, or only counts it; then gives the space back."""
    with closing(open_to_look(path)) as db, explain_errors(path):
        if selection.damaged and (wrong := _integrity(db)):
            raise AnswerCacheError(
                f"{path} is damaged as a file ({wrong[0]}), and nothing is written to it: move it away, then type "
                "`llmrl cache import FILE` with its new name to take over what can be read"
            )
        counted, _, _ = _select(db, selection)
    if not really:
        return counted
    before = path.stat().st_size
    with closing(open_cache(path).db) as db, explain_errors(path):
        db.text_factory = _lenient
        with transaction(db):
            counted, parts, rows = _select(db, selection)
            db.executemany("DELETE FROM answers WHERE key = ? AND part = ?", parts)
            db.execute("DELETE FROM questions WHERE key NOT IN (SELECT key FROM answers)")
            if selection.takes(None, None, None, damaged=True):
                db.execute("DELETE FROM answers WHERE key NOT IN (SELECT key FROM questions)")
            db.executemany("DELETE FROM feature_rows WHERE key = ?", rows)
            db.execute("DELETE FROM encoders WHERE id NOT IN (SELECT encoder FROM feature_rows)")
            used = "SELECT provenance FROM answers UNION SELECT provenance FROM feature_rows"
            db.execute(f"DELETE FROM provenance WHERE id NOT IN ({used})")
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    counted.bytes = max(0, before - path.stat().st_size)
    return counted


def _select(db: sqlite3.Connection, selection: Selection) -> tuple[Pruned, list[tuple[bytes, int]], list[tuple[bytes]]]:
    """Counts, (key, part) of answers, and (key,) of rows."""
    counted = Pruned()
    parts: list[tuple[bytes, int]] = []
    rows: list[tuple[bytes]] = []
    for record in _records(db):
        gone = [
            part
            for part in record.parts
            if selection.takes(record.model.get("model"), record.mode, part.at, not part.sound)
        ]
        counted.prompts += bool(gone) and len(gone) == len(record.parts)
        counted.answers += sum(len(part.answers) for part in gone)
        parts += [(record.key, part.number) for part in gone]
    for row in _rows(db):
        if selection.takes(row.encoder.get("model"), ROWS, row.at, bool(row.problems)):
            counted.rows += 1
            rows.append((row.key,))
    return counted, parts, rows


# ---- carrying from one file to another -------------------------------------------------------------------------------


@dataclass
class Merged:
    """What came of reading one cache into another."""

    prompts: int = 0  # read, and sound
    answers: int = 0  # new
    known: int = 0  # answers and rows that were kept here already
    differing: int = 0  # of those, kept here with another value, which stays
    rows: int = 0  # new
    problems: list[str] = field(default_factory=list)  # of what was left out


def import_(cache: AnswerCache, source: Path) -> Merged:
    """Adds what is sound in `source` and missing in `cache`. Raises AnswerCacheError for what is no answer cache."""
    if source.exists() and isinstance(cache.path, Path) and cache.path.exists() and source.samefile(cache.path):
        raise WrongFile(f"{source} is the cache itself; name the file that is to be added to it")
    with closing(open_to_look(source)) as db, explain_errors(source):
        return _merge(db, cache, lambda identity: True)


def export(path: Path, out: Path, models: Collection[str] = (), identities: Sequence[Mapping[str, Any]] = ()) -> Merged:
    """Writes a cache with all that is sound of these models, by name or by identity; of all where none is given.

    Raises AnswerCacheError for a file that exists, and where nothing is kept of them.
    """

    def is_wanted(identity: Mapping[str, Any]) -> bool:
        named = identity.get("model") in models or any(
            all(identity.get(name) == known.get(name) for name in _IDENTITY) for known in identities
        )
        return named or not (models or identities)

    if out.exists():
        raise WrongFile(f"{out} exists and is left as it is: name another file")
    with closing(open_to_look(path)) as db, explain_errors(path):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
            new = Path(folder) / out.name
            cache = AnswerCache(new, durable=False)  # it is on the disk before it gets its name
            merged = _merge(db, cache, is_wanted)
            cache.close()
            if not merged.answers and not merged.rows:
                names = sorted({*models, *(str(identity.get("model")) for identity in identities)})
                raise WrongFile(
                    f"{path} holds nothing of {', '.join(names) or 'any model'}: nothing was written; "
                    "`llmrl cache info` says what it holds"
                )
            with closing(sqlite3.connect(new, isolation_level=None)) as whole:
                whole.execute("VACUUM")
                whole.execute("PRAGMA journal_mode = DELETE")  # one file, which reads from a read-only place, too
            with new.open("rb") as file:
                os.fsync(file.fileno())
            try:
                os.link(new, out)
            except FileExistsError:
                raise WrongFile(f"{out} exists and is left as it is: name another file") from None
            sync_folder(out.parent)
    return merged


def _merge(db: sqlite3.Connection, cache: AnswerCache, is_wanted: Callable[[Mapping[str, Any]], bool]) -> Merged:
    merged = Merged()
    for records in _batches(_records(db)):
        with cache.writing():
            for record in records:
                if record.question is None or is_wanted(record.model):
                    merged.problems += record.problems
                sound = [part for part in record.parts if part.sound]
                if not sound or record.question is None or not is_wanted(record.model):
                    continue
                merged.prompts += 1
                for part in sound:
                    source = cache.source(part.provenance)
                    new, differing = cache.extend(record.key, record.question, part.answers, source, part.at)
                    merged.answers += new
                    merged.known += len(part.answers) - new
                    merged.differing += len(differing)
    for rows in _batches(_rows(db)):
        with cache.writing():
            for row in rows:
                if row.problems or row.floats is None:
                    merged.problems += row.problems
                elif is_wanted(row.encoder):
                    body = canonical(row.encoder)
                    if cache.row_length(body) not in (None, len(row.floats) // 4):
                        merged.problems.append(
                            f"feature row {_hex(row.key)}: rows of its encoder are of another length"
                        )
                    elif cache.put_row(row.key, body, row.text, row.floats, cache.source(row.provenance), row.at):
                        merged.rows += 1
                    else:
                        merged.known += 1
                        merged.differing += cache.read_rows([row.key])[row.key] != row.floats
    return merged


# ---- reading row by row ----------------------------------------------------------------------------------------------


@dataclass
class _Part:
    number: int
    answers: dict[str, Any]
    provenance: str
    at: str
    sound: bool


@dataclass
class _Record:
    """One question and its answers; `problems` are in a person's words, and what they are about is not `sound`."""

    key: bytes
    question: str | None = None  # None: unreadable
    model: dict[str, Any] = field(default_factory=dict)
    mode: str | None = None
    parts: list[_Part] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class _Row:
    key: bytes
    encoder: dict[str, Any]
    text: str = ""
    floats: bytes | None = None  # None: unreadable
    provenance: str = ""
    at: str = ""
    problems: list[str] = field(default_factory=list)


def _records(db: sqlite3.Connection) -> Iterator[_Record]:
    db.text_factory = _lenient
    sources = _bodies(db, "provenance")
    for row in _scan(db, "questions", "key, question"):
        if isinstance(row, str):
            yield _Record(b"", problems=[row])
            continue
        key, question = row
        record = _Record(key, question)
        name = f"record {_hex(key)}"
        try:
            stored = db.execute(
                "SELECT part, answers, provenance, at FROM answers WHERE key = ? ORDER BY part", (key,)
            ).fetchall()
        except sqlite3.DatabaseError as error:
            record.problems.append(f"{name}: {error}")
            yield record
            continue
        fields, wrong = _question(key, question)
        record.model, record.mode = fields.get("model", {}), fields.get("mode")
        if not stored:
            wrong.append("no answers")
        record.problems += [f"{name}: {text}" for text in wrong]
        names: set[str] = set()
        for number, text, source, at in stored:
            answers, problems = _answers(record.mode, text)
            problems += _origin(sources.get(source), at)
            if twice := names & answers.keys():
                problems.append(f"answered twice: {min(twice)!r}")
            names |= answers.keys()
            record.problems += [f"{name}, part {number}: {text}" for text in problems]
            record.parts.append(_Part(number, answers, sources.get(source, ""), str(at), not problems and not wrong))
        yield record


def _rows(db: sqlite3.Connection) -> Iterator[_Row]:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'feature_rows'").fetchone():
        return
    db.text_factory = _lenient
    sources = _bodies(db, "provenance")
    encoders = _bodies(db, "encoders")
    dims = {row[0]: row[1] for row in _scan(db, "encoders", "id, dim") if not isinstance(row, str)}
    for found in _scan(db, "feature_rows", "key, encoder, text, floats, provenance, at"):
        if isinstance(found, str):
            yield _Row(b"", {}, problems=[found])
            continue
        key, number, text, floats, source, at = found
        body, problems = encoders.get(number), _origin(sources.get(source), at)
        encoder = _object(body)
        if encoder is None:
            problems.append("its encoder is unknown")
        elif row_key(str(body), text) != key:
            problems.append("its key is not the hash of its text")
        if not isinstance(floats, bytes) or len(floats) != 4 * dims.get(number, -1):
            problems.append(f"its length is not {dims.get(number)}")
        elif not all(math.isfinite(x) for x in struct.unpack(f"<{len(floats) // 4}f", floats)):
            problems.append("a feature is not a number")
        problems = [f"feature row {_hex(key)}: {problem}" for problem in problems]
        yield _Row(key, encoder or {}, text, floats, sources.get(source, ""), str(at), problems)


def _question(key: bytes, question: str) -> tuple[dict[str, Any], list[str]]:
    if not isinstance(question, str) or record_key(question) != key:
        return {}, ["its key is not the hash of its question"]
    fields = _object(question)
    if fields is None or fields.keys() != _FIELDS:
        return {}, ["its question is none that llmrl asks"]
    if fields["mode"] not in ("score", "generate") or not isinstance(fields["model"], dict):
        return {}, [f"mode {fields['mode']!r} is unknown"]
    return fields, []


def _answers(mode: str | None, text: str) -> tuple[dict[str, Any], list[str]]:
    """The answers of a part, and what is wrong with them."""
    answers = _object(text)
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


def _origin(provenance: str | None, at: object) -> list[str]:
    problems = [] if _object(provenance) is not None else ["where it came from is unknown"]
    try:
        if moment(str(at)) != at:
            raise ValueError
    except ValueError:
        problems.append(f"{at!r} is no time")
    return problems


def _scan(db: sqlite3.Connection, table: str, columns: str) -> Iterator[tuple[Any, ...] | str]:
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


def _bodies(db: sqlite3.Connection, table: str) -> dict[int, str]:
    return {row[0]: row[1] for row in _scan(db, table, "id, body") if not isinstance(row, str)}


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    left = iter(items)
    while batch := list(islice(left, _AT_ONCE)):
        yield batch


def _object(text: object) -> dict[str, Any] | None:
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _hex(key: object) -> str:
    return key.hex()[:12] if isinstance(key, bytes) else repr(key)[:20]


def _lenient(text: bytes) -> str:
    """Bytes that are no UTF-8 are replaced, and then do not fit their key."""
    return text.decode(errors="replace")

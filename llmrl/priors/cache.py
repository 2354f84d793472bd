"""The kept answers: a language model is asked once, and what it said stands for every later run."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from llmrl.lm.language_model import LanguageModel, LanguageModelError, ModelIdentity, Sampling, Score

SCHEMA = 1
COMMIT_EVERY = 64  # prompts: what a kill can lose of one call; a commit costs little beside asking for as many
_OURS = 0x4C4C4D41  # "LLMA" in the file's header: what tells an answer cache from any other SQLite file
_BUSY_SECONDS = 300.0
_KEYS_PER_SELECT = 500

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE provenance (id INTEGER PRIMARY KEY, body TEXT NOT NULL UNIQUE);
CREATE TABLE questions (key BLOB PRIMARY KEY, question TEXT NOT NULL);
CREATE TABLE answers (
    key BLOB NOT NULL,
    part INTEGER NOT NULL,
    answers TEXT NOT NULL,
    provenance INTEGER NOT NULL REFERENCES provenance (id),
    at TEXT NOT NULL,
    PRIMARY KEY (key, part)
) WITHOUT ROWID;
"""


class AnswerCacheError(RuntimeError):
    """Answers cannot be kept, or what was kept cannot be read. The message says what to do."""


@dataclass
class AnswerCounts:
    """What one `Answers` did. An answer is one continuation's score or one generation."""

    calls: int = 0  # of the model, each for up to COMMIT_EVERY prompts
    computed: int = 0  # answers the model gave
    hits: int = 0  # answers that were kept already
    scored_tokens: int = 0  # tokens of the continuations that the model scored


class Answers:
    """What priors ask: kept answers where there are any, the model's where not, and those kept before they are used.

    identity, engine: of the model, known without it; `load` is called at the first question that needs it, and must
    give that very model. Equal prompts in a call are asked once.
    """

    def __init__(
        self, cache: AnswerCache, identity: ModelIdentity, engine: str, load: Callable[[], LanguageModel]
    ) -> None:
        self.counts = AnswerCounts()
        self._cache, self._identity, self._engine, self._load = cache, identity, engine, load
        self._fields = {"engine": engine, "model": asdict(identity)}
        self._model: LanguageModel | None = None

    def scores(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        """log p(continuation | prompt) for every continuation of every prompt, in the caller's order.

        Raises LanguageModelError where the model gives none, AnswerCacheError where it cannot be kept.
        """

        def ask(model: LanguageModel, missing: Mapping[str, list[str]], _: object) -> Iterator[dict[str, Any]]:
            found = model.score(list(missing), list(missing.values()))
            for texts, scores in zip(missing.values(), found, strict=True):
                if not all(math.isfinite(score.logprob) for score in scores):
                    raise LanguageModelError(f"{self._identity.model} gave a log-probability that is not a number")
                self.counts.scored_tokens += sum(score.tokens for score in scores)
                yield dict(zip(texts, scores, strict=True))

        wanted: dict[str, dict[str, None]] = {}
        for prompt, texts in zip(prompts, continuations, strict=True):
            wanted.setdefault(prompt, {}).update(dict.fromkeys(texts))
        known = self._answers("score", None, wanted, ask)
        return [
            [Score(*known[prompt][text]) for text in texts]
            for prompt, texts in zip(prompts, continuations, strict=True)
        ]

    def generations(self, prompts: Sequence[str], n: int, sampling: Sampling) -> list[list[str]]:
        """Generations 0 … n-1 of each prompt.

        Generation i has the seed: the first 48 bits of the record's key, plus i. Raises as `scores`.
        """

        def ask(model: LanguageModel, missing: Mapping[str, list[str]], keys: list[bytes]) -> Iterator[dict[str, Any]]:
            seeds = [
                [int.from_bytes(key[:6]) + int(i) for i in indices]
                for key, indices in zip(keys, missing.values(), strict=True)
            ]
            found = model.sample(list(missing), seeds, sampling)
            return (dict(zip(i, texts, strict=True)) for i, texts in zip(missing.values(), found, strict=True))

        indices = [str(i) for i in range(n)]
        known = self._answers("generate", asdict(sampling), dict.fromkeys(prompts, indices), ask)
        return [[known[prompt][i] for i in indices] for prompt in prompts]

    def close(self) -> None:
        self._cache.close()

    def _answers(
        self,
        mode: str,
        parameters: Mapping[str, Any] | None,
        wanted: Mapping[str, Collection[str]],
        ask: Callable[[LanguageModel, Mapping[str, list[str]], list[bytes]], Iterable[dict[str, Any]]],
    ) -> dict[str, dict[str, Any]]:
        """prompt -> name of an answer -> the answer, for all `wanted` names (of each prompt) at least."""
        fields = self._fields | {"mode": mode, "parameters": parameters}
        questions = {prompt: canonical(fields | {"text": prompt}) for prompt in wanted}
        keys = {prompt: record_key(question) for prompt, question in questions.items()}
        known = dict(zip(wanted, self._cache.read(list(keys.values())), strict=True))
        missing = {prompt: [n for n in names if n not in known[prompt]] for prompt, names in wanted.items()}
        self.counts.hits += sum(map(len, wanted.values())) - sum(map(len, missing.values()))
        unknown = [prompt for prompt, names in missing.items() if names]
        for start in range(0, len(unknown), COMMIT_EVERY):
            now = unknown[start : start + COMMIT_EVERY]
            its_keys = [keys[prompt] for prompt in now]
            found = list(ask(self._loaded(), {prompt: missing[prompt] for prompt in now}, its_keys))
            self.counts.calls += 1
            self.counts.computed += sum(map(len, found))
            self._cache.add(dict(zip((questions[p] for p in now), found, strict=True)), self._provenance())
            # What was stored is the answer, also where another process stored its own first.
            known.update(zip(now, self._cache.read(its_keys), strict=True))
        return known

    def _loaded(self) -> LanguageModel:
        if self._model is None:
            model = self._load()
            if (model.identity, model.engine) != (self._identity, self._engine):
                raise LanguageModelError(
                    f"the model that was loaded, {model.identity} by {model.engine}, is not the one that was declared, "
                    f"{self._identity} by {self._engine}: its answers would be kept under a wrong name"
                )
            self._model = model
        return self._model

    def _provenance(self) -> dict[str, str]:
        try:
            version = metadata.version("llmrl")
        except metadata.PackageNotFoundError:
            version = "not installed"
        return {"llmrl": version, "machine": platform.machine(), **self._loaded().provenance}


class AnswerCache:
    """One SQLite file of records, safe for any number of processes of one machine; one object per thread and process.

    A record is what is known about one question: named answers (score: continuation -> [logprob, tokens]; generate:
    index -> text). It grows by parts, and what is stored is never changed. Each part has its provenance and its time.

    path: made if absent, its folder too; ":memory:" keeps nothing. Raises AnswerCacheError for a file that is no answer
    cache or is damaged (it is left as it is), or was made by a later version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path if path == ":memory:" else Path(path).expanduser().absolute()
        with self._explained():
            if isinstance(self.path, Path):
                if not self.path.exists():
                    _create(self.path)
                # SQLite refuses a file that is not its own, but would write over a very short one.
                if _beginning(self.path) != b"SQLite format 3\0":
                    raise _foreign(self.path)
            self._db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise

    def read(self, keys: Sequence[bytes]) -> list[dict[str, Any]]:
        """The record of each key: name -> answer, empty where nothing is known."""
        records: dict[bytes, dict[str, Any]] = {key: {} for key in keys}
        distinct = list(records)
        with self._explained():
            for start in range(0, len(distinct), _KEYS_PER_SELECT):
                some = distinct[start : start + _KEYS_PER_SELECT]
                marks = ",".join("?" * len(some))
                rows = self._db.execute(f"SELECT key, answers FROM answers WHERE key IN ({marks})", some).fetchall()
                # One document is parsed twice as fast as many: their keys, the menus, are mostly the same.
                parts = json.loads(f"[{','.join(answers for _, answers in rows)}]")
                for (key, _), part in zip(rows, parts, strict=True):
                    records[key].update(part)
        return [records[key] for key in keys]

    def add(self, answers: Mapping[str, Mapping[str, Any]], provenance: Mapping[str, str]) -> None:
        """Stores, for each question (canonical JSON), the answers that it does not have yet: all of them, or none.

        When it returns they are on the disk. Raises AnswerCacheError where they cannot be stored.
        """
        at = datetime.now(UTC).isoformat(timespec="seconds")
        with self._explained(), self._transaction():
            body = canonical(dict(provenance))
            self._db.execute("INSERT OR IGNORE INTO provenance (body) VALUES (?)", (body,))
            (source,) = self._db.execute("SELECT id FROM provenance WHERE body = ?", (body,)).fetchone()
            for question, found in answers.items():
                key = record_key(question)
                parts = self._db.execute("SELECT answers FROM answers WHERE key = ?", (key,)).fetchall()
                stored = {name for (part,) in parts for name in json.loads(part)}
                new = {name: answer for name, answer in found.items() if name not in stored}
                if new:
                    self._db.execute("INSERT OR IGNORE INTO questions VALUES (?, ?)", (key, question))
                    row = (key, len(parts), canonical(new), source, at)
                    self._db.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", row)

    def close(self) -> None:
        self._db.close()

    def _open(self) -> None:
        if self.path == ":memory:":
            _make_tables(self._db)
        if self._db.execute("PRAGMA application_id").fetchone() != (_OURS,):
            raise _foreign(self.path)
        schema = self._db.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
        if schema != (str(SCHEMA),):
            raise AnswerCacheError(
                f"{self.path} has schema {schema and schema[0]}, this version of llmrl reads {SCHEMA}: "
                "upgrade llmrl, or choose another file with paths.cache=FILE"
            )
        # With NORMAL a committed answer outlives kill -9 but not a power cut, after which a run's checkpoint could
        # rest on answers that nobody has any more. FULL costs one fsync per commit, far less than asking the model.
        self._db.execute("PRAGMA synchronous = FULL")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE: what is read inside cannot be changed by others before what is written.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, json.JSONDecodeError) as error:
            name = getattr(error, "sqlite_errorname", type(error).__name__)
            raise AnswerCacheError(f"answer cache {self.path}: {_advice(name)} ({error}, {name})") from error


def canonical(value: Any) -> str:
    """The one JSON text of a value: keys sorted, no spaces, unicode as it is."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def record_key(question: str) -> bytes:
    """32 bytes that name a record."""
    return hashlib.sha256(question.encode()).digest()


def _create(path: Path) -> None:
    """Makes an empty cache beside its place, then puts it there whole: processes that start together never see half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        new = Path(folder) / path.name
        with closing(sqlite3.connect(new, isolation_level=None)) as db:
            _make_tables(db)
            db.execute("PRAGMA journal_mode = WAL")  # readers and a writer do not wait for each other; stays so
        with suppress(FileExistsError):  # another process was faster
            os.link(new, path)
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def _make_tables(db: sqlite3.Connection) -> None:
    db.executescript(_TABLES)
    db.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
    db.execute(f"PRAGMA application_id = {_OURS}")


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _foreign(path: object) -> AnswerCacheError:
    return AnswerCacheError(
        f"{path} is no answer cache; it was left as it is. Choose another file with paths.cache=FILE"
    )


def _advice(name: str) -> str:
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_FORMAT", "JSONDecodeError")):
        return (
            "the file is damaged or no answer cache, and was left as it is; "
            "move it away, restore a copy, or choose another with paths.cache=FILE"
        )
    if name.startswith("SQLITE_FULL"):
        return "the disk is full; free some space and type the same command again, what was kept is safe"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return f"another process has held the file for {_BUSY_SECONDS:.0f} s; end it and type the same command again"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")) or "SQLITE" not in name:
        return "the file cannot be opened for writing; make it writable, or choose another with paths.cache=FILE"
    return "storing or reading failed; check the disk, then type the same command again, what was kept is safe"

"""The kept answers: a language model is asked once, and what it said stands for every later run."""

from __future__ import annotations

import gc
import hashlib
import json
import math
import platform
import sqlite3
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from llmrl.lm.language_model import (
    PROBES,
    LanguageModel,
    LanguageModelError,
    ModelIdentity,
    Outage,
    Sampling,
    Score,
    another_model,
    distance,
)
from llmrl.priors.cache_file import (
    AnswerCacheError,
    explained,
    is_damage,
    open_cache,
    open_memory,
    set_aside,
    transaction,
)

__all__ = ["AnswerCache", "AnswerCacheError", "AnswerCounts", "Answers", "KeptRows", "canonical", "record_key"]

COMMIT_EVERY = 64  # prompts: what a kill can lose of one call; a commit costs little beside asking for as many
_KEYS_PER_SELECT = 500


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
    give that very model. Equal prompts in a call are asked once. `cached_only`: what is missing is an error.
    """

    def __init__(
        self,
        cache: AnswerCache,
        identity: ModelIdentity,
        engine: str,
        load: Callable[[], LanguageModel],
        cached_only: bool = False,
    ) -> None:
        self.counts = AnswerCounts()
        self._cache, self._identity, self._engine, self._load = cache, identity, engine, load
        self._cached_only = cached_only
        self._questions: dict[Sampling | None, Questions] = {}
        self._model: LanguageModel | None = None
        self._vouched = False  # whether what answers is the model that answered before

    @property
    def note(self) -> str | None:
        """What a person should be told about the opening of the cache, or None."""
        return self._cache.note

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
        known = self._answers("score", None, {prompt: texts.keys() for prompt, texts in wanted.items()}, ask)
        with _uncollected():
            return [
                list(map(Score._make, map(known[prompt].__getitem__, texts)))
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
        names = dict.fromkeys(indices).keys()
        known = self._answers("generate", sampling, dict.fromkeys(prompts, names), ask)
        return [[known[prompt][i] for i in indices] for prompt in prompts]

    def counters(self) -> Mapping[str, float]:
        """What asking took besides `counts`: of a model behind a server."""
        counters = getattr(self._model, "counters", None)
        return counters() if counters is not None else {}

    def close(self) -> None:
        self._cache.close()
        close = getattr(self._model, "close", None)
        if close is not None:
            close()

    def _answers(
        self,
        mode: str,
        sampling: Sampling | None,
        wanted: Mapping[str, KeysView[str]],
        ask: Callable[[LanguageModel, Mapping[str, list[str]], list[bytes]], Iterable[dict[str, Any]]],
    ) -> dict[str, dict[str, Any]]:
        """prompt -> name of an answer -> the answer, for all `wanted` names (of each prompt) at least."""
        if sampling not in self._questions:
            self._questions[sampling] = Questions(self._fields(mode, sampling))
        questions = self._questions[sampling]
        keys = questions.keys(wanted)
        known = dict(zip(wanted, self._cache.read(keys), strict=True))
        missing = {
            prompt: [name for name in names if name not in record]
            for (prompt, names), record in zip(wanted.items(), known.values(), strict=True)
            if not names <= record.keys()
        }
        left = sum(map(len, missing.values()))
        asked = sum(map(len, wanted.values()))
        self.counts.hits += asked - left
        if missing and self._cached_only:
            raise AnswerCacheError(
                f"only what is kept may be used, and {len(missing):,} of {len(wanted):,} prompts ({left:,} of "
                f"{asked:,} answers, mode {mode}) of {self._identity.model}, revision {self._identity.revision[:12]}, "
                f"are not kept in {self._cache.path}; the first begins {_beginning(next(iter(missing)))}: {_HOW_TO_GET}"
            )
        for start in range(0, len(missing), COMMIT_EVERY):
            some = dict(islice(missing.items(), start, start + COMMIT_EVERY))
            its_keys = questions.keys(some)
            found = list(ask(self._loaded(), some, its_keys))
            self.counts.calls += 1
            self.counts.computed += sum(map(len, found))
            records = dict(zip(map(questions.text, some), found, strict=True))
            self._cache.add(records, with_version(self._loaded().provenance))
            # What was stored is the answer, also where another process stored its own first.
            known.update(zip(some, self._cache.read(its_keys), strict=True))
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
        if not self._vouched:
            self._hold_to_kept(self._model)
            self._vouched = True
        return self._model

    def _hold_to_kept(self, model: LanguageModel) -> None:
        """A served model answers the probes as it did when its first answers were kept. Raises Outage."""
        probe = getattr(model, "probe", None)
        found: list[list[Score]] = probe() if probe is not None else []
        if not found:
            return
        questions = Questions(self._fields("score", None))
        prompts = [prompt for prompt, _ in PROBES]
        named = [dict(zip(texts, scores, strict=True)) for (_, texts), scores in zip(PROBES, found, strict=True)]
        self._cache.add(dict(zip(map(questions.text, prompts), named, strict=True)), with_version(model.provenance))
        kept = self._cache.read(questions.keys(prompts))
        before = [
            [Score._make(record[text]) for text in texts] for (_, texts), record in zip(PROBES, kept, strict=True)
        ]
        apart, allowed = distance(found, before), float(getattr(model, "probe_tolerance", 0.0))
        if apart > allowed:
            raise Outage(another_model(self._identity.model, "what is served", apart, allowed))

    def _fields(self, mode: str, sampling: Sampling | None) -> dict[str, Any]:
        parameters = None if sampling is None else asdict(sampling)
        return {"engine": self._engine, "mode": mode, "model": asdict(self._identity), "parameters": parameters}


class KeptRows:
    """What encoders with a model behind them ask: kept feature rows where there are any, computed ones where not.

    A row is the bytes of little-endian float32, and depends on `encoder`, all that names it, and one text.
    """

    def __init__(self, cache: AnswerCache, cached_only: bool = False) -> None:
        self._cache, self._cached_only = cache, cached_only

    def dim(self, encoder: Mapping[str, Any]) -> int | None:
        """The length of this encoder's rows; None where none was ever kept.

        Raises AnswerCacheError where none was, and none may be computed.
        """
        dim = self._cache.row_length(canonical(encoder))
        if dim is None and self._cached_only:
            raise AnswerCacheError(
                f"only what is kept may be used, and no feature row of {_encoder_name(encoder)} is kept in "
                f"{self._cache.path}: {_HOW_TO_GET}"
            )
        return dim

    def rows(
        self,
        encoder: Mapping[str, Any],
        texts: Sequence[str],
        compute: Callable[[list[str]], Sequence[bytes]],
        provenance: Callable[[], Mapping[str, str]],
    ) -> list[bytes]:
        """The row of each text. Those that are missing are computed once each, and kept before they are used."""
        body = canonical(encoder)
        keys = {text: row_key(body, text) for text in texts}
        known = self._cache.read_rows(list(keys.values()))
        missing = [text for text, key in keys.items() if key not in known]
        if missing and self._cached_only:
            raise AnswerCacheError(
                f"only what is kept may be used, and {len(missing):,} of {len(keys):,} feature rows of "
                f"{_encoder_name(encoder)} are not kept in {self._cache.path}, the first of the text "
                f"{_beginning(missing[0])}: {_HOW_TO_GET}"
            )
        for start in range(0, len(missing), COMMIT_EVERY):
            some = missing[start : start + COMMIT_EVERY]
            found = dict(zip(some, compute(some), strict=True))
            self._cache.add_rows(body, found, with_version(provenance()))
            known |= self._cache.read_rows([keys[text] for text in some])
        return [known[keys[text]] for text in texts]


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
        with self._explained(), _uncollected():
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
        with self._explained(), transaction(self._db):
            source = self.source(canonical(dict(provenance)))
            for question, found in answers.items():
                self.extend(record_key(question), question, found, source, at)

    def read_rows(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The feature rows that are kept, by key."""
        with self._explained():
            return {
                key: floats
                for rows in self._select("SELECT key, floats FROM feature_rows", keys)
                for key, floats in rows
            }

    def add_rows(self, encoder: str, rows: Mapping[str, bytes], provenance: Mapping[str, str]) -> None:
        """Stores the rows of those texts that have none; `encoder` is canonical JSON. As `add`."""
        at = now()
        with self._explained(), transaction(self._db):
            source = self.source(canonical(dict(provenance)))
            for text, floats in rows.items():
                self.put_row(row_key(encoder, text), encoder, text, floats, source, at)

    def row_length(self, encoder: str) -> int | None:
        """Of the rows of one encoder, in numbers; None for an unknown one."""
        with self._explained():
            found = self._db.execute("SELECT dim FROM encoders WHERE body = ?", (encoder,)).fetchone()
        return found and int(found[0])

    def close(self) -> None:
        self._db.close()

    # ---- inside a transaction ----------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction, for what follows."""
        with self._explained(), transaction(self._db):
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
        """Whether the row is new."""
        self._db.execute("INSERT OR IGNORE INTO encoders (body, dim) VALUES (?, ?)", (encoder, len(floats) // 4))
        number, dim = self._db.execute("SELECT id, dim FROM encoders WHERE body = ?", (encoder,)).fetchone()
        assert len(floats) == 4 * dim
        row = (key, number, text, floats, source, at)
        return self._db.execute("INSERT OR IGNORE INTO feature_rows VALUES (?, ?, ?, ?, ?, ?)", row).rowcount == 1

    # ---- below -------------------------------------------------------------------------------------------------------

    def _select(self, select: str, keys: Sequence[bytes]) -> Iterator[list[tuple[bytes, Any]]]:
        for start in range(0, len(keys), _KEYS_PER_SELECT):
            some = keys[start : start + _KEYS_PER_SELECT]
            yield self._db.execute(f"{select} WHERE key IN ({','.join('?' * len(some))})", some).fetchall()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        with explained(self.path):
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


def row_key(encoder: str, text: str) -> bytes:
    """32 bytes that name a feature row; `encoder` is canonical JSON."""
    return record_key(f'{{"encoder":{encoder},"text":{canonical(text)}}}')


def with_version(provenance: Mapping[str, str]) -> dict[str, str]:
    """What is kept beside an answer: where it was computed, and by what."""
    try:
        version = metadata.version("llmrl")
    except metadata.PackageNotFoundError:
        version = "not installed"
    return {"llmrl": version, "machine": platform.machine(), **provenance}


def now() -> str:
    """UTC, to the second: as text in the order of time."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _uncollected() -> Iterator[None]:
    """Reading makes many lists and no cycle; to look for garbage meanwhile, among all there is, takes as long again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


_quoted = json.JSONEncoder(ensure_ascii=False).encode

_HOW_TO_GET = (
    "leave --cached-only (cached_only=true) out to compute what is missing, or bring it in from an export with "
    "`llmrl cache import FILE`"
)


def _beginning(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def _encoder_name(encoder: Mapping[str, Any]) -> str:
    return f"{encoder.get('model')}, revision {str(encoder.get('revision'))[:12]}, pooling {encoder.get('pooling')}"

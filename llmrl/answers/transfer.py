"""Copies sound answers and feature rows between caches (`llmrl cache export`, `llmrl cache import`)."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmrl.answers.answers import AnswerCache, canonical
from llmrl.answers.cache_file import WrongFile, explain_errors, open_to_look
from llmrl.answers.records import IDENTITY, batch, read_records, read_rows, shorten_key
from llmrl.core.files import sync_folder


@dataclass
class Merged:
    """The counts of reading one cache into another."""

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
            all(identity.get(name) == known.get(name) for name in IDENTITY) for known in identities
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
    for records in batch(read_records(db)):
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
    for rows in batch(read_rows(db)):
        with cache.writing():
            for row in rows:
                if row.problems or row.floats is None:
                    merged.problems += row.problems
                elif is_wanted(row.encoder):
                    body = canonical(row.encoder)
                    if cache.row_length(body) not in (None, len(row.floats) // 4):
                        merged.problems.append(
                            f"feature row {shorten_key(row.key)}: rows of its encoder are of another length"
                        )
                    elif cache.put_row(row.key, body, row.text, row.floats, cache.source(row.provenance), row.at):
                        merged.rows += 1
                    else:
                        merged.known += 1
                        merged.differing += cache.read_rows([row.key])[row.key] != row.floats
    return merged

"""Removes kept answers and feature rows that a person selects (`llmrl cache prune`)."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from llmrl.answers.cache_file import AnswerCacheError, explain_errors, open_cache, open_to_look, transaction
from llmrl.answers.records import check_integrity, decode_leniently, read_records, read_rows

ROWS = "rows"  # the mode under which feature rows are shown and pruned
MODES = ("score", "generate", ROWS)


@dataclass
class Pruned:
    prompts: int = 0  # of which no answer is left
    answers: int = 0
    rows: int = 0
    bytes: int = 0  # given back


@dataclass(frozen=True)
class Selection:
    """The entries to remove: those that match every condition. At least one condition is given."""

    models: Collection[str] = ()
    mode: str | None = None
    before: str | None = None  # UTC, as `at`
    damaged: bool = False

    def __post_init__(self) -> None:
        if not (self.models or self.mode or self.before or self.damaged):
            raise ValueError("name the entries to remove: --model NAME, --mode, --before DATE or --damaged")
        if self.mode is not None and self.mode not in MODES:
            raise ValueError(f"--mode {self.mode}: use one of {', '.join(MODES)}")

    def takes(self, model: object, mode: str | None, at: str | None, damaged: bool) -> bool:
        return (
            (not self.models or model in self.models)
            and (self.mode is None or mode == self.mode)
            and (self.before is None or (at is not None and at < self.before))
            and (damaged or not self.damaged)
        )


def prune(path: Path, selection: Selection, really: bool) -> Pruned:
    """Removes what is selected, or only counts it; then gives the space back."""
    with closing(open_to_look(path)) as db, explain_errors(path):
        if selection.damaged and (wrong := check_integrity(db)):
            raise AnswerCacheError(
                f"{path} is damaged as a file ({wrong[0]}), and nothing is written to it: move it away, then type "
                "`llmrl cache import FILE` with its new name to take over the readable entries"
            )
        counted, _, _ = _select(db, selection)
    if not really:
        return counted
    before = path.stat().st_size
    with closing(open_cache(path).db) as db, explain_errors(path):
        db.text_factory = decode_leniently
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
    for record in read_records(db):
        gone = [
            part
            for part in record.parts
            if selection.takes(record.model.get("model"), record.mode, part.at, not part.sound)
        ]
        counted.prompts += bool(gone) and len(gone) == len(record.parts)
        counted.answers += sum(len(part.answers) for part in gone)
        parts += [(record.key, part.number) for part in gone]
    for row in read_rows(db):
        if selection.takes(row.encoder.get("model"), ROWS, row.at, bool(row.problems)):
            counted.rows += 1
            rows.append((row.key,))
    return counted, parts, rows

"""The file behind the cached answers: how it is made, opened, brought to this schema, and set aside when damaged.

A process that opens the file to write holds a lock file beside it while it opens. So no process opens a file that
another is about to move. A connection that was open before stays with the moved file: SQLite notices, and leaves the
new file's log alone.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import quote

import platformdirs

from llmrl.core.files import sync_folder
from llmrl.core.locks import holding

T = TypeVar("T")

SCHEMA = 2
BUSY_SECONDS = 300.0
_ONE_WAIT = 0.2  # seconds within SQLite, where no signal is answered
_OURS = 0x4C4C4D41  # "LLMA" in the file's header: what tells an answer cache from any other SQLite file
_SMALLEST = 512  # bytes: SQLite refuses a longer file that is not its own, but would write over a shorter one

# Questions and their answers, in parts: what was asked later extends a record.
_SCHEMA_1 = """
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
# Feature rows of encoders with a model behind them: `dim` little-endian float32 of one text.
_SCHEMA_2 = """
CREATE TABLE encoders (id INTEGER PRIMARY KEY, body TEXT NOT NULL UNIQUE, dim INTEGER NOT NULL);
CREATE TABLE feature_rows (
    key BLOB PRIMARY KEY,
    encoder INTEGER NOT NULL REFERENCES encoders (id),
    text TEXT NOT NULL,
    floats BLOB NOT NULL,
    provenance INTEGER NOT NULL REFERENCES provenance (id),
    at TEXT NOT NULL
);
CREATE INDEX feature_rows_by_encoder ON feature_rows (encoder, at);
"""

_OTHER_FILE = "choose another file with paths.cache=FILE"


class AnswerCacheError(RuntimeError):
    """Answers cannot be kept, or what was kept cannot be read. The message says what to do."""


class WrongFile(AnswerCacheError, ValueError):
    """Another file is to be named: this one is absent, no answer cache, or in the way."""


class Opened(NamedTuple):
    db: sqlite3.Connection
    note: str | None  # what a person should be told: a file was set aside
    file: tuple[int, int] | None  # device and inode, which tell a file from one that took its place


def cache_path(chosen: str | Path | None = None) -> Path:
    """The path of the cache: the one chosen, else $LLMRL_CACHE, else the one in the user's cache folder."""
    chosen = chosen or os.environ.get("LLMRL_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("llmrl")) / "answers.sqlite3"


def open_cache(path: Path) -> Opened:
    """Opens the cache for reading and writing; makes it, and its folder, where there is none.

    A file that is no answer cache, or is damaged, is renamed to `<name>.set-aside-<n>`, and a new one takes its place.
    Raises AnswerCacheError for a file of a later version, which stays as it is, and one that cannot be opened.
    """
    with explain_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        note = None
        with _lock(path) as locked:
            while True:
                if not path.exists():
                    _create(path)
                file = _identity(path)
                try:
                    return Opened(_connect(path), note, file)
                except _UnfitError as unfit:
                    # Without the lock, which nobody has in a folder that cannot be written to, nothing is moved.
                    if not locked or note is not None:
                        raise AnswerCacheError(f"{path} {unfit}, and cannot be set aside; {_OTHER_FILE}") from unfit
                    note = _move_aside(path, unfit.damaged)


def open_memory() -> Opened:
    """A cache that keeps nothing."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    _make_tables(db)
    return Opened(db, None, None)


def open_to_look(path: Path) -> sqlite3.Connection:
    """Opens a cache of this or an earlier schema for reading alone; nothing is made, moved or brought up to date.

    Raises AnswerCacheError for one that is absent, not a cache, of a later version, or too damaged to open.
    """
    if not path.is_file():
        raise WrongFile(f"{path}: there is no such file; name the cache with --cache FILE or LLMRL_CACHE=FILE")
    with explain_errors(path):
        # A file in a folder that cannot be written to is opened as one that nobody changes, unless it has a log.
        options = ["mode=ro"] if path.with_name(f"{path.name}-wal").exists() else ["mode=ro", "mode=ro&immutable=1"]
        for option in options:
            uri = f"file:{quote(str(path.absolute()))}?{option}"
            db = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                schema_of(db, path)
                return db
            except _UnfitError as unfit:
                db.close()
                raise WrongFile(f"{path} {unfit}: nothing can be read from it") from unfit
            except BaseException as error:
                db.close()
                if option != options[-1] and isinstance(error, sqlite3.OperationalError):
                    continue
                raise
        raise AssertionError("one of the options has returned or raised")


def set_aside(path: Path, file: tuple[int, int] | None) -> str:
    """Moves the file `file`, found damaged at `path`, out of the way, and says where it is now.

    Only that very file: where another process was faster, `path` holds a new one, which stays.
    """
    try:
        with _lock(path) as locked:
            if not locked:
                return f"{path} is damaged, and cannot be set aside; {_OTHER_FILE}"
            if not path.exists() or _identity(path) != file:
                return f"{path} was damaged, and another process has set it aside: type the same command again"
            moved = _move_aside(path, damaged=True)
            return f"{moved}. Type the same command again: it resumes, and asks for the missing answers"
    except OSError as error:
        return f"{path} is damaged, and cannot be set aside ({error.strerror}); {_OTHER_FILE}"


def schema_of(db: sqlite3.Connection, path: object) -> int:
    """Raises _UnfitError for what is no cache or is damaged, AnswerCacheError for a later schema."""
    try:
        ours = db.execute("PRAGMA application_id").fetchone() == (_OURS,)
        found = db.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone() if ours else None
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            raise _UnfitError(damaged=_has_our_header(path)) from error
        if getattr(error, "sqlite_errorname", "") == "SQLITE_ERROR":  # no such table
            raise _UnfitError(damaged=True) from error
        raise
    if not ours:
        raise _UnfitError(damaged=False)
    if found is None or not str(found[0]).isdigit():
        raise _UnfitError(damaged=True)
    schema = int(found[0])
    if schema > SCHEMA:
        raise AnswerCacheError(
            f"{path} has schema {schema}, this version of llmrl reads {SCHEMA}: upgrade llmrl, or {_OTHER_FILE}"
        )
    return schema


def patiently(work: Callable[[], T]) -> T:
    """Again and again while another process holds the file, for up to BUSY_SECONDS; Ctrl-C is answered meanwhile."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            name = getattr(error, "sqlite_errorname", "")
            if not name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or time.monotonic() >= until:
                raise


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """A transaction: all its writes are stored, or none. Other processes do not change the data that it reads."""
    patiently(lambda: db.execute("BEGIN IMMEDIATE"))
    try:
        yield
        patiently(lambda: db.execute("COMMIT"))
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextmanager
def explain_errors(path: object) -> Iterator[None]:
    """Errors of SQLite and of the disk, in words a person can act on."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            name = "SQLITE_FULL"  # as SQLite would say it
        raise AnswerCacheError(f"answer cache {path}: {_advice(name)} ({error}, {name})") from error


def is_damage(error: BaseException) -> bool:
    name = getattr(error, "sqlite_errorname", "")
    return name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_FORMAT"))


class _UnfitError(Exception):
    """The file is no cache, or a damaged one."""

    def __init__(self, damaged: bool) -> None:
        super().__init__("is damaged" if damaged else "is no answer cache")
        self.damaged = damaged


def _connect(path: Path) -> sqlite3.Connection:
    if path.is_file() and path.stat().st_size < _SMALLEST:
        raise _UnfitError(damaged=False)
    db = sqlite3.connect(path, timeout=_ONE_WAIT, isolation_level=None)
    try:
        if patiently(lambda: schema_of(db, path)) == 1:
            with transaction(db):
                _upgrade(db)
        mode = patiently(lambda: db.execute("PRAGMA journal_mode").fetchone())
        if mode != ("wal",):  # an exported file, used as a cache
            with suppress(sqlite3.OperationalError):  # one that cannot be written, or is being read, does as it is
                db.execute("PRAGMA journal_mode = WAL")
        return db
    except BaseException as error:
        db.close()
        if isinstance(error, sqlite3.Error) and is_damage(error):
            raise _UnfitError(damaged=True) from error
        raise


def _upgrade(db: sqlite3.Connection) -> None:
    (schema,) = db.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
    if schema == "1":  # still: another process may have done it
        for statement in filter(None, map(str.strip, _SCHEMA_2.split(";"))):
            db.execute(statement)
        db.execute("UPDATE meta SET value = ? WHERE name = 'schema'", (str(SCHEMA),))


def _create(path: Path) -> None:
    """Makes an empty cache beside its place, then puts it there whole: processes that start together never see half."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        new = Path(folder) / path.name
        with closing(sqlite3.connect(new, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = OFF")
            _make_tables(db)
            db.execute("PRAGMA journal_mode = WAL")  # readers and a writer do not wait for each other; stays so
        with new.open("rb") as file:
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was faster
            os.link(new, path)
    sync_folder(path.parent)


def _make_tables(db: sqlite3.Connection) -> None:
    db.executescript(f"BEGIN; {_SCHEMA_1} {_SCHEMA_2} COMMIT;")
    db.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
    db.execute(f"PRAGMA application_id = {_OURS}")


def _move_aside(path: Path, damaged: bool) -> str:
    """Renames what is at `path`, with SQLite's files beside it, and says so."""
    aside = next(p for n in range(1, 10**6) if not (p := path.with_name(f"{path.name}.set-aside-{n}")).exists())
    os.rename(path, aside)
    for suffix in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    sync_folder(path.parent)
    if damaged:
        return (
            f"{path} was damaged: set aside as {aside}, a new one takes its place; "
            f"`llmrl cache import {aside}` brings back the readable entries"
        )
    return f"{path} was no answer cache: set aside as {aside}, a new one takes its place"


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """One process at a time; False, at once, where the folder cannot be written to."""
    with ExitStack() as opened:
        try:
            opened.enter_context(holding(path.with_name(f".{path.name}.lock")))
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            yield False
            return
        yield True


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


def _has_our_header(path: object) -> bool:
    """Whether a damaged file has our header. Closing a healthy file here would drop SQLite's locks on it."""
    if not isinstance(path, Path):
        return True
    with path.open("rb") as file:
        header = file.read(72)
    return header[68:72] == _OURS.to_bytes(4)


def _advice(name: str) -> str:
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_FORMAT")):
        return "the file is damaged; `llmrl cache verify` says where"
    if name.startswith("SQLITE_FULL"):
        return "the disk is full; free some space and type the same command again; stored answers are safe"
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return f"another process has held the file for {BUSY_SECONDS:.0f} s; end it and type the same command again"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")) or "SQLITE" not in name:
        return f"the file cannot be opened for writing; make it writable, or {_OTHER_FILE}"
    return (
        "storing or reading failed; check the disk and its free space, then type the same command again; stored "
        "answers are safe"
    )

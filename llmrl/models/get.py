"""Makes a named model: downloads and verifies its file, converts it, and keeps origin and licence beside it."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path, PurePosixPath

from rich.filesize import decimal

from llmrl.core.overrides import ConfigError, ConfigFolders
from llmrl.lm.model_folders import find_stored, making, models_folder, write_notice
from llmrl.models.entry import Entry, read_entry
from llmrl.models.fetch import fetch


def get(entry: Entry, accept_terms: bool, say: Callable[[str], None]) -> Path:
    """The model's folder, made where it is not there yet. `say` is told what takes long.

    Raises ConfigError for terms that were not accepted, OutOfReach, and ValueError for what cannot be converted.
    """
    if (folder := find_stored(entry.name)) is not None:
        return folder
    if entry.terms is not None and not accept_terms:
        raise ConfigError(
            f"{entry.name} is had under terms ({entry.licence}, {entry.licence_url}):\n{entry.terms}\n"
            f"To accept them: llmrl models get {entry.name} --accept-terms"
        )
    if entry.convert == "gguf":
        from llmrl.lm.gguf import refuse_without_packages

        refuse_without_packages()
    with making(entry.name, say) as folder:
        if folder is not None:
            downloads = models_folder() / f"{entry.name}.download"
            file = fetch(entry, downloads, say)
            _convert(entry, file, folder, say)
            write_notice(folder, _notice(entry))
            shutil.rmtree(downloads)
    return models_folder() / entry.name


def refuse_missing(model: str, part: str, folders: ConfigFolders) -> None:
    """Raises ConfigError where `model` names an entry that was not got yet."""
    if model not in folders.models or find_stored(model) is not None:
        return
    entry = read_entry(model, folders)
    terms = " --accept-terms" if entry.terms is not None else ""
    is_own = folders.extra is not None and folders.models[model].is_relative_to(folders.extra)
    where = f" --config-dir {folders.extra}" if is_own else ""
    raise ConfigError(
        f"{part}.model={model} is not on this machine yet: `llmrl models get {model}{terms}{where}` downloads "
        f"{decimal(entry.size)} ({entry.licence})"
    )


def _convert(entry: Entry, file: Path, folder: Path, say: Callable[[str], None]) -> None:
    if entry.convert == "gguf":
        from llmrl.lm.gguf import convert

        say(f"{entry.name}: converted to float32; this may take some minutes")
        convert(file, folder, entry.bos)
    elif entry.convert == "zip":
        _unzip(file, folder)
    else:
        shutil.copytree(file, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
    from llmrl.lm.identify import identify

    identify(str(folder))  # raises ValueError where it holds no model


def _unzip(file: Path, folder: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            path = PurePosixPath(name.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{file} holds {name}, a path outside its folder: it is not unpacked")
        archive.extractall(folder)


def _notice(entry: Entry) -> dict[str, object]:
    packages = ("transformers", "gguf") if entry.convert == "gguf" else ()
    return {
        "name": entry.name,
        "about": entry.about,
        "file": entry.file,
        "sha256": entry.sha256,
        "origin": [str(source) for source in entry.sources],
        "licence": entry.licence,
        "licence_url": entry.licence_url,
        "terms_accepted": entry.terms,
        "converted": entry.convert,
        "converted_by": {package: metadata.version(package) for package in packages},
    }

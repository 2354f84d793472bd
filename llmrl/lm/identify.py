"""Which model is this: names a language model by what it would compute, without loading its weights."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from llmrl.lm.findings import recall, remember
from llmrl.lm.language_model import ModelIdentity
from llmrl.lm.model_folders import find_stored

DTYPES = ("float32", "bfloat16", "float16")
# Raised when the same weights are given other numbers: a hub model's commit stays what it was when answers were wrong.
COMPUTED = "computed-2"
_EMBEDDED = Path(__file__).parent / "tiny"
# Of a model's folder, all that no answer can depend on: documentation, pictures, copies of the weights in formats that
# are not read from a folder, hidden files, and the checkpoints that a training left there. Every other file is a part
# of the model, known or not: a stranger costs a new identity, and one that is overlooked gives wrong answers.
_DOCUMENTS = re.compile(r"(readme|licen[cs]e|notice|changelog|citation|use_policy)([.-].*)?|card\.json", re.IGNORECASE)
_NO_PART = (
    ".md", ".rst", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp",
    ".gguf", ".onnx", ".onnx_data", ".msgpack", ".h5", ".ot", ".tflite", ".pyc",
)  # fmt: skip
_REMEMBERED = 2**20  # bytes: a smaller file is read anew each time


def identify(model: str, revision: str | None = None, dtype: str = "float32", part: str = "lm") -> ModelIdentity:
    """The identity of `model`: an embedded one ("tiny-1"), one of `llmrl models`, a folder, a GGUF file, a hub id.

    A folder's revision is a SHA-256 over the names and contents of all its files that an answer can depend on: weights,
    configs, generation settings, tokenizer, templates, adapters, code (`_files` says which do not count). A large
    file's hash is remembered in the user's cache folder by path, size and time, so only the first call reads the
    weights. A hub model's revision is the commit that `revision` (a branch, tag or commit; None: the default branch)
    stands for; it covers all files. `tokenizer` is the SHA-256 of tokenizer.json, or of the tokenizer serialised where
    there is no such file. `part` of the config is the one whose settings an error names.

    Raises ValueError for an unknown dtype, a folder that holds no model or is not the one `revision` names, and a hub
    model that is neither downloaded nor within reach.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is unknown: use one of {', '.join(DTYPES)}")
    folder = local_folder(model, part)
    if folder is None:
        commit, tokenizer = _hub_revision_and_tokenizer(model, revision, part)
        return ModelIdentity(model, commit, dtype, f"{tokenizer} {COMPUTED}")
    found = _folder_revision(folder)
    if revision is not None and (len(revision) < 8 or not found.startswith(revision)):
        raise ValueError(
            f"the model in {folder} has revision {found[:16]}, not {revision!r}: set {part}.revision={found[:16]} if "
            f"this is the model you mean, {part}.revision=null to take any; answers kept of {revision!r} are read with "
            "--cached-only"
        )
    return ModelIdentity(folder.name, found, dtype, _tokenizer_hash(folder / "tokenizer.json", folder))


def identify_served(
    model: str, revision: str | None = None, dtype: str = "float32", tokenizer: str | None = None
) -> ModelIdentity:
    """The identity of a model that a server computes.

    tokenizer None: the model can be looked at from here, as by `identify`. Else it is only declared, and taken at its
    word: `tokenizer` and `revision` are whatever names them. Raises ValueError as `identify`.
    """
    if tokenizer is not None:
        return ModelIdentity(model, revision or "undated", dtype, tokenizer)
    try:
        return identify(model, revision, dtype)
    except ValueError as error:
        if dtype not in DTYPES:
            raise
        raise ValueError(
            f"{error}. If only the server has it, declare its identity: lm.revision=COMMIT and lm.tokenizer=NAME"
        ) from error


def chat_template(model: str, revision: str | None = None, tokenizer: str | None = None) -> str:
    """The name of the chat template of `model`: its SHA-256.

    tokenizer: the name declared for the tokenizer of a model that is not on this machine; it names the template too.
    Raises ValueError where the model has none.
    """
    if tokenizer is not None:
        return f"of {tokenizer}"
    folder = local_folder(model)
    texts = []
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        file = folder / name if folder is not None else _hub_file(model, name, revision)
        if file is not None and file.is_file():
            text = file.read_text(encoding="utf-8")
            texts.append(text if name.endswith(".jinja") else json.loads(text).get("chat_template"))
    found = next((text for text in texts if text), None)
    if found is None:
        raise ValueError(
            f"{model} has no chat template, so it was not taught to converse: use prompt=plain, or a model that was"
        )
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def local_folder(model: str, part: str = "lm") -> Path | None:
    """The folder of `model` on this machine, or None for a hub id. A GGUF file is converted the first time.

    Raises ValueError for a path that is no folder, and a GGUF file that cannot be converted.
    """
    embedded = {folder.name: folder for folder in _EMBEDDED.glob("*/")}
    path = Path(model).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        from llmrl.lm.gguf import get_converted

        return get_converted(path, _hashes({model: path.resolve()})[model]).resolve()
    folder = embedded.get(model) or find_stored(model) or path
    if model and folder.is_dir():
        return folder.resolve()
    if model.count("/") == 1 and model[0] not in "./~":
        return None
    raise ValueError(
        f"{part}.model={model!r}: there is no such folder, embedded model or hub id; type {part}.model=FOLDER (as "
        f"written by save_pretrained), {part}.model=FILE.gguf, {part}.model=tiny-1, or {part}.model=OWNER/NAME; "
        "`llmrl models list` shows those that can be had by name"
    )


def unavailable(model: str, revision: str | None, cause: Exception, part: str = "lm") -> ValueError:
    """The message about a hub model that cannot be downloaded."""
    at = f" at revision {revision!r}" if revision else ""
    reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
    return ValueError(
        f"{part}.model={model!r}{at} is not a folder here, not downloaded, and the hub did not give it ({reason}). "
        f"Check the name; run `hf download {model}` where there is a network (`hf auth login` first if it is gated); "
        f"or type {part}.model=FOLDER"
    )


def _hub_revision_and_tokenizer(model: str, revision: str | None, part: str) -> tuple[str, str]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    def download(name: str, revision: str | None) -> Path:
        try:  # what is here already needs no network, and stays the same commit until it is asked for by name
            return Path(hf_hub_download(model, name, revision=revision, local_files_only=True))
        except LocalEntryNotFoundError:
            return Path(hf_hub_download(model, name, revision=revision))

    try:
        commit = download("config.json", revision).parent.name  # <cache>/snapshots/<commit>/config.json
    except (OSError, HfHubHTTPError, HFValidationError, ValueError) as error:
        raise unavailable(model, revision, error, part) from error
    try:
        tokenizer = _tokenizer_hash(download("tokenizer.json", commit), model, commit)
    except (EntryNotFoundError, LocalEntryNotFoundError):
        tokenizer = _tokenizer_hash(None, model, commit)
    return commit, tokenizer


def _hub_file(model: str, name: str, revision: str | None) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    for local in (True, False):
        try:
            return Path(hf_hub_download(model, name, revision=revision, local_files_only=local))
        except (EntryNotFoundError, LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError, ValueError):
            continue
    return None


def _tokenizer_hash(file: Path | None, source: Path | str, revision: str | None = None) -> str:
    if file is not None and file.is_file():
        return hashlib.sha256(file.read_bytes()).hexdigest()
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(f"{source} holds no tokenizer that loads ({reason}): save one beside the weights") from error
    backend = getattr(tokenizer, "backend_tokenizer", None)  # a tokenizer written in Python has none
    text = backend.to_str() if backend is not None else json.dumps([type(tokenizer).__name__, tokenizer.get_vocab()])
    return hashlib.sha256(text.encode()).hexdigest()


def _folder_revision(folder: Path) -> str:
    files = _files(folder)
    at_top = {name for name in files if "/" not in name}
    has_weights = any(name.endswith((".safetensors", ".bin")) for name in at_top)
    if not has_weights or "config.json" not in at_top:
        missing = "config.json" if has_weights else "weights (*.safetensors or *.bin)"
        raise ValueError(f"{folder} holds no model: {missing} missing; write it with save_pretrained")
    return hashlib.sha256("".join(f"{name} {sha}\n" for name, sha in _hashes(files).items()).encode()).hexdigest()


def _hashes(files: Mapping[str, Path]) -> dict[str, str]:
    """The SHA-256 of each file. Those of large files are remembered."""
    remembered = _read_remembered()
    hashes, learned = {}, {}
    for name, file in files.items():
        stat = file.stat()
        size, time, sha = remembered.get(str(file), (0, 0, ""))
        # The time of the last change of any kind: one that a copy cannot bring along from an older file.
        if stat.st_size < _REMEMBERED or (size, time) != (stat.st_size, stat.st_ctime_ns):
            sha = _sha256(file)
            if stat.st_size >= _REMEMBERED:
                learned[str(file)] = (stat.st_size, stat.st_ctime_ns, sha)
        hashes[name] = sha
    if learned:
        remember("weights.json", learned)
    return hashes


def _files(folder: Path) -> dict[str, Path]:
    """The files that an answer can depend on, in order of their names, which are relative to the folder."""
    found = {}
    for at, inside, names in os.walk(folder, followlinks=True):
        here = Path(at).resolve()
        inside[:] = [
            name
            for name in inside
            if not name.startswith((".", "checkpoint-"))
            and not here.is_relative_to(Path(at, name).resolve())  # a link upwards leads round in circles
        ]
        for name in names:
            file = Path(at, name)
            is_part = not (name.startswith(".") or _DOCUMENTS.fullmatch(name) or file.suffix.lower() in _NO_PART)
            if is_part and file.is_file():
                found[file.relative_to(folder).as_posix()] = file
    return dict(sorted(found.items()))


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_remembered() -> dict[str, tuple[int, int, str]]:
    """File -> its size in bytes, the time of its last change in ns, its hash."""
    try:
        return {name: (int(size), int(time), str(sha)) for name, (size, time, sha) in recall("weights.json").items()}
    except (ValueError, TypeError):
        return {}

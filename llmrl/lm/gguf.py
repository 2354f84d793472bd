"""Converts a GGUF file, as llama.cpp reads it, to a plain folder that `transformers` reads without further packages."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llmrl.lm.model_folders import find_stored, making, models_folder, write_notice

PACKAGES = {"gguf": "gguf>=0.17.1", "accelerate": "accelerate>=1.1"}  # the extra `models`
_VARYING = ("transformers_version", "is_local", "local_files_only")  # of a config: no answer depends on them
_FORMAT = {"transformers_version": "5.0.0"}  # without one, transformers warns of a fault of tokenizers before 4.57.3


def refuse_without_packages() -> None:
    """Raises ValueError where a package is missing that GGUF files are read with."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        needed = " ".join(f"'{PACKAGES[name]}'" for name in missing)
        raise ValueError(
            f"a GGUF file is read with {' and '.join(PACKAGES)}, and {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed: pip install {needed}"
        )


def get_converted(file: Path, sha256: str) -> Path:
    """The folder of a GGUF file, named by the file's hash. It is made once.

    Raises ValueError as `convert`.
    """
    name = f"gguf-{sha256[:16]}"
    if (folder := find_stored(name)) is not None:
        return folder
    refuse_without_packages()
    with making(name, _say) as folder:
        if folder is not None:
            _say(f"{file} is converted once, to {models_folder() / name}; this may take some minutes")
            convert(file, folder)
            write_notice(folder, {"name": name, "file": file.name, "sha256": sha256, "origin": str(file.absolute())})
    return models_folder() / name


def convert(file: Path, folder: Path, bos: bool | None = None) -> None:
    """Writes weights in float32, configuration and tokenizer into `folder`.

    bos: whether the tokenizer is to put the beginning-of-text token first; None: as the file says. transformers
    leaves the token out for some files that ask for it, such as Gemma's.

    Raises ValueError for a file that transformers cannot read.
    """
    refuse_without_packages()
    import torch
    import transformers

    from llmrl.lm.quiet import quiet

    tokenizer: Any
    loaded: Any
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
            loaded = transformers.AutoModelForCausalLM.from_pretrained(
                str(file.parent), gguf_file=file.name, dtype=torch.float32, output_loading_info=True
            )
    except Exception as error:  # a broken file may raise anything: it is parsed without checks
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{file} holds no language model that transformers reads: {reason}") from error
    network, info = loaded
    if absent := [*info["missing_keys"], *info["mismatched_keys"]]:
        raise ValueError(f"{file} lacks {len(absent)} weights of a {type(network).__name__}, such as {absent[0]}")
    network.hf_quantizer, network.is_quantized = None, False  # the weights are float32 now
    if hasattr(network.config, "quantization_config"):
        del network.config.quantization_config
    wanted = _asks_for_bos(file) if bos is None else bos
    if wanted is not None and _puts_bos(tokenizer) != wanted:
        if tokenizer.bos_token is None:
            raise ValueError(f"{file} names no beginning-of-text token, and bos={str(wanted).lower()} needs one")
        tokenizer.add_bos_token = wanted
    with quiet():
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if wanted is not None and _puts_bos(transformers.AutoTokenizer.from_pretrained(folder)) != wanted:
            raise ValueError(
                f"{file}: its tokenizer cannot be made to {'begin with' if wanted else 'leave out'} the "
                "beginning-of-text token; set lm.bos instead"
            )
    for name in (
        "config.json",
        "generation_config.json",
        "tokenizer_config.json",
    ):  # the same file gives the same identity later, too
        if (config := folder / name).is_file():
            kept = {key: value for key, value in json.loads(config.read_text()).items() if key not in _VARYING}
            kept |= _FORMAT if name == "config.json" else {}
            config.write_text(f"{json.dumps(kept, indent=2, sort_keys=True)}\n")


def _asks_for_bos(file: Path) -> bool | None:
    """The file's setting of the beginning-of-text token; None where it has none."""
    from gguf import GGUFReader

    found = GGUFReader(file).get_field("tokenizer.ggml.add_bos_token")
    return None if found is None else bool(found.contents())


def _puts_bos(tokenizer: Any) -> bool:
    ids = tokenizer("a")["input_ids"]
    return bool(ids) and ids[0] == tokenizer.bos_token_id


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

"""Gets a model and its tokenizer from a folder or the hub, whole and quietly; `transformers` is imported for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from llmrl.lm.identify import local_folder, unavailable
from llmrl.lm.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CAUSAL = "AutoModelForCausalLM"
UNREAD = "pooler."  # a BERT saved with another head has no pooler, and no hidden state depends on one


def load(
    model: str, revision: str, dtype: str, device: str, architecture: str = CAUSAL, part: str = "lm"
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """The tokenizer and the model, in evaluation mode on `device`. `revision` is a hub commit; a folder has just one.

    `architecture` names the class of transformers that reads the weights, `part` of the config the one that asks.

    Raises ValueError for a model that is out of reach, does not load, or lacks weights.
    """
    from huggingface_hub.errors import HfHubHTTPError
    from safetensors import SafetensorError

    folder = local_folder(model, part)
    kind = "causal language model" if architecture == CAUSAL else "model"
    source, commit = (str(folder), None) if folder else (model, revision)
    try:
        with quiet():
            try:  # asking the hub about files that are here would cost half a minute where there is no network
                tokenizer, (network, info) = _from_pretrained(architecture, source, commit, dtype, local=True)
            except OSError:
                if folder is not None:
                    raise
                tokenizer, (network, info) = _from_pretrained(architecture, source, commit, dtype, local=False)
    except (OSError, ValueError, RuntimeError, HfHubHTTPError, SafetensorError) as error:
        if folder is None:
            raise unavailable(model, revision, error, part) from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{source} holds no {kind} that transformers loads: {reason}") from error
    absent = [key for key in (*info["missing_keys"], *info["mismatched_keys"]) if not key.startswith(UNREAD)]
    if absent:
        raise ValueError(
            f"{source} lacks {len(absent)} weights of a {type(network).__name__} (such as {absent[0]}), which would be "
            f"random numbers: give a model that was saved as a {kind}"
        )
    return tokenizer, network.to(device).eval()


def _from_pretrained(architecture: str, source: str, commit: str | None, dtype: str, local: bool) -> tuple[Any, Any]:
    import transformers

    where: dict[str, Any] = {"revision": commit, "local_files_only": local}
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, **where)
    # No attn_implementation: transformers then takes sdpa where the architecture has it.
    weights = getattr(torch, dtype)
    network = getattr(transformers, architecture)
    return tokenizer, network.from_pretrained(source, dtype=weights, output_loading_info=True, **where)


def choose_device(wanted: str, part: str = "lm") -> str:
    """Either "cpu" or "cuda". Raises ValueError for one that is unknown or not here."""
    if wanted not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device {wanted!r} is unknown: use auto, cpu or cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"{part}.device=cuda, but torch sees no CUDA device here: use {part}.device=cpu (or auto)")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


def describe_device(device: str) -> str:
    """The device that determines how sums are rounded: the GPU's name, or the CPU's instruction set."""
    return torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The tokens that end a text."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    ends = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in [*ends, tokenizer.eos_token_id] if token is not None)

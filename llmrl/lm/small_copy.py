"""A small copy of a causal model's architecture: what holds for all weights is tried on it in a second."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

LIMIT = 24  # tokens: what every limit is scaled down to
CAP = 2.0  # what a cap of attention's scores is scaled down to: the scores of the copy are larger
VOCABULARY = 96
MOST_PARAMETERS = 500_000_000  # of a copy: 2 GB
SEED = 0

# Where a model comes from, and how its weights are stored: a copy has none of it.
_NOT_COPIED = ("_name_or_path", "transformers_version", "id2label", "label2id", "dtype", "quantization_config")
_LAYERS = re.compile(r"(num_hidden_layers|n_layers?|num_layers|num_decoder_layers|decoder_layers|encoder_layers)$")
_TOKEN = re.compile(r"token(_id|_ids|_index)?$|_id$|_ids$|^pad_idx$")
_PERIOD = re.compile(r"period|interval|pattern|every|_freq$|_step$")
_CAP = re.compile(r"softcap|_cap$|logit_cap")
_COUNT = re.compile(r"layers$|period|interval|pattern|every|_freq$|_step$|offset")
_LIMIT = re.compile(
    r"window|max_position|n_positions|n_ctx|max_seq|seq_len|chunk|top_?k|block|context|local|stride|original_max|span"
    r"|bucket|distance|keep|compress"
)
UNKNOWN = 64  # a number of this size and an unknown name may be a limit
_HEADS = re.compile(r"(attention_heads|^n_heads?|^num_heads|index_n_heads)$")
_KEY_VALUE_HEADS = re.compile(r"(num_key_value_heads|num_kv_heads|n_head_kv|kv_n_heads|num_global_key_value_heads)$")
_HEAD = 16  # the width of a head
_SMALL: tuple[tuple[re.Pattern[str], int], ...] = tuple(
    (re.compile(pattern), value)
    for pattern, value in (
        (r"(experts_per_tok|num_selected_experts|moe_k|moe_topk|moe_top_k|router_top_?k|experts_top_k|^top_k)$", 2),
        (r"^(topk_group|n_group|num_expert_group|n_shared_experts|num_shared_experts)$", 1),
        (r"experts$|^moe_num_experts", 4),
        (r"^first_k_dense_replace$", 1),
        (_HEADS.pattern, 4),
        (r"(lora_rank|_rank)$", 16),
        (r"^(qk_rope_head_dim|rotary_dim)$", 8),
        (r"(^head_dim|_head_dim|_head_size|^head_size)$", _HEAD),
        (
            r"(intermediate_size|ffn_dim|_inner|ffn_hidden_size|ff_dim|d_ff|ffn_size|mlp_size|intermediate_size_mlp)$",
            64,
        ),
        (r"^query_pre_attn_scalar$", _HEAD),
        (r"^hidden_size_per_layer_input$", 16),
        (r"^(hidden_size|n_embd|d_model|dim|embedding_size|word_embed_proj_dim|hidden_dim|emb_dim|lru_width)$", 64),
    )
)


def scaled_down(config: PretrainedConfig) -> tuple[int | None, list[dict[str, Any]]]:
    """The real limit in tokens, None where none is named; and the settings of copies, to be tried in this order.

    First narrow and of few layers. Where sizes or layers hang together in ways that are not known here: narrow with all
    layers, and as wide as the model with few.
    """
    values = {name: value for name, value in config.to_dict().items() if name not in _NOT_COPIED}
    limits: set[int] = set()
    copies = [
        _scale(values, limits, narrow, few_layers)
        for narrow, few_layers in ((True, True), (True, False), (False, True))
    ]
    return min(limits, default=None), copies


def _scale(
    values: Mapping[str, Any], limits: set[int], narrow: bool, few_layers: bool, rotary: float = 1.0
) -> dict[str, Any]:
    """rotary: the share of a head that is rotated."""
    rotary = values.get("partial_rotary_factor") or rotary
    layers = next((v for k, v in values.items() if _LAYERS.match(k) and _is_number(v)), None) if few_layers else None
    kept = _kept_layers(values, layers)
    heads = next((v for k, v in values.items() if _HEADS.search(k) and _is_number(v)), None)
    small: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            small[name] = _scale(value, limits, narrow, few_layers, rotary)
        elif isinstance(value, list) and layers is not None and len(value) == layers and layers > 1:
            small[name] = [_entry(name, value[i], limits) for i in kept]
        elif isinstance(value, list):
            small[name] = _entry(name, value, limits)
            if narrow and name in ("short_factor", "long_factor"):  # of rotary angles, one for each pair of a head
                small[name] = [1.0 if name == "short_factor" else 4.0] * (int(_HEAD * rotary) // 2)
        elif _CAP.search(name) and isinstance(value, int | float) and not isinstance(value, bool):
            small[name] = min(float(value), CAP) if value else value
        elif not _is_number(value):
            small[name] = value
        elif _LAYERS.match(name):
            small[name] = min(value, len(kept)) if few_layers else value
        elif name.startswith("vocab_size"):
            small[name] = VOCABULARY
        else:
            small[name] = _number(name, value, heads, limits, narrow)
    return small


def _number(name: str, value: int, heads: int | None, limits: set[int], narrow: bool) -> int:
    if _KEY_VALUE_HEADS.search(name):  # as many as heads, one, or a share of them
        return value if not narrow else 4 if value == heads else min(value, 2)
    size = next((small for pattern, small in _SMALL if pattern.search(name)), None)
    if size is None:
        return _entry(name, value, limits)
    return min(value, size) if narrow else value


def _entry(name: str, value: Any, limits: set[int]) -> Any:
    """A number whose name or size says that it may be a limit is scaled down, and counted as one.

    A smaller one is crossed by the copy's short texts as it is.
    """
    if isinstance(value, list):
        return [_entry(name, x, limits) for x in value]
    if isinstance(value, dict):
        return {key: _entry(str(key), x, limits) for key, x in value.items()}
    if not _is_number(value) or value < 2 or _COUNT.search(name):
        return value
    if _TOKEN.search(name):
        return value if value < VOCABULARY else 0
    if value > LIMIT // 2 and (_LIMIT.search(name) or value >= UNKNOWN):
        limits.add(value)
        return min(value, LIMIT)
    return value


def _kept_layers(values: Mapping[str, Any], layers: int | None) -> list[int]:
    """Which layers a copy has: two, or one of each kind; all up to a period where kinds follow each other by one."""
    if layers is None:
        return []
    kinds = [v for v in values.values() if isinstance(v, list) and len(v) == layers and layers > 1]
    firsts = {kind.index(x) for kind in kinds for x in kind if isinstance(x, str | int | float | bool)}
    period = max((v for k, v in values.items() if _PERIOD.search(k) and _is_number(v) and 1 < v <= 16), default=0)
    count = max(2, 0 if kinds else period + 1)
    return sorted(firsts | set(range(min(layers, count))))[:17]


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def make_copy(model: PreTrainedModel, values: Mapping[str, Any], device: str) -> PreTrainedModel:
    config = type(model.config).from_dict(dict(values))
    config._attn_implementation = None
    with torch.device("meta"):
        parameters = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if parameters > MOST_PARAMETERS:
        raise ValueError(f"a copy would have {parameters:,} parameters")
    copy = AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(device).eval()
    _enliven(copy)
    return copy


def _enliven(copy: PreTrainedModel) -> None:
    """Weights with which attention is sharp and logits differ: those of a new model see all tokens alike."""
    rng = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in copy.named_parameters():
            noise = torch.randn(parameter.shape, generator=rng).to(parameter.device)
            if parameter.ndim < 2:
                parameter.add_(0.1 * noise)
            elif "embed" in name or "wte" in name:
                parameter.copy_(noise)
            else:
                parameter.copy_(2 * noise / parameter.shape[-1] ** 0.5)

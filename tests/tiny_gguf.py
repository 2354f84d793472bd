"""Small random models as GGUF files, with the tokenizers of the two families that the shipped entries have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig

QUANTIZED = gguf.GGMLQuantizationType.Q8_0


def write_llama(folder: str, file: Path, add_bos: bool | None = None) -> Path:
    """The Llama in a folder (as SmolLM2 is one) with its byte-level BPE."""
    network = AutoModelForCausalLM.from_pretrained(folder)
    config, weights = network.config, {name: w.numpy() for name, w in network.state_dict().items()}
    writer = gguf.GGUFWriter(file, "llama")
    _sizes(writer, config)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    tokenizer = json.loads((Path(folder) / "tokenizer.json").read_text())["model"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    tokens = sorted(tokenizer["vocab"], key=tokenizer["vocab"].get)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in ("<s>", "</s>") else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["merges"]])
    _special(writer, bos=tokens.index("<s>"), eos=tokens.index("</s>"), add_bos=add_bos)
    _tensors(
        writer, config, weights, norms="input_layernorm attn_norm post_attention_layernorm ffn_norm", permuted=True
    )
    return _written(writer, file)


def write_gemma(file: Path, add_bos: bool = True) -> tuple[Path, Gemma3ForCausalLM]:
    """A Gemma 3 with a SentencePiece tokenizer, some of its weights quantised; and the same model, dequantised."""
    alphabet = ["▁", *"abcdefghijklmnopqrstuvwxyz.:;", "\n"]
    pieces = ["th", "the", "▁the", "to", "▁to", "to", "bo", "bow", "▁bow"]
    tokens = [
        "<pad>",
        "<eos>",
        "<bos>",
        "<unk>",
        *(f"<0x{i:02X}>" for i in range(256)),
        *dict.fromkeys(pieces + alphabet),
    ]
    config = Gemma3TextConfig(
        vocab_size=len(tokens), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, head_dim=32, max_position_embeddings=512, sliding_window=64,
        initializer_range=0.2, bos_token_id=2, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Gemma3ForCausalLM(config).eval()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.endswith("norm.weight"):
                    parameter.normal_(0, 0.3)
                if "mlp" in name:
                    quantised = gguf.quants.quantize(parameter.numpy(), QUANTIZED)
                    parameter.copy_(torch.from_numpy(gguf.quants.dequantize(quantised, QUANTIZED)))
    writer = gguf.GGUFWriter(file, "gemma3")
    _sizes(writer, config)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["full_attention"]["rope_theta"])
    writer.add_sliding_window(config.sliding_window)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(i) for i in range(len(tokens))])
    types = [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.UNKNOWN] + [gguf.TokenType.BYTE] * 256
    writer.add_token_types(types + [gguf.TokenType.NORMAL] * (len(tokens) - len(types)))
    writer.add_unk_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_add_space_prefix(False)
    _special(writer, bos=2, eos=1, add_bos=add_bos)
    weights = {name: w.numpy() for name, w in network.state_dict().items()}
    weights = {name: w + 1 if name.endswith("norm.weight") else w for name, w in weights.items()}  # as llama.cpp has it
    norms = "input_layernorm attn_norm post_attention_layernorm post_attention_norm pre_feedforward_layernorm ffn_norm "
    norms += "post_feedforward_layernorm post_ffw_norm self_attn.q_norm attn_q_norm self_attn.k_norm attn_k_norm"
    _tensors(writer, config, weights, norms, permuted=False)
    return _written(writer, file), network


def _sizes(writer: Any, config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _special(writer: Any, bos: int, eos: int, add_bos: bool | None) -> None:
    writer.add_bos_token_id(bos)
    writer.add_eos_token_id(eos)
    if add_bos is not None:
        writer.add_add_bos_token(add_bos)


def _tensors(writer: Any, config: Any, weights: dict[str, np.ndarray], norms: str, permuted: bool) -> None:
    parts = norms.split()
    names = dict(zip(parts[::2], parts[1::2], strict=True))
    names |= {f"self_attn.{x}_proj": f"attn_{x}" for x in "qkv"} | {"self_attn.o_proj": "attn_output"}
    names |= {f"mlp.{x}_proj": f"ffn_{x}" for x in ("gate", "up", "down")}
    writer.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", weights["model.norm.weight"])
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads} if permuted else {}
    for i in range(config.num_hidden_layers):
        for ours, theirs in names.items():
            weight = weights[f"model.layers.{i}.{ours}.weight"]
            if theirs in heads:  # llama.cpp rotates neighbours, transformers halves
                n, (rows, columns) = heads[theirs], weight.shape
                weight = weight.reshape(n, 2, rows // n // 2, columns).swapaxes(1, 2).reshape(rows, columns)
            name = f"blk.{i}.{theirs}.weight"
            if theirs.startswith("ffn") and weight.ndim == 2 and not permuted:
                writer.add_tensor(name, gguf.quants.quantize(weight, QUANTIZED), raw_dtype=QUANTIZED)
            else:
                writer.add_tensor(name, np.ascontiguousarray(weight))


def _written(writer: Any, file: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file

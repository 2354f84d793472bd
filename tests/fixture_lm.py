"""Small random language models with a tokenizer of their own, written to a folder as `transformers` would."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

ACTIONS = [
    "fetch the tomato",
    "fetch the lettuce",
    "take the empty bowl",
    "put the tomato on board 1",
    "put the tomato on board 2",
    "go to board 1",
    "serve the dish",
    "chop nothing",
]
PROMPTS = [
    "Cook and serve: tomato salad. You hold nothing. You see a tomato. Next:",
    "Cook and serve: tomato salad. You hold a raw tomato. The board is free. You stand at board 1. Next:",
    "You hold the bowl. Next:",
    "Cook and serve: tomato and lettuce salad. You see a lettuce, an onion and the bowl. Board 2 has an onion. Next:",
]


def build_llama(folder: Path, seed: int = 0, context: int = 256) -> str:
    """Two layers, grouped keys, a beginning-of-text token before every prompt."""
    tokenizer = _tokenizer(bos=True)
    # Weights are ten times the usual start, so that attention matters and a wrong mask shows.
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=context, initializer_range=0.2, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return _save(LlamaForCausalLM, config, tokenizer, folder, seed)


def build_gpt2(folder: Path, seed: int = 0) -> str:
    """Learned positions, and nothing put before a prompt."""
    tokenizer = _tokenizer(bos=False)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=256, initializer_range=0.2,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return _save(GPT2LMHeadModel, config, tokenizer, folder, seed)


def build_windowed(folder: Path, window: int, seed: int = 0) -> str:
    """Attention that sees only the last `window` tokens."""
    tokenizer = _tokenizer(bos=False)
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=256, initializer_range=0.2, sliding_window=window,
        bos_token_id=tokenizer.eos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return _save(MistralForCausalLM, config, tokenizer, folder, seed)


def build(
    kind: str, settings: dict[str, Any], folder: Path, tokenizer: PreTrainedTokenizerFast | None = None, seed: int = 0
) -> str:
    """A model of any kind that transformers knows, its weights so large that a wrong mask or position shows."""
    config = AutoConfig.for_model(kind, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim >= 2:
                    parameter.normal_(0, 2 / parameter.shape[-1] ** 0.5)
        model.save_pretrained(folder)
    (tokenizer or _tokenizer(bos=True)).save_pretrained(folder)
    return str(folder)


def word_tokenizer(dummy_prefix: bool = False, special: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """A token a word, none at the beginning of a text. dummy_prefix: a space before each text, as in Llama 2."""
    words = sorted({word for text in (*PROMPTS, *ACTIONS) for word in text.replace(".", "").replace(":", "").split()})
    vocabulary = ["<s>", "</s>", "<unk>", "▁", *(f"▁{word}" if dummy_prefix else word for word in words)]
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(vocabulary)}, unk_token="<unk>"))
    if dummy_prefix:
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    else:
        backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    return tokenizer


def _tokenizer(bos: bool) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())  # sorted: every build gets the same ids
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator([*PROMPTS, *(f" {action}\n" for action in ACTIONS)], trainer)
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def _save(
    architecture: type[PreTrainedModel], config: object, tokenizer: PreTrainedTokenizerFast, folder: Path, seed: int
) -> str:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        architecture(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)

"""Writes a model without weights: a config of the shapes asked for, and a tokenizer, for vLLM's --load-format dummy.

python -m scripts.bench.shapes 7B FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from llmrl.config.compose import compose
from llmrl.prompts.prompt import Prompt
from llmrl.query import distinct_states

VOCABULARY = 32_000
SHAPES = {  # width, of the feed-forward layer, layers, heads
    "0.5B": (1024, 2816, 38, 16),
    "7B": (4096, 11008, 32, 32),
}


def main() -> None:
    size, folder = sys.argv[1], Path(sys.argv[2])
    width, inner, layers, heads = SHAPES[size]
    # A token for each word of the kitchens: prompts are then about as long as in a tokenizer that learned English.
    cfg = compose(["env=overcooked_random", "env.count=64"])
    texts = [f"{prompt} {' '.join(menu)}" for prompt, menu in distinct_states(cfg, Prompt(cfg.prompt), 500)]
    split = pre_tokenizers.Whitespace()
    known = sorted({word for text in texts for word, _ in split.pre_tokenize_str(text)})
    words = ["<end>", *known, *(f"word{i}" for i in range(VOCABULARY - 1 - len(known)))]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="word0"))
    backend.pre_tokenizer = split
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", pad_token="<end>").save_pretrained(folder)
    LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=4096, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=0, pad_token_id=0, architectures=["LlamaForCausalLM"], dtype="bfloat16",
    ).save_pretrained(folder)  # fmt: skip
    parameters = VOCABULARY * width + layers * (4 * width**2 + 3 * width * inner)
    print(f"{folder}: {parameters / 1e9:.2f}B parameters, none of which is written")


if __name__ == "__main__":
    main()

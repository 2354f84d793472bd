"""Makes `lm/`, the frozen language model of the golden curves: `python -m tests.golden.make_lm`, about a minute.

It has read mostly random cooking of the tomato dish, so that its scores tell actions apart and its free answers are
mostly actions. It is kept as a file: another version of torch would train another one, and every curve would change.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from llmrl.config.compose import compose
from llmrl.core.state import TextState
from llmrl.envs.kitchen.env import overcooked_tomato
from llmrl.prompts.prompt import Prompt

FOLDER = Path(__file__).parent / "lm"
EPISODES, UPDATES, BATCH = 80, 400, 24


def main() -> None:
    examples = walks(np.random.default_rng(0))
    tokenizer = make_tokenizer([prompt + answer for prompt, answer in examples])
    rows = [(tokenizer(p)["input_ids"], tokenizer(a)["input_ids"]) for p, a in examples]
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=True, bos_token_id=0,
            eos_token_id=0, pad_token_id=0,
        )
    )  # fmt: skip
    learn(model, rows, np.random.default_rng(1))
    model.save_pretrained(FOLDER)
    tokenizer.save_pretrained(FOLDER)


def walks(rng: np.random.Generator) -> list[tuple[str, str]]:
    """Prompts and answers: an expert's action at two decisions in five, any action at the others."""
    prompt, world = Prompt(compose().prompt), overcooked_tomato()
    examples = []
    for _ in range(EPISODES):
        shown, info = world.reset()
        history: tuple[tuple[str, str], ...] = ()
        over = False
        while not over:
            choices = sorted(info["expert_actions"]) if rng.random() < 0.4 else shown["actions"]
            action = str(rng.choice(choices))
            state = TextState(shown["task"], shown["observation"], shown["actions"], history)
            examples.append((prompt.render(state), *prompt.continuations([action])))
            history = (*history, (shown["observation"], action))
            shown, _, terminated, truncated, info = world.step(action)
            over = terminated or truncated
    return examples


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("\n"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=400, special_tokens=["</s>"], initial_alphabet=alphabet, show_progress=False),
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="</s>", eos_token="</s>", pad_token="</s>")


def learn(model: LlamaForCausalLM, rows: list[tuple[list[int], list[int]]], rng: np.random.Generator) -> None:
    """Next-token loss on the answers alone."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(UPDATES):
        batch = [rows[i] for i in rng.integers(len(rows), size=BATCH)]
        width = max(len(p) + len(a) for p, a in batch)
        ids = torch.tensor([p + a + [0] * (width - len(p) - len(a)) for p, a in batch])
        labels = torch.tensor(
            [[-100] * len(p) + a + [-100] * (width - len(p) - len(a)) for p, a in batch]
        )  # -100 is ignored by the loss
        logits = model(input_ids=ids).logits
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


if __name__ == "__main__":
    main()

"""Ratios from one run: scoring and sampling with the prompt computed once, over the plain ways.

    python -m scripts.bench.scoring                                  a random 4M-parameter llama, one CPU thread
    python -m scripts.bench.scoring --model FOLDER --device cuda --dtype bfloat16

Every figure is the median of interleaved repeats; on one CPU thread of CPU time, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from llmrl.lm.language_model import Sampling
from llmrl.lm.transformers_lm import TransformersLM
from scripts.bench.calibration import told

TEXT = """
take put open close find look go walk cut cook serve wash dry fill hold drop push pull turn clean the a an one two red
blue green big small old new cup bowl plate knife table board room door wall sink stove shelf box bag apple onion fish
bread meat egg milk tea water salt to from on in at with under near
"""
WORDS = TEXT.split()
ANSWERS, ANSWER_TOKENS = 10, 16


def main() -> None:
    args = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        model = args.model or _random_llama(folder, args)
        lm = TransformersLM(model, dtype=args.dtype, device=args.device, threads=args.threads)
    rng = random.Random(0)
    parameters = sum(p.numel() for p in lm.network.parameters())
    print(f"{parameters / 1e6:.1f}M parameters, {args.dtype}, {lm.provenance['device']}, {args.threads} thread(s), "
          f"torch {lm.provenance['torch']}, tree proven: {lm.proof.tree}")  # fmt: skip
    print(told())
    prompt = _text(lm, rng, args.prompt_tokens)
    for count, goal in ((10, 8), (50, 20)):
        actions = [_text(lm, rng, rng.randint(5, 9)) for _ in range(count)]
        _compare(
            f"score {count} actions",
            count,
            goal,
            ours=partial(lm.score, [prompt], [actions]),
            plain=partial(lm.score_exactly, [prompt], [actions]),
            args=args,
        )
    _compare(
        f"sample {ANSWERS} answers",
        ANSWERS,
        3,
        ours=lambda: lm.sample([prompt], [range(ANSWERS)], Sampling(max_tokens=ANSWER_TOKENS, stop="")),
        plain=lambda: _generate(lm, prompt),
        args=args,
    )
    _batch_sizes(lm, rng, args)


def _compare(
    what: str,
    count: int,
    goal: int,
    ours: Callable[[], object],
    plain: Callable[[], object],
    args: argparse.Namespace,
) -> None:
    fast, slow = _medians([ours, plain], args)
    rates = f"{count / fast:7.1f}/s against {count / slow:6.1f}/s the plain way"
    print(f"{what}: {rates}: {slow / fast:5.1f}x (goal {goal}x)")


def _batch_sizes(lm: TransformersLM, rng: random.Random, args: argparse.Namespace) -> None:
    """Whether states in one forward cost less than one by one."""
    prompts = [_text(lm, rng, 100) for _ in range(64)]
    actions = [[_text(lm, rng, 7) for _ in range(8)] for _ in prompts]

    def score(size: int) -> Callable[[], object]:
        def run() -> object:
            lm.batch_size = size
            return lm.score(prompts, actions)

        return run

    sizes = (1, 8, 16, 64)
    times = _medians([score(size) for size in sizes], args)
    rates = ", ".join(f"{size}: {len(prompts) / t:.1f}" for size, t in zip(sizes, times, strict=True))
    print(f"states/s (100 tokens, 8 actions of 7) by states per forward: {rates}")


def _medians(functions: list[Callable[[], object]], args: argparse.Namespace) -> list[float]:
    """Seconds."""
    clock = time.process_time if args.device == "cpu" and args.threads == 1 else time.perf_counter
    times: list[list[float]] = [[] for _ in functions]
    for repeat in range(args.repeats + 1):
        for function, mine in zip(functions, times, strict=True):
            start = clock()
            function()
            if args.device == "cuda":
                torch.cuda.synchronize()
            if repeat:  # the first is a warm-up
                mine.append(clock() - start)
    return [statistics.median(mine) for mine in times]


def _generate(lm: TransformersLM, prompt: str) -> object:
    inputs = lm.tokenizer(prompt, return_tensors="pt", return_token_type_ids=False).to(lm.device)
    return lm.network.generate(  # type: ignore[operator]
        **inputs, do_sample=True, top_k=0, max_new_tokens=ANSWER_TOKENS, num_return_sequences=ANSWERS, pad_token_id=0
    )


def _text(lm: TransformersLM, rng: random.Random, tokens: int) -> str:
    """Words that make `tokens` tokens."""
    words: list[str] = []
    while len(lm.tokenizer(" ".join(words), add_special_tokens=False)["input_ids"]) < tokens:
        words.append(rng.choice(WORDS))
    return " ".join(words)


def _random_llama(folder: str, args: argparse.Namespace) -> str:
    width, layers = args.width, args.layers
    vocabulary = {word: i for i, word in enumerate([*WORDS, *(f"word{i}" for i in range(2048 - len(WORDS)))])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="word0"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    logging.disable_progress_bar()
    PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=width, intermediate_size=width * 11 // 4, num_hidden_layers=layers,
        num_attention_heads=width // 64, max_position_embeddings=1024, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    torch.set_default_dtype(getattr(torch, args.dtype))
    with torch.device(args.device):  # where billions of parameters are drawn in a second
        LlamaForCausalLM(config).save_pretrained(folder)
    torch.set_default_dtype(torch.float32)
    return folder


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder or hub id; without it a random llama")
    parser.add_argument("--width", type=int, default=256, help="of the random llama: a multiple of 64")
    parser.add_argument("--layers", type=int, default=4, help="of the random llama")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--prompt-tokens", type=int, default=300)
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""How near scoring comes to what the machine can multiply, and what other number formats change: ratios from one run.

    python -m scripts.bench.limit --model smollm2 --threads 1
    python -m scripts.bench.limit --model smollm2 --threads 1 --formats bfloat16 int8

The limit is the time of the model's own matrix products alone, of the same shapes and with the same weights: 2 x
parameters x tokens operations. It is measured beside each score, turn by turn. The median of the ratios is shown, and
the least seconds of each: of CPU time on one thread, of the clock on more.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from llmrl.lm.token_tree import TokenTree
from llmrl.lm.transformers_lm import TransformersLM
from scripts.bench.calibration import told

KITCHEN = """Task: Cook and serve: tomato salad. Now: You hold nothing. You see a tomato, a knife and a bowl.
Before: You went to board 1. You took the tomato, put it down on board 2 and went back to the start. """
ACTIONS = [
    " fetch the tomato\n", " fetch the lettuce\n", " take the empty bowl\n", " put the tomato on board 1\n",
    " put the tomato on board 2\n", " go to board 1\n", " go to the knife\n", " cut the tomato on board 1\n",
    " put the plate on the counter\n", " serve the tomato salad\n",
]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prompt-tokens", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--formats", nargs="*", default=[], choices=("bfloat16", "int8"))
    args = parser.parse_args()
    lm = TransformersLM(args.model, device="cpu", threads=args.threads)
    about = f"{args.threads} thread(s), torch {lm.provenance['torch']}, {torch.backends.cpu.get_cpu_capability()}"
    print(f"{about}; {told()}")
    prompt = _prompt(lm, args.prompt_tokens)
    plain = _measured("float32", lm, prompt, args)
    for name in args.formats:
        other = TransformersLM(args.model, device="cpu", dtype="bfloat16") if name == "bfloat16" else _int8(args.model)
        scores = _measured(name, other, prompt, args)
        apart = [abs(x - y) for x, y in zip(scores, plain, strict=True)]
        print(f"    {statistics.mean(apart):.3f} nats an action from float32, at most {max(apart):.3f}")


def _measured(name: str, lm: TransformersLM, prompt: str, args: argparse.Namespace) -> list[float]:
    """Prints seconds and the ratio to the limit; the log-probabilities of the actions."""
    (state,) = lm._states([prompt], [ACTIONS])
    nodes = len(TokenTree(state.continuations).tokens)
    tokens = len(state.prompt) + nodes
    head = lm.network.get_output_embeddings()
    linear = [m for m in lm.network.modules() if isinstance(m, torch.nn.Linear)]
    inputs = {m.in_features: torch.randn(tokens, m.in_features, dtype=m.weight.dtype) for m in linear}
    operations = sum(2 * m.weight.numel() * (1 + nodes if m is head else tokens) for m in linear)

    @torch.inference_mode()
    def multiply() -> None:
        for module in linear:
            rows = inputs[module.in_features]
            torch.nn.functional.linear(rows[: 1 + nodes] if module is head else rows, module.weight)

    found: list[float] = []

    def score() -> None:
        found[:] = [score.logprob for score in lm.score([prompt], [ACTIONS])[0]]

    score()
    pairs = [(_seconds(multiply, args), _seconds(score, args)) for _ in range(args.repeats)]
    limit, took = (min(column) for column in zip(*pairs, strict=True))
    print(f"{name}: {tokens} tokens, {1 / took:.2f} states/s ({took:.3f} s)", end="")
    if operations:
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"; limit {1 / limit:.2f} ({operations / limit / 1e9:.0f} GFLOP/s): {ratio:.0%} of it", end="")
    print()
    return found


def _prompt(lm: TransformersLM, tokens: int) -> str:
    """So many tokens of a kitchen."""
    ids = lm.tokenizer(KITCHEN * tokens)["input_ids"][: tokens - 2]
    return f"{lm.tokenizer.decode(ids)}\nNext:"


def _int8(model: str) -> TransformersLM:
    """Weights in int8, activations quantised as they come."""
    lm = TransformersLM(model, device="cpu")
    torch.ao.quantization.quantize_dynamic(lm.network, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)
    return lm


def _seconds(run: Callable[[], None], args: argparse.Namespace) -> float:
    clock = time.process_time if args.threads == 1 else time.perf_counter
    start = clock()
    run()
    return clock() - start


if __name__ == "__main__":
    main()

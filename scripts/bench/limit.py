"""How near scoring comes to what the machine can multiply, beside llama.cpp and other number formats.

    python -m scripts.bench.limit --llamacpp .llamacpp
    python -m scripts.bench.limit --formats bfloat16 int8

The limit is the time of the model's own matrix products alone, with the same weights: 2 x parameters x tokens
operations, of tokens that no earlier question computed. All arms answer the same questions in turns, each time about
texts that are new but for their beginning, where that is known. Seconds are of CPU time, the server's included, on one
thread. Shown are medians, and of ratios the median of those of one turn.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from llmrl.lm.language_model import Score
from llmrl.lm.network import State
from llmrl.lm.openai_lm import OpenAILM
from llmrl.lm.token_tree import TokenTree
from llmrl.lm.transformers_lm import TransformersLM
from scripts.bench.calibration import told
from scripts.bench.llamacpp import FLOAT32, SLOTS, serving, smollm2, write_as

SENTENCES = (
    "You hold nothing.", "You see a tomato, a knife and a bowl.", "You went to board 1.", "You took the tomato.",
    "You put it down on board 2.", "You see a lettuce, an onion and two plates.", "The other cook is at the stove.",
    "You cut the onion on board 1.", "You hold a plate with a cut tomato.", "The counter is empty.",
)  # fmt: skip
ACTIONS = (
    " fetch the tomato\n", " fetch the lettuce\n", " take the empty bowl\n", " put the tomato on board 1\n",
    " put the tomato on board 2\n", " go to board 1\n", " go to the knife\n", " cut the tomato on board 1\n",
    " put the plate on the counter\n", " serve the tomato salad\n",
)  # fmt: skip


@dataclass
class Arm:
    lm: TransformersLM | OpenAILM
    server: int | None = None  # the id of its process
    seconds: list[float] = field(default_factory=list)
    scores: list[list[Score]] = field(default_factory=list)

    def ask(self, prompts: list[str]) -> None:
        def score() -> None:
            self.scores = self.lm.score(prompts, [ACTIONS] * len(prompts))

        self.seconds.append(_seconds(score, self.server) / len(prompts))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--prompts", nargs="*", default=["150:0", "150:100", "450:0", "450:400"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--formats", nargs="*", default=[], choices=("bfloat16", "int8"))
    parser.add_argument("--llamacpp", type=Path, help="the folder of make llamacpp; its file is SmolLM2's")
    args = parser.parse_args()
    lm = TransformersLM(args.model, device="cpu", threads=1)
    print(f"one thread, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}; {told()}")
    arms = {"float32": Arm(lm)} | {name: Arm(_other(name, args.model)) for name in args.formats}
    with _llamacpp(args.llamacpp) as served:
        for about in args.prompts:
            tokens, known = map(int, about.split(":"))
            _compare(lm, arms | served, tokens, known, args.repeats)


def _compare(lm: TransformersLM, arms: dict[str, Arm], tokens: int, known: int, repeats: int) -> None:
    """Prints what each arm takes; `known` of the `tokens` of each prompt are those of all other prompts, too."""
    limits = []
    for turn in range(repeats + 1):  # the first is a warm-up, after which what is known is known
        prompts = [_prompt(lm, tokens, known, f"{tokens} {known} {turn} {i}") for i in range(SLOTS)]
        (ids,) = lm.texts.prompts(prompts[:1])
        state = State(ids, lm.texts.continuations(prompts[0], ids, ACTIONS))
        limits.append(_seconds(_products(lm, state, known)))
        for arm in arms.values():
            arm.seconds = arm.seconds if turn > 1 else []
            arm.ask(prompts)
    nodes, operations = len(TokenTree(state.continuations).tokens), _operations(lm, state, known)
    seconds = statistics.median(limits[1:])
    print(
        f"\nprompts of {len(state.prompt)} tokens, {known} of them known, and {nodes} of {len(ACTIONS)} actions: "
        f"the products alone {1 / seconds:.2f} states/s ({operations / seconds / 1e9:.0f} GFLOP/s)"
    )
    first = next(iter(arms.values()))
    for name, arm in arms.items():
        share = statistics.median(a / b for a, b in zip(limits[1:], arm.seconds, strict=True))
        line = f"  {name}: {1 / statistics.median(arm.seconds):.2f} states/s, {share:.0%} of that"
        if arm is not first:
            ratio = statistics.median(a / b for a, b in zip(first.seconds, arm.seconds, strict=True))
            apart = [abs(x.logprob - y.logprob) for p, q in zip(arm.scores, first.scores, strict=True)
                     for x, y in zip(p, q, strict=True)]  # fmt: skip
            line += f"; {ratio:.2f} times float32; {statistics.mean(apart):.4f} nats an action from it, "
            line += f"at most {max(apart):.4f}"
        print(line, flush=True)


def _prompt(lm: TransformersLM, tokens: int, known: int, name: str) -> str:
    return f"{_text(lm, known, '')}{_text(lm, tokens - known - 2, name)}\nNext:"


def _text(lm: TransformersLM, tokens: int, name: str) -> str:
    """So many tokens of a kitchen, by `name` others from the first on."""
    rng = random.Random(name)
    text = f" Game {rng.randrange(10**6)}. " + " ".join(rng.choice(SENTENCES) for _ in range(tokens))
    return str(lm.tokenizer.decode(lm.tokenizer(text)["input_ids"][:tokens]))


def _linear(lm: TransformersLM) -> list[tuple[torch.nn.Linear, bool]]:
    """The matrices, and whether each is the head, of which only the rows are needed that predict an action."""
    head = lm.network.get_output_embeddings()
    return [(module, module is head) for module in lm.network.modules() if isinstance(module, torch.nn.Linear)]


def _rows(state: State, known: int) -> tuple[int, int]:
    """The rows of all matrices but the head, and those of the head."""
    nodes = len(TokenTree(state.continuations).tokens)
    return len(state.prompt) - known + nodes, 1 + nodes


def _operations(lm: TransformersLM, state: State, known: int) -> int:
    body, of_head = _rows(state, known)
    return sum(2 * matrix.weight.numel() * (of_head if is_head else body) for matrix, is_head in _linear(lm))


def _products(lm: TransformersLM, state: State, known: int) -> Callable[[], None]:
    body, of_head = _rows(state, known)
    pairs = [(matrix.weight, torch.randn(of_head if h else body, matrix.in_features)) for matrix, h in _linear(lm)]

    @torch.inference_mode()
    def multiply() -> None:
        for weight, rows in pairs:
            torch.nn.functional.linear(rows, weight)

    return multiply


def _other(name: str, model: str) -> TransformersLM:
    """int8: weights in int8, activations quantised as they come."""
    if name == "bfloat16":
        return TransformersLM(model, device="cpu", dtype="bfloat16")
    lm = TransformersLM(model, device="cpu")
    torch.ao.quantization.quantize_dynamic(lm.network, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)
    return lm


@contextmanager
def _llamacpp(build: Path | None) -> Iterator[dict[str, Arm]]:
    if build is None:
        yield {}
        return
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, file = Path(name), smollm2()
        exact = write_as(file, folder / "smollm2-f32.gguf")
        arms = {}
        for kind, weights, options in (("float32", exact, FLOAT32), ("Q4_1", file, ())):
            server = stack.enter_context(serving(build, weights, folder / f"{kind}.log", *options))
            lm = stack.enter_context(closing(OpenAILM("smollm2", url=server.url, tokenizer="of the file")))
            arms[f"llama.cpp, {kind}"] = Arm(lm, server.process.pid)
        yield arms


def _seconds(run: Callable[[], None], server: int | None = None) -> float:
    start = _spent(server)
    run()
    return _spent(server) - start


def _spent(server: int | None) -> float:
    """Seconds of CPU time of this process and the server's."""
    if server is None:
        return time.process_time()
    user, system = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[11:13]
    return time.process_time() + (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()

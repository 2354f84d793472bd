"""Proves, on a small copy of an architecture, where the fast ways of `Network` give what the exact way does.

The copy (`llmrl.lm.small_copy`) has random weights that make its attention sharp, and every limit that the config names
(a window, how many tokens attention picks, where rotary factors change) scaled down to LIMIT tokens. So one proof of a
second sees both sides of limits that lie thousands of tokens away.

A way is proven "within" the limit, "beyond" it too, or not at all ("no"). The real limit is then the smallest of those
that were scaled down. A way that is not proven is not used: `TransformersLM` computes exactly there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import PreTrainedModel

from llmrl.lm import network as _network
from llmrl.lm import small_copy as _small_copy
from llmrl.lm import token_tree as _token_tree
from llmrl.lm.findings import recall, remember
from llmrl.lm.language_model import LanguageModelError
from llmrl.lm.load import describe_device
from llmrl.lm.network import FAILURES, CachedSteps, ExactSteps, Network, State
from llmrl.lm.quiet import quiet
from llmrl.lm.small_copy import LIMIT, SEED, VOCABULARY, make_copy, scaled_down

FURTHEST = 12 * LIMIT  # the longest text of a copy: beyond limits that are a product of settings, too
PROVEN_BLOCK = 4  # tokens of a block of the proof, whose texts are short
TOLERANCE = 1e-3  # nats, in float32: rounding moves a log-probability by about 1e-5, a wrong mask by more than 1e-2
_ORDER = ("no", "within", "beyond")
_Asked = tuple[State, list[list[float]]]  # and the log-probabilities that the exact way gives


@dataclass(frozen=True)
class Proof:
    """The findings about one architecture.

    tree, blocks, cache: "beyond", "within" or "no". alone: whether only one state may be computed at a time.
    attention: the implementation that these hold for, "sdpa" or "eager". limit: of the real model, in tokens.
    unused: positions of the model's table that no text reaches, since it does not count from 0.
    causal: None where no copy could be made. reason: why nothing is proven, or "".
    """

    tree: str = "no"
    blocks: str = "no"
    cache: str = "no"
    alone: bool = True
    attention: str = "eager"
    keeps_last: bool = False
    limit: int | None = None
    unused: int = 0
    causal: bool | None = None
    reason: str = ""

    def allows(self, way: str, length: int) -> bool:
        """Whether `way` ("tree", "blocks" or "cache") is proven for a row of so many tokens."""
        proven = getattr(self, way)
        return proven == "beyond" or (proven == "within" and (self.limit is None or length <= self.limit))

    def without(self, way: str, reason: str) -> Proof:
        """The proof for a model of this architecture that did not hold to it."""
        return replace(self, **{"reason": reason, way: "no"})  # type: ignore[arg-type]


def prove(model: PreTrainedModel, device: str) -> Proof:
    """The proof for the architecture of `model`, from the user's cache folder if it was made before.

    It is kept by the copy's settings and class, the device, the versions of torch and transformers, and this code.
    """
    limit, copies = scaled_down(model.config)
    named = [json.dumps(copy, sort_keys=True, default=str) for copy in copies]
    where = [device, describe_device(device), torch.__version__, transformers.__version__, _code()]
    key = hashlib.sha256("\n".join([type(model).__name__, *where, *named]).encode()).hexdigest()
    known = recall("proofs.json").get(key)
    if not isinstance(known, dict) or known.keys() != Proof.__dataclass_fields__.keys():
        known = asdict(prove_anew(model, device))
        remember("proofs.json", {key: known})
    return replace(Proof(**known), limit=limit)


def prove_anew(model: PreTrainedModel, device: str) -> Proof:
    """The proof by the first copy of `model` that can be made and asked."""
    limit, copies = scaled_down(model.config)
    return replace(_prove(model, copies, device), limit=limit)


def _prove(model: PreTrainedModel, copies: list[dict[str, Any]], device: str) -> Proof:
    reason = "no smaller copy of it could be made"
    for values in copies:
        try:
            with quiet(), _own_randomness():
                # On a CPU first: a position beyond a table is an error there, and on a GPU the end of the process.
                unused = _unused_positions(Network(make_copy(model, values, "cpu"), "cpu"))
                if unused:
                    values = values | {"max_position_embeddings": values["max_position_embeddings"] + unused}
                reads_on = holds(_reads, Network(make_copy(model, values, "cpu"), "cpu"), FURTHEST)
                copy = make_copy(model, values, device)
                return replace(prove_copy(copy, device, model.config._attn_implementation, reads_on), unused=unused)
        except Exception as error:  # a config's own checks raise all kinds
            reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    return Proof(reason=f"no smaller copy of {type(model).__name__} could be made and asked ({reason})"[:300])


def prove_copy(copy: PreTrainedModel, device: str, attention: str, reads_on: bool) -> Proof:
    """The proof for a copy itself. attention: what transformers chose for the real model. reads_on: beyond the limit.

    Raises one of FAILURES where the copy cannot be asked within its limit.
    """
    exact = Network(copy, device)
    copy.set_attn_implementation("eager")
    exact.keeps_last = False
    states = _states()
    truth = {place: _truth(exact, some) if place == "within" or reads_on else None for place, some in states.items()}
    if truth["within"] is None:
        raise LanguageModelError(f"{type(copy).__name__} failed on a short text")
    causal = looks_back_only(exact, states["within"][0].prompt)
    best = Proof(causal=causal, reason="no other way gives the numbers of its exact way")
    if not causal:
        return best
    for implementation in dict.fromkeys((attention, "eager")):
        copy.set_attn_implementation(implementation)
        found = _ways(Network(copy, device), states, truth)
        if found is None:
            continue  # this attention gives other numbers
        proof = replace(found, attention=implementation, causal=True)
        if _worth(proof) > _worth(best) or best.reason:
            best = proof
        if proof.tree != "no":
            break
    return best


def looks_back_only(network: Network, tokens: list[int], tolerance: float = TOLERANCE) -> bool:
    """Whether changing the last token leaves what is said of all tokens before it."""
    others = [*tokens[:-1], tokens[0] if tokens[0] != tokens[-1] else tokens[1]]
    return apart(*(network.logits(row)[: len(tokens) - 1] for row in (tokens, others))) <= tolerance


def apart(logits_NV: torch.Tensor, others_NV: torch.Tensor) -> float:
    """The largest total variation distance between two rows' distributions, 0 to 1; NaN where one has none.

    It weighs a token by its probability: half precision moves the logarithms of unlikely tokens by much.
    """
    p, q = (logits.float().softmax(-1) for logits in (logits_NV, others_NV))
    return float((p - q).abs().sum(-1).amax() / 2)


def _worth(proof: Proof) -> int:
    return 3 * _ORDER.index(proof.tree) + _ORDER.index(proof.cache)


# ---- the comparison ----------------------------------------------------------------------------------------------


def _states() -> dict[str, list[State]]:
    """Prompts of many lengths. The longest row within is as long as the limit; beyond, some rows cross it."""
    rng = np.random.Generator(np.random.PCG64(SEED))

    def state(n: int) -> State:
        tokens = rng.integers(8, VOCABULARY, n + 12).tolist()
        prompt, a, b = tokens[:n], tokens[n : n + 6], tokens[n + 6 :]
        return State(prompt, [a, b, a[:3] + b[3:], a[:2] + b[:1], b[:1]])

    within = [state(n) for n in (LIMIT - 6, 5, 11)]
    beyond = [state(n) for n in (LIMIT - 3, LIMIT + 1, 2 * LIMIT + 7, 4, FURTHEST - 6)]
    return {"within": within, "beyond": beyond}


def _truth(exact: Network, states: list[State]) -> list[list[list[float]]] | None:
    try:
        return [exact.score_rows(state) for state in states]
    except FAILURES:  # such as a table of positions that ends at the limit
        return None


def _ways(network: Network, states: Mapping[str, list[State]], truth: Mapping[str, Any]) -> Proof | None:
    """None where this network's exact way does not give the truth."""
    network.keeps_last = False
    for place in ("within", "beyond"):
        if truth[place] is not None and not _agree(_truth(network, states[place]), truth[place]):
            return None
    network.keeps_last = True
    if not _agree(_truth(network, states["within"]), truth["within"]):
        network.keeps_last = False

    checks = {"tree": same_scores, "blocks": same_after_blocks, "cache": same_steps}
    places = [place for place in ("within", "beyond") if truth[place] is not None]
    asked = {place: list(zip(states[place], truth[place], strict=True)) for place in places}
    each = {
        way: _reach([all(holds(check, network, [one]) for one in asked[p]) for p in places])
        for way, check in checks.items()
    }
    together = {way: _reach([holds(check, network, asked[p]) for p in places]) for way, check in checks.items()}
    alone = any(together[way] == "no" or together[way] != each[way] for way in checks)
    return Proof(**each, alone=alone, keeps_last=network.keeps_last)  # type: ignore[arg-type]


def same_scores(network: Network, asked: list[_Asked], tolerance: float = TOLERANCE) -> bool:
    """Whether trees give the log-probability of each continuation that single rows give."""
    found = network.score_trees([state for state, _ in asked])
    sums = [[list(map(sum, scores)) for scores in some] for some in (found, [truth for _, truth in asked])]
    return all(np.abs(np.subtract(a, b)).max() <= tolerance for a, b in zip(*sums, strict=True))


def same_after_blocks(network: Network, asked: list[_Asked], tolerance: float = TOLERANCE) -> bool:
    """Whether what comes after kept blocks has the log-probabilities that single rows give; asked twice, as kept."""
    for state, truth in asked:
        first, kept = (network.score_after_blocks(state, PROVEN_BLOCK) for _ in range(2))
        found, right = (np.array(list(map(sum, scores))) for scores in (first, truth))
        if first != kept or not np.abs(found - right).max() <= tolerance:
            return False
    return True


def same_steps(network: Network, asked: list[_Asked], tolerance: float = TOLERANCE) -> bool:
    """Whether cached sampling sees what is computed anew for every token, its rows drawing different tokens."""
    prompts = [state.prompt for state, _ in asked]
    drawn = [state.continuations[i] for state, _ in asked for i in (0, 1)]
    owners = [b for b in range(len(asked)) for _ in (0, 1)]
    exact, cached = ExactSteps(network, prompts, owners), CachedSteps(network, prompts, owners, len(drawn[0]))
    for tokens in zip(*drawn, strict=True):
        if not apart(exact.logits, cached.logits[: len(owners)]) <= tolerance:
            return False
        spare = len(cached.logits) - len(owners)
        exact.advance(torch.tensor(tokens, device=network.device))
        cached.advance(torch.tensor(tokens + tokens[:1] * spare, device=network.device))
    return True


def holds(check: Callable[..., bool], *args: Any) -> bool:
    """The outcome of a check; False where the model fails on what it is given."""
    try:
        return check(*args)
    except FAILURES:
        return False


def _reach(held: list[bool]) -> str:
    """held: within the limit, and beyond it where that could be asked."""
    return "no" if not held[0] else ("beyond" if held == [True, True] else "within")


def _agree(found: Any, truth: Any) -> bool:
    if found is None or truth is None:
        return found is truth
    pairs = [(_flat(f), _flat(t)) for f, t in zip(found, truth, strict=True)]
    return all(np.abs(np.subtract(f, t)).max() <= TOLERANCE for f, t in pairs)


def _flat(scores: list[list[float]]) -> list[float]:
    return [x for continuation in scores for x in continuation]


def _reads(network: Network, length: int) -> bool:
    return network.logits([VOCABULARY - 1] * length).shape[0] == length


def _unused_positions(network: Network) -> int:
    """How much shorter than LIMIT the longest text is that a table of LIMIT positions reads."""
    for unused in range(4):
        if holds(_reads, network, LIMIT - unused):
            return unused
    raise LanguageModelError(f"{type(network.model).__name__} failed on a text of {LIMIT - 3} tokens")


# ---- what is kept ------------------------------------------------------------------------------------------------


def _own_randomness() -> Any:
    """Making a model draws from torch's global stream, which a run's own results may not depend on."""
    return torch.random.fork_rng(devices=range(torch.cuda.device_count()))


@cache
def _code() -> str:
    files = [Path(str(module.__file__)) for module in (_network, _small_copy, _token_tree)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in [*files, Path(__file__)])).hexdigest()

"""The action prior w(a|s) and the supports S(s) drawn from it.

A source gives a distribution over the admissible actions: `uniform`, `scored` (softmax of the model's log-probability
of every action) or `generated` (the model's free answers, projected). From it each use draws its own support: k draws
with replacement, whose counts are the weights, or all admissible actions. `sampled` is `scored` with k draws;
`uniform_k` is `uniform` with k draws.

Mixing, w <- (1-mix) w + mix uniform, is applied to the distribution that is drawn from: a support of k actions stays
one, k=1 remains the prior alone, and no action is for ever out of reach.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llmrl.envs.state import TextState
from llmrl.lm.language_model import Sampling
from llmrl.priors.cache import Answers
from llmrl.priors.candidates import Candidates, Use
from llmrl.priors.project import project
from llmrl.priors.prompt import Prompt
from llmrl.run.seeding import stream
from llmrl.schema import PriorConfig, SupportConfig

Key = tuple[str, str, tuple[str, ...], tuple[tuple[str, str], ...]]


@dataclass
class PriorCounts:
    """Functions of the run's logic alone: the same with a cold and a warm cache."""

    queries: int = 0  # states at which the prior was asked for an action's candidates
    parse_failures: int = 0  # answers that named no admissible action
    fallback: int = 0  # supports that are uniform because no answer named one


class Prior:
    """The ActionPrior of this package: every source, support and control, by configuration."""

    def __init__(
        self, cfg: PriorConfig, seed: int, prompt: Prompt | None = None, answers: Answers | None = None
    ) -> None:
        if cfg.source != "uniform" and (prompt is None or answers is None):
            raise ValueError(f"prior.source={cfg.source} asks a language model: choose one with lm=tiny or lm=hf")
        self.cfg, self.seed, self.prompt, self.answers = cfg, seed, prompt, answers
        draw_seed = seed if cfg.draw_seed is None else cfg.draw_seed
        stop = prompt.end if prompt is not None else ""
        self._sampling = Sampling(cfg.max_tokens, cfg.temperature, cfg.top_p, stop, draw_seed)
        self.counts = PriorCounts()
        self._supports: dict[Use, SupportConfig] = {
            "behaviour": cfg.behaviour, "target": cfg.target, "evaluation": cfg.evaluation,
        }  # fmt: skip
        self._draws = {use: stream(seed, "prior", use) for use in self._supports}
        self._distributions: dict[Key, np.ndarray] = {}  # uniform, scored: p [A], mixed
        self._generated: dict[Key, list[int | None]] = {}  # the projected answers read so far, in index order
        self._union: dict[tuple[Use, Key], np.ndarray] = {}  # counts of all draws so far
        self._visits: defaultdict[tuple[Use, Key], int] = defaultdict(int)  # generated, redrawn at each visit

    @property
    def distinct_prompts(self) -> int:
        return len(self._generated if self.cfg.source == "generated" else self._distributions) * (
            self.prompt is not None
        )

    @property
    def frozen_in_evaluation(self) -> bool:
        """Whether a state has the same candidates each time it is evaluated."""
        return self.cfg.evaluation.k is None or self.cfg.evaluation.redraw == "never"

    def candidates(self, states: Sequence[TextState], use: Use) -> list[Candidates]:
        if self.cfg.source != "uniform" and use != "target":  # a target's state is asked again when it is acted in
            self.counts.queries += len(states)
        keys = [self._key(s) for s in states]
        if self.cfg.source == "generated":
            return self._from_answers(states, keys, use)
        self._learn_distributions(states, keys)
        return [self._from_distribution(key, self._distributions[key], use) for key in keys]

    def start_evaluation(self, *name: str | int) -> None:
        """Evaluations draw from a stream of their own, named by when they happen."""
        self._draws["evaluation"] = stream(self.seed, "prior", "evaluation", *name)

    # ---- distributions: uniform and scored -------------------------------------------------------------------------

    def _learn_distributions(self, states: Sequence[TextState], keys: Sequence[Key]) -> None:
        new = {key: state for key, state in zip(keys, states, strict=True) if key not in self._distributions}
        if not new:
            return
        if self.cfg.source == "uniform":
            self._distributions.update({key: np.full(len(s.actions), 1 / len(s.actions)) for key, s in new.items()})
            return
        assert self.prompt is not None
        assert self.answers is not None
        prompts = [self.prompt.render(s) for s in new.values()]
        scores = self.answers.scores(prompts, [self.prompt.continuations(s.actions) for s in new.values()])
        for (key, state), row in zip(new.items(), scores, strict=True):
            divide_by = {
                "none": [1] * len(row),
                "token": [score.tokens for score in row],  # TWOSOME's token normalisation (arXiv 2401.14151)
                "word": [len(action.split()) for action in state.actions],  # ... and its word normalisation
            }[self.cfg.normalise]
            logits = np.array([score.logprob for score in row]) / np.array(divide_by)
            p = np.exp(logits - logits.max())
            self._distributions[key] = self._mixed(p / p.sum())

    def _from_distribution(self, key: Key, p: np.ndarray, use: Use) -> Candidates:
        support = self._supports[use]
        if support.k is None:
            return _weighted(p)
        rng = stream(self.seed, "frozen", *map(str, key)) if support.redraw == "never" else self._draws[use]
        drawn = np.searchsorted(np.cumsum(p), rng.random(support.k) * p.sum(), side="right")
        counts = np.bincount(np.minimum(drawn, p.size - 1), minlength=p.size)
        return _weighted(self._so_far(key, counts, use))

    # ---- generated ---------------------------------------------------------------------------------------------

    def _from_answers(self, states: Sequence[TextState], keys: Sequence[Key], use: Use) -> list[Candidates]:
        """The first k answers that project, in index order, among the first k+limit; none: uniform, and counted.

        A support that is redrawn reads the next k+limit answers at each visit.
        """
        support = self._supports[use]
        k = support.k or max(s.k or 0 for s in self._supports.values())
        if not k:
            raise ValueError("prior.source=generated counts k answers: set prior.behaviour.k (5 in the paper)")
        starts = []
        for key in keys:
            starts.append(self._visits[use, key] * (k + self.cfg.limit))
            if support.redraw != "never":
                self._visits[use, key] += 1
        self._read_answers(states, keys, [start + k for start in starts])
        short = [i for i in range(len(keys)) if _valid(self._generated[keys[i]], starts[i], starts[i] + k) < k]
        for extra in range(1, self.cfg.limit + 1):
            if not short:
                break
            ends = [starts[i] + k + extra for i in short]
            self._read_answers([states[i] for i in short], [keys[i] for i in short], ends)
            short = [
                i for i, end in zip(short, ends, strict=True) if _valid(self._generated[keys[i]], starts[i], end) < k
            ]
        out = []
        for state, key, start in zip(states, keys, starts, strict=True):
            window = self._generated[key][start : start + k + self.cfg.limit]
            chosen = [index for index in window if index is not None][:k]
            size = len(state.actions)
            if not chosen:
                self.counts.fallback += 1
                out.append(_weighted(np.ones(size)))
            elif support.k is None:  # all admissible, weighted by the counts
                out.append(_weighted(self._mixed(np.bincount(chosen, minlength=size) / len(chosen)), keep_zeros=True))
            else:
                counts = np.bincount(self._mix_draws(key, np.array(chosen), size, use), minlength=size)
                out.append(_weighted(self._so_far(key, counts, use)))
        return out

    def _read_answers(self, states: Sequence[TextState], keys: Sequence[Key], ends: Sequence[int]) -> None:
        assert self.prompt is not None
        assert self.answers is not None
        by_count: defaultdict[int, dict[Key, TextState]] = defaultdict(dict)
        for state, key, end in zip(states, keys, ends, strict=True):
            if len(self._generated.setdefault(key, [])) < end:
                by_count[end][key] = state
        for n, wanted in by_count.items():
            prompts = [self.prompt.render(s) for s in wanted.values()]
            for (key, state), texts in zip(
                wanted.items(), self.answers.generations(prompts, n, self._sampling), strict=True
            ):
                known = self._generated[key]
                fresh = [project(text, state.actions) for text in texts[len(known) : n]]
                self.counts.parse_failures += fresh.count(None)
                known.extend(fresh)

    def _mix_draws(self, key: Key, chosen: np.ndarray, size: int, use: Use) -> np.ndarray:
        """Each draw comes from the uniform distribution with probability `mix`."""
        if self.cfg.mix == 0:
            return chosen
        never = self._supports[use].redraw == "never"
        rng = stream(self.seed, "frozen", *map(str, key)) if never else self._draws[use]
        other = rng.random(chosen.size) < self.cfg.mix
        return np.where(other, rng.integers(size, size=chosen.size), chosen)

    # ---- shared --------------------------------------------------------------------------------------------------

    def _key(self, state: TextState) -> Key:
        turns = self.prompt.history_turns if self.prompt is not None else 0
        return state.task, state.observation, state.actions, state.history[-turns:] if turns else ()

    def _mixed(self, p: np.ndarray) -> np.ndarray:
        return (1 - self.cfg.mix) * p + self.cfg.mix / p.size

    def _so_far(self, key: Key, counts: np.ndarray, use: Use) -> np.ndarray:
        if self._supports[use].redraw != "union":
            return counts
        self._union[use, key] = counts + self._union.get((use, key), 0)
        return self._union[use, key]

    def lm_metrics(self) -> dict[str, int]:
        return {
            "lm/queries": self.counts.queries,
            "lm/distinct_prompts": self.distinct_prompts,
            "lm/parse_failures": self.counts.parse_failures,
            "prior/fallback": self.counts.fallback,
        }


def _weighted(weights: np.ndarray, keep_zeros: bool = False) -> Candidates:
    actions = np.arange(weights.size) if keep_zeros else np.flatnonzero(weights)
    with np.errstate(divide="ignore"):
        return Candidates(actions, np.log(weights[actions] / weights.sum()))


def _valid(answers: Sequence[int | None], start: int, end: int) -> int:
    return sum(index is not None for index in answers[start:end])

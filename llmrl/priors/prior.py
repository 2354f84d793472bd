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

Key = tuple[str, tuple[str, ...]]  # what an answer depends on: the rendered prompt (or observation) and the menu


@dataclass
class PriorCounts:
    """Functions of the run's logic alone: the same with a cold and a warm cache."""

    queries: int = 0  # states at which the prior was asked for an action's candidates
    parse_failures: int = 0  # answers that named no admissible action
    fallback: int = 0  # supports that are uniform because no answer named one


@dataclass(frozen=True)
class Explanation:
    """What stands behind a state's candidates, for a person to look at."""

    weights: np.ndarray | None  # float64 [actions]: the distribution that is drawn from, mixed; None where answers are
    answers: list[tuple[str, int | None]]  # the free answers that were used, and the action that each names
    draws: int | None  # how many draws the weights of the candidates count; None where they do not count any


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
        self._rendered: dict[TextState, str] = {}
        self._distributions: dict[Key, np.ndarray] = {}  # uniform, scored: p [A], mixed
        self._generated: dict[Key, list[int | None]] = {}  # the projected answers read so far, in index order
        self._union: dict[tuple[Use, Key], np.ndarray] = {}  # counts of all draws so far
        self._visits: defaultdict[tuple[Use, Key], int] = defaultdict(int)  # generated, redrawn at each visit

    @property
    def distinct_prompts(self) -> int:
        return len({text for text, _ in self._generated or self._distributions}) if self.prompt is not None else 0

    @property
    def frozen_in_evaluation(self) -> bool:
        """Whether a state has the same candidates each time it is evaluated."""
        return self.cfg.evaluation.k is None or self.cfg.evaluation.redraw == "never"

    def candidates(self, states: Sequence[TextState], use: Use) -> list[Candidates]:
        if self.cfg.source != "uniform" and use != "target":  # a target's state is asked again when it is acted in
            self.counts.queries += len(states)
        keys = [self._key(s) for s in states]
        if self.cfg.source == "generated":
            return self._from_answers(keys, use)
        self._learn_distributions(keys)
        return [self._from_distribution(key, use) for key in keys]

    def start_evaluation(self, *name: str | int) -> None:
        """Evaluations draw from a stream of their own, named by when they happen, and remember no earlier one."""
        self._draws["evaluation"] = stream(self.seed, "prior", "evaluation", *name)
        self._union = {at: counts for at, counts in self._union.items() if at[0] != "evaluation"}
        for at in [at for at in self._visits if at[0] == "evaluation"]:
            del self._visits[at]

    def explain(self, state: TextState, use: Use) -> Explanation:
        """Of the candidates that were last given for this state and use; draws nothing, and asks for nothing new."""
        key, support = self._key(state), self._supports[use]
        union = self._union.get((use, key))
        if self.cfg.source != "generated":
            return Explanation(self._distributions[key], [], support.k if union is None else int(union.sum()))
        assert self.answers is not None
        k = self._answers_wanted(use)
        start = max(0, self._visits.get((use, key), 0) - 1) * (k + self.cfg.limit)
        named = self._generated[key][start : start + k + self.cfg.limit]
        valid = [i for i, index in enumerate(named) if index is not None][:k]
        if len(valid) == k:
            named = named[: valid[-1] + 1]
        (texts,) = self.answers.generations([key[0]], start + len(named), self._sampling)
        answers = list(zip(texts[start:], named, strict=True))
        if not valid or support.k is None:
            return Explanation(None, answers, None)
        return Explanation(None, answers, len(valid) if union is None else int(union.sum()))

    # ---- distributions: uniform and scored -------------------------------------------------------------------------

    def _learn_distributions(self, keys: Sequence[Key]) -> None:
        new = [key for key in dict.fromkeys(keys) if key not in self._distributions]
        if not new:
            return
        if self.cfg.source == "uniform":
            self._distributions |= {key: np.full(len(key[1]), 1 / len(key[1])) for key in new}
            return
        assert self.prompt is not None
        assert self.answers is not None
        texts = [self.prompt.continuations(actions) for _, actions in new]
        for key, row in zip(new, self.answers.scores([prompt for prompt, _ in new], texts), strict=True):
            divide_by = {
                "none": [1] * len(row),
                "token": [score.tokens for score in row],  # TWOSOME's token normalisation (arXiv 2401.14151)
                "word": [len(action.split()) for action in key[1]],  # ... and its word normalisation
            }[self.cfg.normalise]
            logits = np.array([score.logprob for score in row]) / np.array(divide_by)
            p = np.exp(logits - logits.max())
            self._distributions[key] = self._mixed(p / p.sum())

    def _from_distribution(self, key: Key, use: Use) -> Candidates:
        support, p = self._supports[use], self._distributions[key]
        if support.k is None:
            return _weighted(p)
        rng = self._frozen(key) if support.redraw == "never" else self._draws[use]
        cumulative = p.cumsum()
        drawn = cumulative.searchsorted(rng.random(support.k) * cumulative[-1], side="right")
        return _weighted(self._so_far(key, np.bincount(drawn.clip(max=p.size - 1), minlength=p.size), use))

    # ---- generated ---------------------------------------------------------------------------------------------

    def _from_answers(self, keys: Sequence[Key], use: Use) -> list[Candidates]:
        """The first k answers that project, in index order, among the first k+limit; none: uniform, and counted.

        A support that is redrawn reads the next k+limit answers at each visit.
        """
        support = self._supports[use]
        k = self._answers_wanted(use)
        starts = []
        for key in keys:
            starts.append(self._visits[use, key] * (k + self.cfg.limit))
            if support.redraw != "never":
                self._visits[use, key] += 1
        short = list(zip(keys, starts, strict=True))
        for extra in range(self.cfg.limit + 1):
            self._read_answers([(key, start + k + extra) for key, start in short])
            short = [
                (key, start) for key, start in short if _valid(self._generated[key][start : start + k + extra]) < k
            ]
            if not short:
                break
        out = []
        for key, start in zip(keys, starts, strict=True):
            window = self._generated[key][start : start + k + self.cfg.limit]
            chosen = [index for index in window if index is not None][:k]
            size = len(key[1])
            if not chosen:
                self.counts.fallback += 1
                out.append(_weighted(np.ones(size)))
            elif support.k is None:  # all admissible, weighted by the counts
                out.append(_weighted(self._mixed(np.bincount(chosen, minlength=size) / len(chosen)), keep_zeros=True))
            else:
                counts = np.bincount(self._mix_draws(key, np.array(chosen), size, use), minlength=size)
                out.append(_weighted(self._so_far(key, counts, use)))
        return out

    def _answers_wanted(self, use: Use) -> int:
        k = self._supports[use].k or max(s.k or 0 for s in self._supports.values())
        if not k:
            raise ValueError("prior.source=generated counts k answers: set prior.behaviour.k (5 in the paper)")
        return k

    def _read_answers(self, wanted: Sequence[tuple[Key, int]]) -> None:
        """Makes the first `end` projected answers of each (key, end) known."""
        assert self.prompt is not None
        assert self.answers is not None
        by_count: defaultdict[int, list[Key]] = defaultdict(list)
        for key, end in dict.fromkeys(wanted):
            if len(self._generated.setdefault(key, [])) < end:
                by_count[end].append(key)
        for n, keys in by_count.items():
            answers = self.answers.generations([prompt for prompt, _ in keys], n, self._sampling)
            for key, texts in zip(keys, answers, strict=True):
                known = self._generated[key]
                fresh = [project(text, key[1]) for text in texts[len(known) : n]]
                self.counts.parse_failures += fresh.count(None)
                known.extend(fresh)

    def _mix_draws(self, key: Key, chosen: np.ndarray, size: int, use: Use) -> np.ndarray:
        """Each draw comes from the uniform distribution with probability `mix`."""
        if self.cfg.mix == 0:
            return chosen
        rng = self._frozen(key) if self._supports[use].redraw == "never" else self._draws[use]
        other = rng.random(chosen.size) < self.cfg.mix
        return np.where(other, rng.integers(size, size=chosen.size), chosen)

    # ---- shared --------------------------------------------------------------------------------------------------

    def _key(self, state: TextState) -> Key:
        if self.prompt is None:
            return state.observation, state.actions
        text = self._rendered.get(state)
        if text is None:
            text = self._rendered[state] = self.prompt.render(state)
        return text, state.actions

    def _frozen(self, key: Key) -> np.random.Generator:
        """The stream of one prompt: whoever asks, and whenever, the first draws are the same."""
        return stream(self.seed, "frozen", key[0], *key[1])

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


def _valid(answers: Sequence[int | None]) -> int:
    return sum(index is not None for index in answers)

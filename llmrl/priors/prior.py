"""The action prior w(a|s), and the supports S(s) that its uses are given.

A source (llmrl/priors/sources.py) gives weights over the admissible actions: `uniform`, `scored` (softmax of the
model's log-probability of every action), `oracle` (an expert's actions, with errors), `learned` (labels alone),
`copied` (votes of similar examples) or `own` (somebody else's class). `scored` and `learned` are fitted to labelled
states where there are any (llmrl/priors/head.py). From them each use draws its own support: k draws with replacement,
whose counts are the weights, or all admissible actions (llmrl/priors/supports.py). The draws of `generated` are the
model's free answers, projected (llmrl/priors/generated.py).
`sampled` is `scored` with k draws; `uniform_k` is `uniform` with k draws.

Mixing, w <- (1-mix) w + mix uniform, is applied to the distribution that is drawn from: a support of k actions stays
one, k=1 remains the prior alone, and no action is for ever out of reach. With mix=auto a run learns which episodes use
the prior at all (llmrl/priors/trust.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from llmrl.answers.answers import Answers
from llmrl.core.candidates import Candidates, Proposal, Use
from llmrl.core.state import TextState
from llmrl.priors.generated import Counted, FreeAnswers
from llmrl.priors.head import Head
from llmrl.priors.sources import Experts, Key, Keys, OwnWeights, make_source
from llmrl.priors.supports import Drawn, Draws, Explanation, PriorCounts, all_actions
from llmrl.priors.trust import MIX, Trust
from llmrl.prompts.examples import Examples
from llmrl.prompts.prompt import Prompt
from llmrl.prompts.thinking import asked_first, sampling_of
from llmrl.schema.priors import SOURCES, PriorConfig, SupportConfig

FIRST = 48  # states that are remembered, to be looked at


class Prior:
    """The ActionPrior of this package: every source, support and control, by configuration."""

    def __init__(
        self,
        cfg: PriorConfig,
        seed: int,
        prompt: Prompt | None = None,
        answers: Answers | None = None,
        own: OwnWeights | None = None,
        head: Head | None = None,
        examples: Examples | None = None,
    ) -> None:
        self.cfg, self.prompt, self.answers, self.head = cfg, prompt, answers, head
        self.counts = PriorCounts()
        self._uses: dict[Use, SupportConfig] = {
            "behaviour": cfg.behaviour, "target": cfg.target, "evaluation": cfg.evaluation,
        }  # fmt: skip
        is_read = not all(support.uniform for support in self._uses.values())
        if SOURCES[cfg.source].asks and is_read and (prompt is None or answers is None):
            raise ValueError(f"prior.source={cfg.source} asks a language model: choose one with lm=tiny or lm=hf")
        ask = asked_first(prompt, cfg, seed, answers) if prompt is not None and answers is not None else None
        self._key = Keys(cfg, prompt, head is not None)
        self._draws = Draws(seed, self._uses)
        mix = MIX if isinstance(cfg.mix, str) else cfg.mix
        self._supports: Drawn | Counted
        if cfg.source == "generated" and prompt is not None and ask is not None:
            free = FreeAnswers(ask, sampling_of(cfg, seed, prompt), cfg.limit, cfg.projection)
            self._supports = Counted(free, self._draws, mix, self.counts)
        else:
            source = make_source(cfg, seed, prompt, ask, own, head, examples, self._key)
            self._supports = Drawn(source, self._draws, mix)
        self.asks = self._supports.asks and is_read  # whether a language model is asked anything
        self.trust = Trust(seed) if cfg.mix == "auto" and self._supports.is_informed and is_read else None
        self.first: dict[TextState, frozenset[str] | None] = {}  # what it was asked about first, and experts' actions
        self._prompts: set[bytes] = set()  # digests of those whose answers a run was given
        self._decisions = 0  # the behaviour's, as far as uniform_after

    @property
    def frozen_in_evaluation(self) -> bool:
        """Whether a state has the same candidates each time it is evaluated."""
        return self.cfg.evaluation.uniform or self._supports.is_fixed("evaluation")

    @property
    def reads_on(self) -> bool:
        """Whether each visit of a target reads other free answers."""
        can = [self._supports.has_formula("target", visits) for visits in (False, True)]
        return can == [False, True] and not self.cfg.target.uniform

    def candidates(
        self,
        states: Sequence[TextState],
        use: Use,
        experts: Experts | None = None,
        informed: Sequence[bool] | None = None,
    ) -> list[Candidates]:
        """`ActionPrior.candidates`. Raises ValueError for an oracle in a world that names no expert's actions."""
        at = self._find_informed(use, len(states), informed)
        keys = self._keys([states[i] for i in at], None if experts is None else [experts[i] for i in at])
        counts = use != "evaluation"  # how well an agent does may be looked at as often as one likes
        if self.asks and counts:
            # Where the behaviour asks, a target's state counts when it is acted in.
            self._count(keys, use != "target" or self._knows_nothing("behaviour"))
        given = self._supports.candidates(keys, use, counts)
        if len(given) == len(states):
            return given
        told = dict(zip(at, given, strict=True))
        return [told.get(i) or all_actions(state.actions) for i, state in enumerate(states)]

    def begin(self, states: Mapping[Use, Sequence[TextState]]) -> None:
        """`ActionPrior.begin`."""
        if self.asks:
            keys = {use: list(map(self._key, some)) for use, some in states.items() if not self._knows_nothing(use)}
            self._supports.begin(keys)

    def proposals(
        self,
        states: Sequence[TextState],
        experts: Experts | None = None,
        use: Use = "evaluation",
        count: bool = False,
        visits: bool = False,
    ) -> list[Proposal] | None:
        """The distributions that a use's candidates are drawn from, where they are the same at every visit; else None.

        None: a support that grows (union), and free answers, of which each visit reads others. With `visits` these
        states are visits, each with answers of its own. Nothing else is drawn, though a model may be asked. With
        `count`, the states are counted as those it was asked about. Raises ValueError as `candidates`.
        """
        if self._uses[use].uniform or self._is_distrusted(use):
            return [Proposal(np.full(len(s.actions), 1 / len(s.actions)), None) for s in states]
        if not self._supports.has_formula(use, visits):
            return None
        keys = self._keys(states, experts)
        if count and self.asks:
            self._count(keys, True)
        return self._supports.proposals(keys, use, count)

    def start_data(self) -> None:
        """The visits of data are counted from the first on, whoever went through them before."""
        self._draws.restart("target")

    def start_evaluation(self, *name: str | int) -> None:
        """Evaluations draw from a stream of their own, named by when they happen, and remember no earlier one."""
        self._draws.restart("evaluation", *name)

    def explain(self, state: TextState, use: Use, expert: frozenset[str] | None = None) -> Explanation:
        """The origin of the candidates last given for this state and use. It draws nothing, and asks nothing new."""
        if self._knows_nothing(use) or self._is_distrusted(use):
            return Explanation(np.full(len(state.actions), 1 / len(state.actions)), [], None)
        (key,) = self._keys([state], [expert])
        return self._supports.explain(key, use)

    def informs(self, use: Use) -> bool:
        """Whether this use has the prior's weights."""
        return not self._knows_nothing(use)

    def says(self, state: TextState) -> dict[str, float] | None:
        """The probability of each action by the answers so far for this state; None where there are none.

        Asks nothing.
        """
        p = self._supports.says(self._key(state))
        return None if p is None else dict(zip(state.actions, p.tolist(), strict=True))

    def count_named(self) -> tuple[int, int] | None:
        """The number of free answers read so far that named an action, and the number read; None: it reads none."""
        return self._supports.count_named()

    def lm_metrics(self) -> dict[str, float | None]:
        return {
            "lm/queries": self.counts.queries,
            "lm/distinct_prompts": len(self._prompts),
            "prior/fallback": self.counts.fallback,
            **self._supports.metrics(),
            **(self.trust.metrics() if self.trust is not None else {}),
        }

    def state_dict(self) -> dict[str, np.ndarray]:
        """The learned state: from the run's episodes, and from labels."""
        learned = {}
        if self.head is not None:
            learned["theta"] = np.zeros(0) if self.head.theta is None else self.head.theta  # empty: not fitted yet
        return learned | ({} if self.trust is None else self.trust.state_dict())

    def load_state_dict(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Loads a learned state.

        It ignores that of a prior with other settings. Raises KeyError where a part is missing.
        """
        if self.head is not None:
            self.head.theta = np.array(arrays["theta"]) if arrays["theta"].size else None
        if self.trust is not None:
            self.trust.load_state_dict(arrays)

    def save(self) -> dict[str, Any]:
        """The state that an exact resume needs; answers and distributions are kept elsewhere."""
        return {
            "prompts": np.frombuffer(b"".join(sorted(self._prompts)), dtype=np.uint8).reshape(-1, 32).copy(),
            "decisions": self._decisions,
            "counts": asdict(self.counts),
            **self._draws.save(),
            **self._supports.save(),
            **({"trust": self.trust.save()} if self.trust is not None else {}),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        self._prompts = {row.tobytes() for row in saved["prompts"]}
        self._decisions = saved["decisions"]
        self.counts.queries, self.counts.fallback = saved["counts"]["queries"], saved["counts"]["fallback"]
        self._draws.restore(saved)
        self._supports.restore(saved)
        if self.trust is not None:
            self.trust.restore(saved["trust"])

    def _count(self, keys: Sequence[Key], as_queries: bool) -> None:
        asked = dict.fromkeys(prompt for key in keys for prompt in (key.asked, key.blank) if prompt is not None)
        self._prompts.update(hashlib.sha256(prompt.encode()).digest() for prompt in asked)
        self.counts.queries += as_queries * len(keys)

    def _knows_nothing(self, use: Use) -> bool:
        after = self.cfg.uniform_after
        forgot = use == "behaviour" and after is not None and self._decisions >= after
        return self._uses[use].uniform or forgot

    def _is_distrusted(self, use: Use) -> bool:
        return use == "evaluation" and self.trust is not None and not self.trust.best

    def _find_informed(self, use: Use, states: int, informed: Sequence[bool] | None) -> list[int]:
        """Which of the next `states` are told what the prior says."""
        if self._knows_nothing(use):
            return []
        left = states
        if use == "behaviour" and self.cfg.uniform_after is not None:
            left = min(states, self.cfg.uniform_after - self._decisions)
            self._decisions += states
        if self.trust is not None and informed is None:
            informed = self.trust.draw_for_targets(left) if use == "target" else [self.trust.best] * left
        return [i for i in range(left) if informed is None or informed[i]]

    def _keys(self, states: Sequence[TextState], experts: Experts | None) -> list[Key]:
        for i, state in enumerate(states if len(self.first) < FIRST else ()):
            self.first.setdefault(state, None if experts is None else experts[i])
            if len(self.first) == FIRST:
                break
        return self._supports.add_experts([self._key(state) for state in states], experts)

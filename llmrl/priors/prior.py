"""The action prior w(a|s) and the supports S(s) drawn from it.

A source gives a distribution over the admissible actions: `uniform`, `scored` (softmax of the model's log-probability
of every action), `generated` (the model's free answers, projected), `oracle` (an expert's actions, with errors),
`learned` (what labels say alone) or `own` (somebody else's class). `scored` and `learned` are fitted to labelled states
where there are any (llmrl/priors/head.py). From it each use draws its own support: k draws with replacement, whose
counts are the weights, or all admissible actions.
`sampled` is `scored` with k draws; `uniform_k` is `uniform` with k draws.

Mixing, w <- (1-mix) w + mix uniform, is applied to the distribution that is drawn from: a support of k actions stays
one, k=1 remains the prior alone, and no action is for ever out of reach. With mix=auto a run learns which episodes use
the prior at all (llmrl/priors/trust.py).

Controls replace the scored distribution before it is mixed. `shuffled` permutes it, by one permutation per rendered
prompt and menu: as peaked as the real prior, and wrong. `marginal` is p(a) without the state: the menu is scored after
the same prompt with an empty observation and no history. The task stays, since it is no part of the state, and so does
the menu, where the template shows it; what is left is how likely the model finds each action anywhere.

`calibrate=pmi` takes that off: log p(a | s) - weight log p(a | without the state), each divided as `normalise` says
(pointwise mutual information; Holtzman et al., arXiv 2104.08315). The question without the state is the marginal's, so
that states with one task and one menu share it. The difference is no log-probability, and the softmax makes one of it.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np

from llmrl.answers.answers import Answers
from llmrl.core.candidates import Candidates, Proposal, Use
from llmrl.core.seeding import stream
from llmrl.core.state import TextState
from llmrl.lm.language_model import Sampling, Score, stopping
from llmrl.priors.generated import FreeAnswers
from llmrl.priors.head import Head
from llmrl.priors.trust import MIX, Trust
from llmrl.prompts.project import Projection
from llmrl.prompts.prompt import Prompt
from llmrl.prompts.thinking import Thinking, asked_first
from llmrl.schema.priors import PriorConfig, SupportConfig

Experts = Sequence[frozenset[str] | None]
FIRST = 48  # states that are remembered, to be looked at


@dataclass
class PriorCounts:
    """Functions of the run's logic alone: the same with a cold and a warm cache."""

    queries: int = 0  # states at which the prior was asked for an action's candidates, evaluations left out
    fallback: int = 0  # supports that are uniform because no answer named one


@dataclass(frozen=True)
class Explanation:
    """What stands behind a state's candidates, for a person to look at."""

    weights: np.ndarray | None  # float64 [actions]: the distribution that is drawn from, mixed; None where answers are
    answers: list[tuple[str, Projection]]  # the free answers that were used, and what each names
    draws: int | None  # how many draws the weights of the candidates count; None where they do not count any
    thoughts: tuple[str, ...] = ()  # what the model thought before it was asked


class OwnWeights(Protocol):
    """Somebody else's source. With `save` and `restore`, as a learner's, it may keep a state."""

    def weights(self, states: Sequence[TextState], use: Use) -> Sequence[Any]:
        """Per state, a number of at least 0 for each of its actions, and not all 0; they need not sum to 1.

        `behaviour` is asked once per decision. `evaluation` is to change nothing.
        """
        ...


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
    ) -> None:
        self.head = head
        self.cfg, self.seed, self.prompt, self.answers, self.own = cfg, seed, prompt, answers, own
        self.counts = PriorCounts()
        self._supports: dict[Use, SupportConfig] = {
            "behaviour": cfg.behaviour, "target": cfg.target, "evaluation": cfg.evaluation,
        }  # fmt: skip
        self._asks = cfg.source in ("scored", "generated") and not all(s.uniform for s in self._supports.values())
        if self._asks and (prompt is None or answers is None):
            raise ValueError(f"prior.source={cfg.source} asks a language model: choose one with lm=tiny or lm=hf")
        self._free: FreeAnswers | None = None
        self._ask: Answers | Thinking | None = answers
        if answers is not None:
            draw_seed = seed if cfg.draw_seed is None else cfg.draw_seed
            stop = stopping(cfg.stop) if cfg.stop is not None else prompt.end if prompt is not None else ""
            if prompt is not None:
                self._ask = asked_first(prompt, cfg, seed, answers)
            sampling = Sampling(cfg.max_tokens, cfg.temperature, cfg.top_p, stop, draw_seed)
            self._free = FreeAnswers(self._ask or answers, sampling, cfg.limit, cfg.projection)
        self._draws = {use: stream(seed, "prior", use) for use in self._supports}
        trusts = cfg.mix == "auto" and cfg.source != "uniform" and not all(s.uniform for s in self._supports.values())
        self.trust = Trust(seed) if trusts else None
        self._mix = MIX if isinstance(cfg.mix, str) else cfg.mix
        self._rendered: dict[TextState, tuple[str, str, str | None]] = {}
        self.first: dict[TextState, frozenset[str] | None] = {}  # what it was asked about first, and experts' actions
        self._prompts: set[bytes] = set()  # digests of those whose answers a run was given
        self._decisions = 0  # the behaviour's, as far as uniform_after
        self._expert_is_known = False
        self._distributions: dict[_Key, np.ndarray] = {}  # uniform, scored, oracle: p [A], mixed
        self._union: dict[tuple[Use, str], np.ndarray] = {}  # counts of all draws so far, by the key's digest
        self._visits: defaultdict[tuple[Use, str], int] = defaultdict(int)  # generated, redrawn at each visit

    @property
    def frozen_in_evaluation(self) -> bool:
        """Whether a state has the same candidates each time it is evaluated."""
        support = self.cfg.evaluation
        takes_all = support.k is None and self.cfg.source != "generated"
        return support.uniform or takes_all or support.redraw == "never"

    def candidates(
        self,
        states: Sequence[TextState],
        use: Use,
        experts: Experts | None = None,
        informed: Sequence[bool] | None = None,
    ) -> list[Candidates]:
        """`ActionPrior.candidates`. Raises ValueError for an oracle in a world that names no expert's actions."""
        at = self._informed(use, len(states), informed)
        keys = self._keys([states[i] for i in at], None if experts is None else [experts[i] for i in at])
        if self._asks and use != "evaluation":  # how well an agent does may be looked at as often as one likes
            self._asked(keys)
            # Where the behaviour asks, a target's state counts when it is acted in.
            if use != "target" or self._knows_nothing("behaviour"):
                self.counts.queries += len(keys)
        if self.cfg.source == "generated":
            given = self._from_answers(keys, use, use != "evaluation")
        else:
            given = self._drawn(keys, use)
        if len(given) == len(states):
            return given
        told = dict(zip(at, given, strict=True))
        return [told.get(i) or _weighted(np.ones(len(state.actions))) for i, state in enumerate(states)]

    def begin(self, states: Sequence[TextState]) -> None:
        """Begins to ask for what the candidates of these states will need, and does not wait. Nothing is drawn."""
        both: tuple[Use, Use] = ("target", "behaviour")
        uses = [use for use in both if not self._knows_nothing(use)]
        if not self._asks or self._ask is None or self.prompt is None or not uses:
            return
        keys = list(dict.fromkeys(self._key(state) for state in states))
        if self.cfg.source == "scored":
            self._ask.begin_scores(*self._questions([key for key in keys if key not in self._distributions]))
        elif self._free is not None:
            for use in uses:
                k, redrawn = self._answers_wanted(use), self._supports[use].redraw != "never"
                starts = [self._visits.get((use, key.digest), 0) * (k + self.cfg.limit) * redrawn for key in keys]
                self._free.begin([key.question for key in keys], starts, k)

    @property
    def reads_on(self) -> bool:
        """Whether each visit of a target reads other free answers."""
        target = self.cfg.target
        return self.cfg.source == "generated" and target.redraw == "visit" and not target.uniform

    def proposals(
        self,
        states: Sequence[TextState],
        experts: Experts | None = None,
        use: Use = "evaluation",
        count: bool = False,
        visits: bool = False,
    ) -> list[Proposal] | None:
        """What a use's candidates are drawn from, wherever that is the same at every visit; else None.

        None: a support that grows (union), and free answers, of which each visit reads others; but with `visits` these
        states are visits, each with answers of its own. Nothing else is drawn, though a model may be asked; with
        `count`, the states are counted as those it was asked about. Raises ValueError as `candidates`.
        """
        support, source = self._supports[use], self.cfg.source
        if support.uniform or (self.trust is not None and use == "evaluation" and not self.trust.best):
            return [Proposal(np.full(len(s.actions), 1 / len(s.actions)), None) for s in states]
        if support.redraw == "union" and (source == "generated" or support.k):
            return None
        if support.redraw == "visit" and source == "generated" and not visits:
            return None
        keys = self._keys(states, experts)
        if count and self._asks:
            self._asked(keys)
            self.counts.queries += len(keys)
        if source == "generated":
            given = self._from_answers(keys, use, count)
        elif support.k is None or support.redraw == "visit":
            self._learn_distributions(keys, use)
            return [Proposal(self._distributions[key], support.k) for key in keys]
        else:
            given = self._drawn(keys, use)
        return [Proposal(_on_all(c, len(key.actions)), None) for c, key in zip(given, keys, strict=True)]

    def start_data(self) -> None:
        """The visits of data are counted from the first on, whoever went through them before."""
        self._draws["target"] = stream(self.seed, "prior", "target")
        for at in [at for at in self._visits if at[0] == "target"]:
            del self._visits[at]

    def start_evaluation(self, *name: str | int) -> None:
        """Evaluations draw from a stream of their own, named by when they happen, and remember no earlier one."""
        self._draws["evaluation"] = stream(self.seed, "prior", "evaluation", *name)
        self._union = {at: counts for at, counts in self._union.items() if at[0] != "evaluation"}
        for at in [at for at in self._visits if at[0] == "evaluation"]:
            del self._visits[at]

    def explain(self, state: TextState, use: Use, expert: frozenset[str] | None = None) -> Explanation:
        """Of the candidates that were last given for this state and use; draws nothing, and asks for nothing new."""
        if self._knows_nothing(use) or (use == "evaluation" and self.trust is not None and not self.trust.best):
            return Explanation(np.full(len(state.actions), 1 / len(state.actions)), [], None)
        (key,), support = self._keys([state], [expert]), self._supports[use]
        union = self._union.get((use, key.digest))
        if self.cfg.source != "generated":
            draws = support.k if union is None else int(union.sum())
            return Explanation(self._distributions[key], [], draws, self._thoughts(key, 1))
        assert self._free is not None
        k = self._answers_wanted(use)
        start = max(0, self._visits.get((use, key.digest), 0) - 1) * (k + self.cfg.limit)
        answers = self._free.used(key.question, start, k)
        thoughts = self._thoughts(key, start + len(answers))[-len(answers) :]
        valid = sum(found.action is not None for _, found in answers)
        if not valid or support.k is None:
            return Explanation(None, answers, None, thoughts)
        return Explanation(None, answers, valid if union is None else int(union.sum()), thoughts)

    @property
    def asks(self) -> bool:
        """Whether a language model is asked anything."""
        return self._asks

    def informs(self, use: Use) -> bool:
        """Whether this use is told what the prior says."""
        return not self._knows_nothing(use)

    def says(self, state: TextState) -> dict[str, float] | None:
        """How likely each action is by what was heard of this state so far; None where nothing was. Asks nothing."""
        key = self._key(state)
        if self.cfg.source == "generated":
            found = self._free.counts(key.question) if self._free is not None else None
            p = None if found is None else _on_all(_weighted(found if found.any() else found + 1.0), found.size)
        else:
            p = self._distributions.get(key)
        return None if p is None else dict(zip(state.actions, p.tolist(), strict=True))

    def named(self) -> tuple[int, int] | None:
        """Of the free answers read so far, how many named an action, and how many there are; None: it reads none."""
        return self._free.named_so_far() if self._free is not None and self.cfg.source == "generated" else None

    def _thoughts(self, key: _Key, n: int) -> tuple[str, ...]:
        """Those before the first n answers, one that they share or n of them; none where the model does not think."""
        if not isinstance(self._ask, Thinking) or self.cfg.source not in ("scored", "generated"):
            return ()
        (thoughts,) = self._ask.thoughts([key.asked], n)
        return tuple(thoughts)

    def lm_metrics(self) -> dict[str, float | None]:
        metrics: dict[str, float | None] = {
            "lm/queries": self.counts.queries,
            "lm/distinct_prompts": len(self._prompts),
            "lm/parse_failures": self._free.parse_failures if self._free is not None else 0,
            "prior/fallback": self.counts.fallback,
        }
        if self._free is not None and self.cfg.source == "generated":
            metrics["lm/ambiguous"] = self._free.ambiguous
        return metrics | (self.trust.metrics() if self.trust is not None else {})

    def state_dict(self) -> dict[str, np.ndarray]:
        """What was learned: from the run's episodes, and from labels."""
        learned = {}
        if self.head is not None:
            learned["theta"] = np.zeros(0) if self.head.theta is None else self.head.theta  # empty: not fitted yet
        return learned | ({} if self.trust is None else self.trust.state_dict())

    def load_state_dict(self, arrays: Mapping[str, np.ndarray]) -> None:
        """What a prior with other settings learned is left; KeyError where something is missing."""
        if self.head is not None:
            self.head.theta = np.array(arrays["theta"]) if arrays["theta"].size else None
        if self.trust is not None:
            self.trust.load_state_dict(arrays)

    def save(self) -> dict[str, Any]:
        """What a run needs to go on as if it had not stopped; answers and distributions are kept elsewhere."""
        lasting = [use for use in self._supports if use != "evaluation"]  # an evaluation starts from nothing
        return {
            "draws": {use: self._draws[use].bit_generator.state for use in lasting},
            "prompts": np.frombuffer(b"".join(sorted(self._prompts)), dtype=np.uint8).reshape(-1, 32).copy(),
            "decisions": self._decisions,
            "expert_is_known": self._expert_is_known,
            "counts": asdict(self.counts),
            "union": [[use, key, counts.tolist()] for (use, key), counts in self._union.items() if use in lasting],
            "visits": [[use, key, visits] for (use, key), visits in self._visits.items() if use in lasting],
            "answers": None if self._free is None else self._free.save(),
            **({"own": self.own.save()} if self.own is not None and hasattr(self.own, "save") else {}),
            **({"trust": self.trust.save()} if self.trust is not None else {}),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        for use, state in saved["draws"].items():
            self._draws[use].bit_generator.state = state
        self._prompts = {row.tobytes() for row in saved["prompts"]}
        self._decisions, self._expert_is_known = saved["decisions"], saved["expert_is_known"]
        self.counts = PriorCounts(**saved["counts"])
        self._union = {(use, key): np.array(counts) for use, key, counts in saved["union"]}
        self._visits.update({(use, key): visits for use, key, visits in saved["visits"]})
        if self._free is not None:
            self._free.restore(saved["answers"])
        if self.own is not None and hasattr(self.own, "restore"):
            self.own.restore(saved["own"])
        if self.trust is not None:
            self.trust.restore(saved["trust"])

    def _asked(self, keys: Sequence[_Key]) -> None:
        asked = dict.fromkeys(prompt for key in keys for prompt in (key.asked, key.blank) if prompt is not None)
        self._prompts.update(hashlib.sha256(prompt.encode()).digest() for prompt in asked)

    # ---- who knows the prior ---------------------------------------------------------------------------------------

    def _knows_nothing(self, use: Use) -> bool:
        after = self.cfg.uniform_after
        forgot = use == "behaviour" and after is not None and self._decisions >= after
        return self._supports[use].uniform or forgot

    def _informed(self, use: Use, states: int, informed: Sequence[bool] | None) -> list[int]:
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

    # ---- distributions: uniform, scored, oracle --------------------------------------------------------------------

    def _drawn(self, keys: Sequence[_Key], use: Use) -> list[Candidates]:
        self._learn_distributions(keys, use)
        support, rows = self._supports[use], [self._distributions[key] for key in keys]
        if support.k is None:
            return [_weighted(p) for p in rows]
        if not keys:
            return []
        if support.redraw == "never":
            u_SK = np.stack([self._frozen(key).random(support.k) for key in keys])
        else:
            u_SK = self._draws[use].random((len(keys), support.k))  # the numbers that states would draw in turn
        drawn = _draws(rows, u_SK)
        if support.redraw != "union":
            return [_counted(indices) for indices in drawn.tolist()]
        counts = [np.bincount(indices, minlength=p.size) for indices, p in zip(drawn, rows, strict=True)]
        return [_weighted(self._so_far(key, c, use)) for key, c in zip(keys, counts, strict=True)]

    def _learn_distributions(self, keys: Sequence[_Key], use: Use) -> None:
        if self.own is not None:  # it may have changed its mind
            rows = self.own.weights([key.state for key in keys if key.state is not None], use) if keys else []
            self._distributions |= {k: self._mixed(_checked(w, k)) for k, w in zip(keys, rows, strict=True)}
            return
        new = [key for key in dict.fromkeys(keys) if key not in self._distributions]
        if not new:
            return
        if self.cfg.source == "uniform":
            self._distributions |= {key: _uniform(key) for key in new}
            return
        rows = self._fitted(new) if self.head is not None else self._unfitted(new)
        self._distributions |= {key: self._mixed(p) for key, p in zip(new, rows, strict=True)}

    def _fitted(self, keys: Sequence[_Key]) -> list[np.ndarray]:
        assert self.head is not None
        if self.head.theta is None:
            labels = self.head.labels()
            self.head.fit(labels, self._unfitted([self._key(label.state) for label in labels]))
        return self.head.weigh([key.state for key in keys if key.state is not None], self._unfitted(keys))

    def _unfitted(self, keys: Sequence[_Key]) -> list[np.ndarray]:
        if self.cfg.source == "learned":
            return [_uniform(key) for key in keys]
        return [self._oracle(key) for key in keys] if self.cfg.source == "oracle" else self._scored(keys)

    def _scored(self, keys: Sequence[_Key]) -> list[np.ndarray]:
        assert self._ask is not None
        found = self._ask.scores(*self._questions(keys))
        blank = found[len(keys) :]  # of each key, where something is to be taken off
        by_size: defaultdict[int, list[int]] = defaultdict(list)
        for i, key in enumerate(keys):
            by_size[len(key.actions)].append(i)
        rows = [np.empty(0)] * len(keys)
        for some in by_size.values():  # as many states at once as have menus of one size
            menus = [keys[i].actions for i in some]
            logits_SA = self._normalised([found[i] for i in some], menus)
            if blank:
                logits_SA -= self.cfg.calibrate_weight * self._normalised([blank[i] for i in some], menus)
            logits_SA /= self.cfg.temperature
            p_SA = np.exp(logits_SA - logits_SA.max(-1, keepdims=True))
            p_SA /= p_SA.sum(-1, keepdims=True)
            for i, p in zip(some, p_SA, strict=True):
                rows[i] = p
        if self.cfg.control == "shuffled":
            return [
                p[stream(self.seed, "shuffled", key.text, *key.actions).permutation(p.size)]
                for key, p in zip(keys, rows, strict=True)
            ]
        return rows

    def _questions(self, keys: Sequence[_Key]) -> tuple[list[str], list[list[str]]]:
        """What the model is to score: each state's menu, and then, where that is taken off, each without the state."""
        assert self.prompt is not None
        menus = [self.prompt.continuations(key.actions) for key in keys]
        blank = [key.blank for key in keys if key.blank is not None]
        return [*(key.asked for key in keys), *blank], menus * 2 if blank else menus

    def _normalised(self, found: Sequence[Sequence[Score]], menus: Sequence[tuple[str, ...]]) -> np.ndarray:
        """float64 [states, actions]: log-probabilities, divided."""
        logits_SA = np.array([[score.logprob for score in scores] for scores in found], dtype=np.float64)
        if self.cfg.normalise == "token":  # TWOSOME's token normalisation (arXiv 2401.14151)
            logits_SA /= np.array([[score.tokens for score in scores] for scores in found])
        elif self.cfg.normalise == "word":  # ... and its word normalisation
            logits_SA /= np.array([[len(action.split()) for action in menu] for menu in menus])
        return logits_SA

    def _oracle(self, key: _Key) -> np.ndarray:
        is_expert = np.array([action in key.experts for action in key.actions], dtype=np.float64)
        uniform = _uniform(key)
        if not is_expert.any():
            return uniform
        return (1 - self.cfg.error) * is_expert / is_expert.sum() + self.cfg.error * uniform

    # ---- generated ---------------------------------------------------------------------------------------------

    def _from_answers(self, keys: Sequence[_Key], use: Use, count: bool = True) -> list[Candidates]:
        """The first k answers that project, in index order, among the first k+limit; none: uniform, and counted.

        A support that is redrawn reads the next k+limit answers at each visit.
        """
        if not keys:
            return []
        assert self._free is not None
        support = self._supports[use]
        k = self._answers_wanted(use)
        starts = [0] * len(keys)
        if support.redraw != "never":
            for i, key in enumerate(keys):
                at = use, key.digest
                starts[i] = self._visits[at] * (k + self.cfg.limit)
                self._visits[at] += 1
        out = []
        for key, chosen in zip(keys, self._free.named([key.question for key in keys], starts, k, count), strict=True):
            size = len(key.actions)
            if not chosen:
                self.counts.fallback += count
                out.append(_weighted(np.ones(size)))
            elif support.k is None:  # all admissible, weighted by the counts
                out.append(_weighted(self._mixed(np.bincount(chosen, minlength=size) / len(chosen)), keep_zeros=True))
            elif support.redraw == "union":
                counts = np.bincount(self._mix_draws(key, chosen, use), minlength=size)
                out.append(_weighted(self._so_far(key, counts, use)))
            else:
                out.append(_counted(self._mix_draws(key, chosen, use)))
        return out

    def _answers_wanted(self, use: Use) -> int:
        k = self._supports[use].k or max(s.k or 0 for s in self._supports.values() if not s.uniform)
        if not k:
            raise ValueError("prior.source=generated counts k answers: set prior.behaviour.k (5 in the paper)")
        return k

    def _mix_draws(self, key: _Key, chosen: list[int], use: Use) -> list[int]:
        """Each draw comes from the uniform distribution with probability `mix`."""
        if self._mix == 0:
            return chosen
        frozen = self._supports[use].redraw == "never"
        rng = self._frozen(key) if frozen else self._draws[use]
        mixed = [u < self._mix for u in rng.random(len(chosen)).tolist()]
        if frozen and not any(mixed):  # nobody reads on in this stream
            return chosen
        others = rng.integers(len(key.actions), size=len(chosen)).tolist()
        return [other if takes else index for takes, other, index in zip(mixed, others, chosen, strict=True)]

    # ---- shared --------------------------------------------------------------------------------------------------

    def _keys(self, states: Sequence[TextState], experts: Experts | None) -> list[_Key]:
        for i, state in enumerate(states if len(self.first) < FIRST else ()):
            self.first.setdefault(state, None if experts is None else experts[i])
            if len(self.first) == FIRST:
                break
        if self.cfg.source != "oracle":
            return [self._key(s) for s in states]
        known = [None] * len(states) if experts is None else experts
        self._expert_is_known |= any(e is not None for e in known)
        if states and not self._expert_is_known:
            raise ValueError(
                f"prior={self.cfg.name} needs the actions of an expert, and this world names none (expert_actions in "
                "its info): choose another prior, or a world that knows the shortest ways to success"
            )
        return [
            self._key(s)._replace(experts=frozenset(e or ()).intersection(s.actions))
            for s, e in zip(states, known, strict=True)
        ]

    def _key(self, state: TextState) -> _Key:
        if self.own is not None or self.cfg.source == "learned":
            return _Key(state.key, state.actions, state=state)
        if self.prompt is None:
            return _Key(state.observation, state.actions)
        texts = self._rendered.get(state)
        if texts is None:
            text = self.prompt.render(state)
            is_marginal, takes_off = self.cfg.control == "marginal", self.cfg.calibrate == "pmi"
            blank = self.prompt.render(TextState(state.task, "", state.actions)) if is_marginal or takes_off else None
            asked = blank if is_marginal and blank is not None else text
            texts = self._rendered[state] = text, asked, blank if takes_off else None
        fitted = state if self.head is not None else None
        return _Key(texts[0], state.actions, texts[1], state=fitted, blank=texts[2])

    def _frozen(self, key: _Key) -> np.random.Generator:
        """The stream of one prompt: whoever asks, and whenever, the first draws are the same."""
        return stream(self.seed, "frozen", key.text, *key.actions, *sorted(key.experts))

    def _mixed(self, p: np.ndarray) -> np.ndarray:
        return (1 - self._mix) * p + self._mix / p.size

    def _so_far(self, key: _Key, counts: np.ndarray, use: Use) -> np.ndarray:
        if self._supports[use].redraw != "union":
            return counts
        at = use, key.digest
        self._union[at] = counts + self._union.get(at, 0)
        return self._union[at]


class _Key(NamedTuple):
    """What a state's distribution and its frozen draws depend on."""

    text: str  # the rendered prompt; the observation where nothing is rendered
    actions: tuple[str, ...]
    asked: str = ""  # the prompt that the model is asked: `text`, unless it is the marginal's
    experts: frozenset[str] = frozenset()  # oracle: states that render alike may differ in them
    state: TextState | None = None  # own, and what is fitted to labels: sees all of it
    blank: str | None = None  # the prompt without the state, of which the scores are taken off; None: nothing is

    @property
    def question(self) -> tuple[str, tuple[str, ...]]:
        return self.asked, self.actions

    @property
    def digest(self) -> str:
        """What stands for the key where it is remembered for the length of a run, and in its checkpoints."""
        parts = [self.text, self.actions, self.asked, sorted(self.experts)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _checked(weights: Any, key: _Key) -> np.ndarray:
    """The weights that somebody else's source gives to a menu, summing to 1."""
    w: np.ndarray = np.asarray(weights, dtype=np.float64)
    if w.shape != (len(key.actions),) or not np.isfinite(w).all() or (w < 0).any() or not w.any():
        raise ValueError(
            f"prior.source=own gave {w.tolist()} for a menu of {len(key.actions)}: a weight of at least 0 is needed "
            "for each action, and one above 0"
        )
    return w / w.sum()


def _uniform(key: _Key) -> np.ndarray:
    return np.full(len(key.actions), 1 / len(key.actions))


def _draws(rows: Sequence[np.ndarray], u_SK: np.ndarray) -> np.ndarray:
    """int64 [S, K]: what the numbers u in [0, 1) draw from each state's distribution."""
    sizes = np.array([p.size for p in rows])
    is_real_SA = np.arange(sizes.max()) < sizes[:, None]
    p_SA = np.zeros(is_real_SA.shape)
    p_SA[is_real_SA] = np.concatenate(rows)
    cumulative_SA = p_SA.cumsum(-1)
    below_SKA = cumulative_SA[:, None, :] <= (u_SK * cumulative_SA[:, -1:])[:, :, None]
    drawn: np.ndarray = np.minimum(below_SKA.sum(-1), sizes[:, None] - 1)
    return drawn


def _counted(draws: Sequence[int]) -> Candidates:
    """Actions that were drawn, each weighted by how often."""
    counts: dict[int, int] = {}
    for index in draws:
        counts[index] = counts.get(index, 0) + 1
    actions, log_share = sorted(counts), _log_shares(len(draws))
    return Candidates(np.array(actions, dtype=np.int64), np.array([log_share[counts[i]] for i in actions]))


@lru_cache
def _log_shares(n: int) -> list[float]:
    """log(i/n), i = 0 (which no draw has) to n."""
    shares: list[float] = np.log(np.maximum(1, np.arange(n + 1)) / n).tolist()
    return shares


def _weighted(weights: np.ndarray, keep_zeros: bool = False) -> Candidates:
    actions = np.arange(weights.size) if keep_zeros else np.flatnonzero(weights)
    with np.errstate(divide="ignore"):
        return Candidates(actions, np.log(weights[actions] / weights.sum()))


def _on_all(c: Candidates, size: int) -> np.ndarray:
    weights = np.zeros(size)
    weights[c.actions] = np.exp(c.log_weights)
    return weights

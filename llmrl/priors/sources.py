"""Sources of w(a|s): weights over the admissible actions, before they are mixed and drawn from.

A new source is a subclass of `Source` (CONTRIBUTING.md, "Adding", has the other places). Free answers are no weights,
but draws that the model made itself: llmrl/priors/generated.py counts them.

Controls replace the scored weights. `shuffled` permutes them, by one permutation per rendered prompt and menu: as
peaked as the real prior, and wrong. `marginal` is p(a) without the state: the menu is scored after the same prompt with
an empty observation and no history. The task stays, since it is no part of the state, and so does the menu, where the
template shows it; what is left is how likely the model finds each action anywhere.

`calibrate=pmi` takes that off: log p(a | s) - weight log p(a | without the state), each divided as `normalise` says
(pointwise mutual information; Holtzman et al., arXiv 2104.08315). The question without the state is the marginal's, so
that states with one task and one menu share it. The difference is no log-probability, and the softmax makes one of it.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from llmrl.core.candidates import Use
from llmrl.core.seeding import stream
from llmrl.core.state import TextState
from llmrl.core.targets import Keeping
from llmrl.lm.language_model import Score
from llmrl.priors.head import Head
from llmrl.prompts.examples import Examples
from llmrl.prompts.prompt import Prompt
from llmrl.prompts.thinking import Asked, thoughts_before
from llmrl.schema.priors import SOURCES, PriorConfig

Experts = Sequence[frozenset[str] | None]


class Key(NamedTuple):
    """The values that a state's weights and its frozen draws depend on."""

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
        """A hash that stands for the key during a run, and in its checkpoints."""
        parts = [self.text, self.actions, self.asked, sorted(self.experts)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Keys:
    """The key of each state; one that is rendered is rendered once."""

    def __init__(self, cfg: PriorConfig, prompt: Prompt | None, is_fitted: bool) -> None:
        self._prompt, self._is_fitted = prompt, is_fitted
        self._by_state = SOURCES[cfg.source].reads_state
        self._is_marginal, self._takes_off = cfg.control == "marginal", cfg.calibrate == "pmi"
        self._rendered: dict[TextState, Key] = {}

    def __call__(self, state: TextState) -> Key:
        if self._by_state:
            return Key(state.key, state.actions, state=state)
        if self._prompt is None:
            return Key(state.observation, state.actions)
        if (key := self._rendered.get(state)) is None:
            key = self._rendered[state] = self._render(self._prompt, state)
        return key

    def _render(self, prompt: Prompt, state: TextState) -> Key:
        text, blank = prompt.render(state), None
        if self._is_marginal or self._takes_off:
            blank = prompt.render(TextState(state.task, "", state.actions))
        asked = blank if self._is_marginal and blank is not None else text
        fitted = state if self._is_fitted else None
        return Key(text, state.actions, asked, state=fitted, blank=blank if self._takes_off else None)


class Source(Protocol):
    """A source of weights. A subclass has its `weights`, and overrides other methods where it needs to."""

    asks: bool = False  # whether a language model is asked
    is_informed: bool = True  # False: it knows no better than the uniform distribution
    lasts: bool = True  # whether what it said of a key stands

    def weights(self, keys: Sequence[Key], use: Use) -> list[np.ndarray]:
        """float64 [actions] of each key, at least 0, summing to 1."""

    def add_experts(self, keys: Sequence[Key], experts: Experts | None) -> list[Key]:
        """The keys, with what an expert would do where the source looks at that."""
        return list(keys)

    def begin(self, keys: Sequence[Key]) -> None:
        """Begins to ask for what their weights will need, and does not wait."""
        return

    def thoughts(self, key: Key) -> tuple[str, ...]:
        """The model's thoughts before it was asked."""
        return ()

    def save(self) -> dict[str, Any]:
        """The state that an exact resume needs."""
        return {}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """`saved`: of the whole prior."""
        return


class Uniform(Source):
    """Equal weights; `learned` fits labels to them."""

    is_informed = False

    def weights(self, keys: Sequence[Key], use: Use) -> list[np.ndarray]:
        return [_uniform(key) for key in keys]


class Oracle(Source):
    """An expert's actions, with errors; uniform where no action is an expert's."""

    def __init__(self, cfg: PriorConfig) -> None:
        self._name, self._error = cfg.name, cfg.error
        self._expert_is_known = False

    def add_experts(self, keys: Sequence[Key], experts: Experts | None) -> list[Key]:
        """Raises ValueError in a world that names no expert's actions."""
        known = [None] * len(keys) if experts is None else experts
        self._expert_is_known |= any(e is not None for e in known)
        if keys and not self._expert_is_known:
            raise ValueError(
                f"prior={self._name} needs the actions of an expert, and this world names none (expert_actions in "
                "its info): choose another prior, or a world that knows the shortest ways to success"
            )
        return [
            key._replace(experts=frozenset(e or ()).intersection(key.actions))
            for key, e in zip(keys, known, strict=True)
        ]

    def weights(self, keys: Sequence[Key], use: Use) -> list[np.ndarray]:
        return [self._weigh(key) for key in keys]

    def _weigh(self, key: Key) -> np.ndarray:
        is_expert = np.array([action in key.experts for action in key.actions], dtype=np.float64)
        uniform = _uniform(key)
        if not is_expert.any():
            return uniform
        return (1 - self._error) * is_expert / is_expert.sum() + self._error * uniform

    def save(self) -> dict[str, Any]:
        return {"expert_is_known": self._expert_is_known}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self._expert_is_known = saved["expert_is_known"]


class Scored(Source):
    """Softmax of the model's log-probability of every action."""

    asks = True

    def __init__(self, cfg: PriorConfig, prompt: Prompt, ask: Asked) -> None:
        self._cfg, self._prompt, self._ask = cfg, prompt, ask

    def weights(self, keys: Sequence[Key], use: Use) -> list[np.ndarray]:
        found = self._ask.scores(*self._questions(keys))
        blank = found[len(keys) :]  # of each key, where something is to be taken off
        by_size: defaultdict[int, list[int]] = defaultdict(list)
        for i, key in enumerate(keys):
            by_size[len(key.actions)].append(i)
        rows = [np.empty(0)] * len(keys)
        for some in by_size.values():  # as many states at once as have menus of one size
            menus = [keys[i].actions for i in some]
            logits_SA = self._normalise([found[i] for i in some], menus)
            if blank:
                logits_SA -= self._cfg.calibrate_weight * self._normalise([blank[i] for i in some], menus)
            logits_SA /= self._cfg.temperature
            p_SA = np.exp(logits_SA - logits_SA.max(-1, keepdims=True))
            p_SA /= p_SA.sum(-1, keepdims=True)
            for i, p in zip(some, p_SA, strict=True):
                rows[i] = p
        return rows

    def begin(self, keys: Sequence[Key]) -> None:
        self._ask.begin_scores(*self._questions(keys))

    def thoughts(self, key: Key) -> tuple[str, ...]:
        return thoughts_before(self._ask, key.asked, 1)

    def _questions(self, keys: Sequence[Key]) -> tuple[list[str], list[list[str]]]:
        """The questions for the model: each state's menu, and then, for pmi, each menu without the state."""
        menus = [self._prompt.continuations(key.actions) for key in keys]
        blank = [key.blank for key in keys if key.blank is not None]
        return [*(key.asked for key in keys), *blank], menus * 2 if blank else menus

    def _normalise(self, found: Sequence[Sequence[Score]], menus: Sequence[tuple[str, ...]]) -> np.ndarray:
        """float64 [states, actions]: log-probabilities, divided."""
        logits_SA = np.array([[score.logprob for score in scores] for scores in found], dtype=np.float64)
        if self._cfg.normalise == "token":  # TWOSOME's token normalisation (arXiv 2401.14151)
            logits_SA /= np.array([[score.tokens for score in scores] for scores in found])
        elif self._cfg.normalise == "word":  # ... and its word normalisation
            logits_SA /= np.array([[len(action.split()) for action in menu] for menu in menus])
        return logits_SA


class Shuffled(Scored):
    def __init__(self, cfg: PriorConfig, prompt: Prompt, ask: Asked, seed: int) -> None:
        super().__init__(cfg, prompt, ask)
        self._seed = seed

    def weights(self, keys: Sequence[Key], use: Use) -> list[np.ndarray]:
        return [
            p[stream(self._seed, "shuffled", key.text, *key.actions).permutation(p.size)]
            for key, p in zip(keys, super().weights(keys, use), strict=True)
        ]


class Fitted(Source):
    """Another source's weights, fitted to labelled states when they are first asked for."""

    def __init__(self, source: Source, head: Head, key: Callable[[TextState], Key]) -> None:
        self._source, self._head, self._key = source, head, key
        self.asks = source.asks

    def weights(self, keys: Sequence[Key], use: Use) -> list[np.ndarray]:
        if self._head.theta is None:
            labels = self._head.labels()
            self._head.fit(labels, self._source.weights([self._key(label.state) for label in labels], use))
        states = [key.state for key in keys if key.state is not None]
        return self._head.weigh(states, self._source.weights(keys, use))

    def begin(self, keys: Sequence[Key]) -> None:
        self._source.begin(keys)

    def thoughts(self, key: Key) -> tuple[str, ...]:
        return self._source.thoughts(key)


class Copied(Source):
    """Votes of the examples that are most like the state, each for its action; uniform where no vote is in the menu."""

    def __init__(self, examples: Examples) -> None:
        self._examples = examples

    def weights(self, keys: Sequence[Key], use: Use) -> list[np.ndarray]:
        return [self._weigh(key, key.state) for key in keys if key.state is not None]

    def _weigh(self, key: Key, state: TextState) -> np.ndarray:
        votes = [step.action for step in self._examples.of(state)]
        count_A = np.array([votes.count(action) for action in key.actions], dtype=np.float64)
        return count_A / count_A.sum() if count_A.any() else _uniform(key)


class OwnWeights(Protocol):
    """Somebody else's source. With `save` and `restore`, as a learner's, it may keep a state."""

    def weights(self, states: Sequence[TextState], use: Use) -> Sequence[Any]:
        """Per state, a number of at least 0 for each of its actions, and not all 0; they need not sum to 1.

        `behaviour` is asked once per decision. `evaluation` is to change nothing.
        """
        ...


class Own(Source):
    lasts = False  # it may have changed its mind

    def __init__(self, own: OwnWeights) -> None:
        self._own = own

    def weights(self, keys: Sequence[Key], use: Use) -> list[np.ndarray]:
        rows = self._own.weights([key.state for key in keys if key.state is not None], use)
        return [_check_weights(w, key) for w, key in zip(rows, keys, strict=True)]

    def save(self) -> dict[str, Any]:
        return {"own": self._own.save()} if isinstance(self._own, Keeping) else {}

    def restore(self, saved: Mapping[str, Any]) -> None:
        if isinstance(self._own, Keeping):
            self._own.restore(saved["own"])


def make_source(
    cfg: PriorConfig,
    seed: int,
    prompt: Prompt | None,
    ask: Asked | None,
    own: OwnWeights | None,
    head: Head | None,
    examples: Examples | None,
    key: Callable[[TextState], Key],
) -> Source:
    """The source that a config names. Without a model to ask it is uniform: then no use is informed."""
    source: Source = Uniform()
    if own is not None:
        source = Own(own)
    elif examples is not None:
        source = Copied(examples)
    elif cfg.source == "oracle":
        source = Oracle(cfg)
    elif cfg.source == "scored" and prompt is not None and ask is not None:
        is_shuffled = cfg.control == "shuffled"
        source = Shuffled(cfg, prompt, ask, seed) if is_shuffled else Scored(cfg, prompt, ask)
    return source if head is None else Fitted(source, head, key)


def _uniform(key: Key) -> np.ndarray:
    return np.full(len(key.actions), 1 / len(key.actions))


def _check_weights(weights: Any, key: Key) -> np.ndarray:
    """The weights that somebody else's source gives to a menu, summing to 1."""
    w: np.ndarray = np.asarray(weights, dtype=np.float64)
    if w.shape != (len(key.actions),) or not np.isfinite(w).all() or (w < 0).any() or not w.any():
        raise ValueError(
            f"prior.source=own gave {w.tolist()} for a menu of {len(key.actions)}: a weight of at least 0 is needed "
            "for each action, and one above 0"
        )
    return w / w.sum()

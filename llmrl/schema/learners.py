"""The settings of learners, and the combinations that each refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import ClassVar, Literal

from llmrl.schema.fields import Schema, setting

SMALLEST_ALPHA = 1e-6  # Q/alpha is a float32
UNITS = ("decisions", "primitive_steps")
BACKUPS = ("max", "soft", "expected", "sampled")
LOSSES = ("huber", "mse")
REDUCTIONS = ("mean", "sum")


@dataclass
class LearnerConfig(Schema):
    """Any learner of llmrl's own."""

    kind: str = "???"
    name: str = "???"
    priors: list[str] = setting([], free=True)  # the priors it may be given

    learns_from_data = False  # `data=FILE`, in place of acting
    starts_from: ClassVar[Literal["policy", "q"] | None] = None  # what the file `learner.weights` holds
    reads_vectors = True  # of an encoder; else it reads texts itself, or nothing

    def uses_of_all_actions(self) -> tuple[str, ...]:
        """The uses of the prior in which every action has to have a weight when it learns from data."""
        return ()


@dataclass
class NoLearnerConfig(LearnerConfig):
    """An agent that does not learn: prior_only, random."""

    reads_vectors = False


@dataclass
class DQNConfig(LearnerConfig):
    """One family: DQN, DQN-Prior and everything between (see llmrl/learners/dqn.py)."""

    # behaviour: with probability epsilon a draw from w (uniform, where there is no prior), else from w exp(Q/alpha)
    alpha: float = setting(0.02, low=0)  # temperature of the posterior; 0: greedy in Q
    alpha_eval: float | None = setting(None, low=0)  # null: alpha
    epsilon: float = setting(0.0, low=0, high=1)  # the chance of a draw from w
    epsilon_final: float | None = setting(None, low=0, high=1)  # null: constant
    epsilon_decay: int = setting(0, low=0)  # decisions from epsilon to epsilon_final, linearly
    # target: y = R_n + gamma^n B Q_target
    gamma: float = setting(0.99, low=0, high=1)  # the discount
    discount_by: str = setting("decisions", choices=UNITS)  # decisions | primitive_steps (semi-MDP)
    backup: str = setting("max", choices=BACKUPS)  # max | soft | expected | sampled
    double_q: bool = True  # only the max backup has two Qs
    n_step: int = setting(5, low=1)  # rewards that a target adds up before it looks at Q
    # the network and its optimiser
    hidden: list[int] = setting([128, 128], low=1)  # units of each hidden layer
    # added to Q where it acts and in targets: optimism / (visits of (s, a) + 1)^2
    optimism: float = setting(0.0, low=-inf)
    lr: float = setting(1e-3, low=0, above=True)  # learning rate
    weight_decay: float = setting(0.0, low=0)  # weight decay of AdamW
    loss: str = setting("huber", choices=LOSSES)  # huber | mse
    reduction: str = setting("mean", choices=REDUCTIONS)  # mean | sum over the batch
    grad_clip: float = setting(10.0, low=0, above=True)  # largest norm of a gradient
    # soft update at every gradient step; 1 with target_every: a hard copy
    target_rate: float = setting(0.01, low=0, above=True, high=1)
    target_every: int = setting(1, low=1)  # gradient steps between updates of the target
    # schedule, counted, never timed
    buffer: int = setting(50_000, low=1)  # transitions that replay holds
    batch: int = setting(64, low=1)  # transitions of a gradient step
    update_unit: str = setting("decisions", choices=("decisions", "episodes"))  # decisions | episodes
    update_every: int = setting(4, low=1)  # units between rounds of learning
    updates: int = setting(1, low=0)  # gradient steps in a round
    learning_starts: int = setting(200, low=0)  # units before the first round
    # posterior: w exp(Q/alpha) | product: its mode (SayCan)
    combine: str = setting("posterior", choices=("posterior", "product"), since=True)
    # what a no-prior learner may have instead of a prior
    # added to the reward: count_bonus / sqrt(visits of (s, a) by now)
    count_bonus: float = setting(0.0, low=0, since=True)
    priority: float = setting(0.0, low=0, high=1, since=True)  # exponent of prioritised replay; 0: uniform
    # prioritised replay: exponent of the importance weights
    importance: float = setting(0.4, low=0, high=1, since=True)
    prefill: int = setting(0, low=0, since=True)  # number of first decisions drawn from w alone
    # a file that Q starts from; its contents name the run, not its path
    weights: str | None = setting(None, since=True)

    starts_from = "q"

    def problems(self, has_data: bool) -> Iterator[str]:
        yield from _too_large_a_batch(self)
        yield from _too_small_an_alpha(self)
        if (self.epsilon_final is None) != (self.epsilon_decay == 0):
            yield (
                "learner.epsilon_final and learner.epsilon_decay go together: where epsilon ends, and after how many "
                "decisions; leave both out for a constant epsilon"
            )
        if self.combine == "product" and 0 in (self.alpha, self.alpha_eval):
            yield ("learner.combine=product weighs Q/alpha against log w: learner.alpha and alpha_eval must be above 0")


@dataclass
class DRRNConfig(LearnerConfig):
    """Deep reinforcement relevance network (see llmrl/learners/drrn.py): reads text itself, and needs no encoder."""

    history_turns: int = setting(0, low=0)  # earlier observations and actions that its state text shows
    alpha: float = setting(0.1, low=0)  # temperature of the softmax over Q
    alpha_eval: float | None = setting(None, low=0)  # null: alpha
    gamma: float = setting(0.99, low=0, high=1)  # the discount
    discount_by: str = setting("decisions", choices=UNITS)  # decisions | primitive_steps
    n_step: int = setting(1, low=1)  # rewards that a target adds up before it looks at Q
    embedding: int = setting(64, low=1)  # size of a token's embedding
    hidden: int = setting(64, low=1)  # units of each layer
    lr: float = setting(1e-3, low=0, above=True)  # learning rate
    grad_clip: float = setting(5.0, low=0, above=True)  # largest norm of a gradient
    # share of a batch from transitions with a positive reward, where there are any
    positive_share: float = setting(0.5, low=0, high=1)
    target_rate: float = setting(0.01, low=0, above=True, high=1)  # rate of the soft update at every gradient step
    buffer: int = setting(50_000, low=1)  # transitions that replay holds
    batch: int = setting(64, low=1)  # transitions of a gradient step
    update_every: int = setting(4, low=1)  # decisions between gradient steps
    learning_starts: int = setting(200, low=0)  # decisions before the first gradient step

    reads_vectors = False

    def problems(self, has_data: bool) -> Iterator[str]:
        yield from _too_large_a_batch(self)


@dataclass
class BCConfig(LearnerConfig):
    """Behaviour cloning: a policy learned from the run's data, or before the run (see llmrl/learners/bc.py)."""

    weights: str | None = "???"  # a file that scripts/clone.py wrote; its contents name the run. null with data
    hidden: list[int] = setting([128, 128], low=1)  # units of each hidden layer
    alpha: float = setting(1.0, low=0)  # temperature of the cloned policy
    # ... of w exp(f) as a whole; else of f alone, which is the same without a prior
    product: bool = setting(False, since=True)
    # with product: weight of f beside log w when it acts; below 1 it trusts w more
    learned_weight: float = setting(1.0, low=0, since=True)
    # with data:
    gradient_steps: int = setting(2000, low=1, since=True)  # gradient steps of the run
    batch: int = setting(128, low=1, since=True)  # transitions of a gradient step
    lr: float = setting(1e-3, low=0, above=True, since=True)  # learning rate
    weight_decay: float = setting(0.0, low=0, since=True)  # weight decay of AdamW
    grad_clip: float = setting(10.0, low=0, above=True, since=True)  # largest norm of a gradient
    successful: bool = setting(False, since=True)  # learn from episodes that succeeded, and from no others
    # with successful: leave out the episode that data.size cuts, whose end is unknown
    whole: bool = setting(False, since=True)

    learns_from_data = True
    starts_from = "policy"

    def problems(self, has_data: bool) -> Iterator[str]:
        if has_data and self.weights is not None:
            yield f"learner.weights={self.weights}: it learns from data; leave one of the two out"
        if not has_data and self.weights is None:
            yield (
                f"learner={self.name} learns from data, or plays a policy learned before: add data=FILE (`llmrl "
                "collect` makes one), or learner.weights=FILE"
            )

    def uses_of_all_actions(self) -> tuple[str, ...]:
        return ("target", "evaluation") if self.product else ("target",)


@dataclass
class CQLConfig(LearnerConfig):
    """Conservative Q-learning, from data alone (see llmrl/learners/cql.py)."""

    gradient_steps: int = setting(5000, low=1)  # gradient steps of the run
    # temperature of the posterior, in evaluations and in backups but max; 0: greedy in Q
    alpha: float = setting(0.02, low=0)
    alpha_eval: float | None = setting(None, low=0)  # null: alpha
    # target: y = R_n + gamma^n B Q_target
    gamma: float = setting(0.99, low=0, high=1)  # the discount
    discount_by: str = setting("decisions", choices=UNITS)  # decisions | primitive_steps
    backup: str = setting("max", choices=BACKUPS)  # max | soft | expected
    double_q: bool = False  # only the max backup has two Qs
    n_step: int = setting(1, low=1)  # rewards that a target adds up before it looks at Q
    # what keeps Q low where there are no data
    c: float = setting(1.0, low=0)  # weight of log sum exp Q - Q(s, a_data)
    # uniform: sum over the candidates | prior: weighted by w
    regulariser: str = setting("uniform", choices=("uniform", "prior"))
    data_action: bool = True  # the row's own action is one of the candidates of the sum
    join: bool = False  # every action that the data take in a state is one of its candidates, in the target too
    # the network and its optimiser
    hidden: list[int] = setting([64, 64], low=1)  # units of each hidden layer
    lr: float = setting(1e-3, low=0, above=True)  # learning rate
    weight_decay: float = setting(0.0, low=0)  # weight decay of AdamW
    loss: str = setting("huber", choices=LOSSES)  # huber | mse: half the squared error
    # mean | sum over the batch, of the TD term; the regulariser is always a mean
    reduction: str = setting("mean", choices=REDUCTIONS)
    grad_clip: float = setting(10.0, low=0, above=True)  # largest norm of a gradient
    target_rate: float = setting(0.01, low=0, above=True, high=1)  # rate of the soft update at every gradient step
    batch: int = setting(128, low=1)  # transitions of a gradient step

    learns_from_data = True

    def problems(self, has_data: bool) -> Iterator[str]:
        yield from _no_data(self, has_data)
        yield from _too_small_an_alpha(self)


@dataclass
class IQLConfig(LearnerConfig):
    """Implicit Q-learning, from data alone (see llmrl/learners/iql.py)."""

    gradient_steps: int = setting(5000, low=1)  # gradient steps of the run
    alpha: float = setting(1.0, low=0)  # temperature of the policy in evaluations
    gamma: float = setting(0.99, low=0, high=1)  # the discount
    discount_by: str = setting("decisions", choices=UNITS)  # decisions | primitive_steps
    n_step: int = setting(1, low=1)  # rewards that a target adds up before it looks at V
    expectile: float = setting(0.8, low=0, above=True, high=1)  # expectile of Q over the data's actions, which V is
    temperature: float = setting(0.1, low=0, above=True)  # temperature of the advantage weights exp(A / temperature)
    hidden: list[int] = setting([64, 64], low=1)  # units of each hidden layer
    lr: float = setting(1e-3, low=0, above=True)  # learning rate
    weight_decay: float = setting(0.0, low=0)  # weight decay of AdamW
    grad_clip: float = setting(10.0, low=0, above=True)  # largest norm of a gradient
    target_rate: float = setting(0.01, low=0, above=True, high=1)  # rate of the soft update at every gradient step
    batch: int = setting(128, low=1)  # transitions of a gradient step

    learns_from_data = True

    def problems(self, has_data: bool) -> Iterator[str]:
        yield from _no_data(self, has_data)

    def uses_of_all_actions(self) -> tuple[str, ...]:
        return ("target", "evaluation")


def _no_data(learner: CQLConfig | IQLConfig, has_data: bool) -> Iterator[str]:
    if not has_data:
        yield f"learner={learner.name} learns from data alone: add data=FILE; `llmrl collect` makes one"


def _too_large_a_batch(learner: DQNConfig | DRRNConfig) -> Iterator[str]:
    if learner.batch > learner.buffer:
        yield f"learner.batch={learner.batch}: a buffer of {learner.buffer} never holds that many"


def _too_small_an_alpha(learner: DQNConfig | CQLConfig) -> Iterator[str]:
    for key in ("alpha", "alpha_eval"):
        alpha = getattr(learner, key)
        if alpha is not None and 0 < alpha < SMALLEST_ALPHA:
            yield f"learner.{key}={alpha:g}: it must be 0 (greedy in Q) or at least {SMALLEST_ALPHA:g}"

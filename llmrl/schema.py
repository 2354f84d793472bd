"""Every setting there is: its type, its default, and whether it can change a result.

The YAML files under `configs/` are what a person reads and chooses from; these dataclasses check them. The run id is a
hash of the settings whose `affects_result` is true (`llmrl.run.identity`), without those that another setting
turns off (`llmrl/config/unread.py`). Imports nothing heavy: the command line reads this before torch is loaded.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field
from math import inf, isfinite
from typing import Any, NamedTuple

RESULT_FREE = {"affects_result": False}


def since(default: Any) -> Any:
    """A setting that came later: at its default, which is what was done before it, runs keep their older names."""
    return field(default=default, metadata={"absent_default": default})


def free(default: Any = MISSING, factory: Any = MISSING) -> Any:
    """A setting that changes speed, place or looks, never a result."""
    if factory is not MISSING:
        return field(default_factory=factory, metadata=RESULT_FREE)
    return field(default=default, metadata=RESULT_FREE)


# ---- worlds ------------------------------------------------------------------------------------------------------


@dataclass
class KitchenConfig:
    """Overcooked tomato and salad, on map A."""

    _target_: str = "???"
    name: str = "???"
    reward: str = "once"  # once: +0.2 per ingredient and episode | original: at every chop (a reward loop)
    max_decisions: int = 51  # truncates
    max_primitive_steps: int = 200  # truncates; the running macro-action finishes


@dataclass
class RandomKitchenConfig(KitchenConfig):
    """Generated kitchens."""

    split: str = "dev"  # train (what the embedded model read) | dev | test
    index: int = 0  # the first kitchen
    count: int = 1  # how many, from `index` on; one task each
    ingredients: int | None = 3  # 1, 2, 3, or null: mixed


@dataclass
class HouseholdConfig:
    """Homes with the rules and the six task types of ALFWorld."""

    _target_: str = "???"
    name: str = "???"
    task: str = "pick"  # pick | examine | clean | heat | cool | pick_two | mixed: the six in turn
    split: str = "dev"  # train | dev | valid_seen (homes of train) | valid_unseen | corpus (what tiny-2 read)
    index: int = 0  # the first game
    count: int = 1  # how many, from `index` on; one task each
    unit: str = since("games")  # what index and count are about: games | instructions (the first game that gives each)
    memory: str = "wanted"  # what the observation tells of what was seen before: none | wanted | all
    max_decisions: int = 50  # truncates


@dataclass
class AlfworldConfig:
    """ALFWorld's own games, on its own engine: the extra `alfworld`, and ALFWORLD_DATA."""

    _target_: str = "???"
    name: str = "???"
    task: str = "pick"  # pick | examine | clean | heat | cool | pick_two | mixed: all six
    split: str = "train"  # train | valid_seen | valid_unseen
    index: int = 0  # the first one
    count: int | None = None  # how many, from `index` on; one task per game; null: all
    unit: str = "games"  # what index and count are about: games | instructions (with all games that give them)
    without: list[str] = field(default_factory=list)  # instructions left out before anything is counted
    memory: str = "none"  # what follows the engine's text: none | wanted | all, as in homes, read off earlier texts
    grammar: str = "packaged"  # packaged: the package's own | file: the game file's, which is code to be trusted
    max_decisions: int = 50  # truncates


@dataclass
class FrozenLakeConfig:
    """gymnasium's FrozenLake-v1, told in words."""

    _target_: str = "???"
    name: str = "???"
    size: int = 4  # standard: 4 or 8 | random: 4 to 8
    layout: str = "standard"  # standard: gymnasium's map | random: generated ones, numbered
    index: int = 0  # random: the first map
    count: int = 1  # random: how many, from `index` on; one task each
    slippery: bool = False  # a step goes aside as often as not: left, right or ahead, each one time in three
    map: str = "local"  # local: position, the four neighbours, the goal's direction | full: the map as well
    max_decisions: int = 20  # truncates


# ---- what the agent is told: models, prompts, priors -----------------------------------------------------------


@dataclass
class TransformersLMConfig:
    """A causal language model in this process. Its identity (model, revision, dtype) enters the run id."""

    _target_: str = "???"
    name: str = free("???")  # how it was asked for; what it is, is its identity
    model: str = "???"  # tiny-1 | one of `llmrl models list` | a local folder | FILE.gguf | a hub id
    revision: str | None = None  # a hub commit; a local folder's is a hash of its files, found when the run starts
    dtype: str = "float32"  # float32 | bfloat16 | float16: what it computes in
    device: str = free("auto")  # auto: a GPU where there is one
    batch_size: int | None = free(None)  # states per forward; null: 1 on a CPU (no answer depends on another), else 16
    bos: bool | None = since(None)  # begin each prompt with the beginning-of-text token; null: as the tokenizer does


@dataclass
class OpenAILMConfig:
    """A model behind a server. Its declared identity (model, revision, dtype, tokenizer) enters the run id."""

    _target_: str = "???"
    name: str = free("???")  # how it was asked for; what it is, is its identity
    model: str = "???"  # tiny-1 | one of `llmrl models list` | a local folder | a hub id | with `tokenizer`, any name
    revision: str | None = None  # a hub commit; a local folder's is a hash of its files, found when the run starts
    dtype: str = "bfloat16"  # in which the server computes
    tokenizer: str | None = None  # null: the model can be looked at from here | a name: it is only declared
    url: str = free("http://127.0.0.1:8000/v1")  # of the server, up to /v1
    served_name: str | None = free(None)  # of the model, there; null: found in the server's list
    api_key_env: str | None = free(None)  # the name of the environment variable that holds the key
    allow_http: bool = free(False)  # without encryption beyond this machine, too
    concurrency: int = free(256)  # requests at once, at most; how many the server sustains is found out
    attempt_s: float = free(120.0)  # seconds for one attempt at a question
    patience_s: float = free(600.0)  # for all attempts at it; then the run pauses
    probe_tolerance: float = free(0.01)  # nats by which the server may answer the probes otherwise than before
    serve: str | None = free(None)  # a model to start vLLM with, for as long as the command runs
    serve_env: str | None = free(None)  # the folder of the environment that has vLLM; null: on PATH


@dataclass
class PromptConfig:
    """A Jinja2 template and how an action continues it."""

    id: str = free("???")  # what a person calls it
    template: str = "???"  # Jinja2, over task, observation, actions and history
    prefix: str = " "  # between the prompt and an action, as the model writes it
    end: str = "\n"  # ends an action: it is scored with it, and stops an answer
    history_turns: int = 0  # how many of the last observations and actions are shown
    kind: str = since("text")  # text | chat: `template` is said to the model, through its chat template
    system: str = since("")  # chat: what the model is told first of all
    think: str | None = since(None)  # first a thought: shared (by all answers to a prompt) | each (has its own)
    think_tokens: int = since(128)  # of a thought, at most
    think_end: str = since("\n")  # ends a thought; "": only where the model ends it
    then: str = since("\nNext:")  # follows a thought; chat: is said to the model next
    shots: int = since(0)  # examples before the question: an expert's decisions in other games, of the split train
    shot_steps: int = since(1)  # decisions that an example shows, at most
    select: str = since("fixed")  # fixed: the same examples for all states | similar: those most like the state


@dataclass
class SupportConfig:
    """S(s): which actions are considered, for one use of the prior."""

    k: int | None = None  # that many draws with replacement; null: all admissible actions
    redraw: str = "visit"  # at each visit of a state | never: the first draws stay | union: all draws so far
    uniform: bool = since(False)  # this use knows no prior: all admissible actions, equal weight; k is not read


@dataclass
class PriorConfig:
    """w, the action prior, and a support for each of its three uses."""

    name: str = "???"
    source: str = "uniform"  # uniform | scored | generated | oracle | learned | own
    normalise: str = "none"  # scored: divide log p by 1 (none), its tokens (token) or its words (word)
    calibrate: str = since("none")  # scored: none | pmi: log p less what it is without an observation and history
    calibrate_weight: float = since(1.0)  # pmi: how much of that is taken off
    mix: float | str = 0.05  # w <- (1-mix) w + mix uniform, before draws | auto: a run learns which episodes use w
    behaviour: SupportConfig = field(default_factory=SupportConfig)  # of who acts
    target: SupportConfig = field(default_factory=SupportConfig)  # of the next state in a target
    evaluation: SupportConfig = field(default_factory=SupportConfig)  # of who acts in evaluations
    temperature: float = 1.0  # the model's own, not the posterior's alpha; scored: p^(1/temperature) over the menu
    # generated only:
    max_tokens: int = 16  # of an answer, at most
    # free answers are drawn from the likeliest tokens that have this probability together
    top_p: float = 1.0
    stop: list[str] | None = since(None)  # texts that end an answer; []: only the model's own end; null: prompt.end
    projection: str = since("whole")  # whole: the one action named whole | last: the paper's code's, the last of most
    limit: int = 5  # how many extra answers may be asked for when some do not project
    draw_seed: int | None = None  # null: the run's seed; equal draw seeds share their generations
    # controls:
    control: str | None = since(None)  # scored: shuffled (as peaked, and wrong) | marginal (p(a) without the state)
    error: float = since(0.0)  # oracle: (1-error) on the expert's actions, error on all admissible ones
    # scored and learned: fitted to what an expert does in games of the split `train` (llmrl/priors/head.py)
    labels: int = since(0)  # so many states of theirs; 0: the prior as it is
    head: str = since("bias")  # what is fitted: bias (of an action's words) | hash | hidden (the model's hidden states)
    uniform_after: int | None = since(None)  # decisions after which the behaviour knows no prior any more
    # own: somebody else's weights
    _target_: str | None = since(None)  # what is called with `settings` and the run's seed
    settings: Any = since(None)  # what `_target_` is called with, beside the run's seed


# ---- learning ------------------------------------------------------------------------------------------------


@dataclass
class EncoderConfig:
    """Text to vector, for Q."""

    _target_: str = "???"
    name: str = free("???")  # what a person calls it
    dim: int = 256  # of a text's vector
    ngrams: int = 3  # words of an n-gram, at most
    history_turns: int = 0
    seed: int = 0  # of the random projection: the same for every run that is to be compared


@dataclass
class ModelEncoderConfig:
    """Hidden states of a transformers model: `lm` (causal), `bert` (the paper's)."""

    _target_: str = "???"
    name: str = free("???")  # what a person calls it
    model: str = "???"  # tiny-1 | one of `llmrl models list` | a local folder | FILE.gguf | a hub id
    revision: str | None = None
    dtype: str = "float32"
    pooling: str = "mean"  # cls | mean | last
    history_turns: int = 0
    device: str = free("auto")
    batch_size: int = 16  # texts per forward on a GPU; on a CPU 1, so that no row depends on another


@dataclass
class NoLearnerConfig:
    """An agent that does not learn: prior_only, random."""

    _target_: str = "???"
    name: str = "???"
    priors: list[str] = free(factory=list)  # the priors it may be given


@dataclass
class DQNConfig:
    """One family: DQN, DQN-Prior and everything between (see llmrl/learners/dqn.py)."""

    _target_: str = "???"
    name: str = "???"
    priors: list[str] = free(factory=list)  # the priors it may be given
    # behaviour: with probability epsilon a draw from w (uniform, where there is no prior), else from w exp(Q/alpha)
    alpha: float = 0.02  # temperature of the posterior; 0: greedy in Q
    alpha_eval: float | None = None  # null: alpha
    epsilon: float = 0.0  # the chance of a draw from w
    epsilon_final: float | None = None  # null: constant
    epsilon_decay: int = 0  # decisions from epsilon to epsilon_final, linearly
    # target: y = R_n + gamma^n B Q_target
    gamma: float = 0.99  # the discount
    discount_by: str = "decisions"  # decisions | primitive_steps (semi-MDP)
    backup: str = "max"  # max | soft | expected | sampled
    double_q: bool = True  # only the max backup has two Qs
    n_step: int = 5  # rewards that a target adds up before it looks at Q
    # the network and its optimiser
    hidden: list[int] = field(default_factory=lambda: [128, 128])  # units of each hidden layer
    optimism: float = 0.0  # added to Q where it acts and in targets: optimism / (visits of (s, a) + 1)^2
    lr: float = 1e-3  # learning rate
    weight_decay: float = 0.0  # of AdamW
    loss: str = "huber"  # huber | mse
    reduction: str = "mean"  # mean | sum over the batch
    grad_clip: float = 10.0  # largest norm of a gradient
    target_rate: float = 0.01  # soft update at every gradient step; 1 with target_every: a hard copy
    target_every: int = 1  # gradient steps between updates of the target
    # schedule, counted, never timed
    buffer: int = 50_000  # transitions that replay holds
    batch: int = 64  # transitions of a gradient step
    update_unit: str = "decisions"  # decisions | episodes
    update_every: int = 4  # units between rounds of learning
    updates: int = 1  # gradient steps in a round
    learning_starts: int = 200  # units before the first round
    # what a no-prior learner may have instead of a prior
    combine: str = since("posterior")  # posterior: w exp(Q/alpha) | product: its mode (SayCan)
    count_bonus: float = since(0.0)  # added to the reward: count_bonus / sqrt(visits of (s, a) by now)
    priority: float = since(0.0)  # exponent of prioritised replay; 0: uniform
    importance: float = since(0.4)  # prioritised replay: exponent of the importance weights
    prefill: int = since(0)  # the first decisions are drawn from w alone
    weights: str | None = since(None)  # a file that Q starts from; its contents name the run, not its path


@dataclass
class DRRNConfig:
    """Deep reinforcement relevance network (see llmrl/learners/drrn.py): reads text itself, and needs no encoder."""

    _target_: str = "???"
    name: str = "???"
    priors: list[str] = free(factory=list)  # the priors it may be given
    history_turns: int = 0  # what its state text shows
    alpha: float = 0.1  # temperature of the softmax over Q
    alpha_eval: float | None = None  # null: alpha
    gamma: float = 0.99
    discount_by: str = "decisions"  # decisions | primitive_steps
    n_step: int = 1
    embedding: int = 64  # of a token
    hidden: int = 64  # units of each layer
    lr: float = 1e-3
    grad_clip: float = 5.0
    positive_share: float = 0.5  # of a batch: from transitions with a positive reward, where there are any
    target_rate: float = 0.01
    buffer: int = 50_000
    batch: int = 64
    update_every: int = 4  # decisions between gradient steps
    learning_starts: int = 200  # decisions before the first gradient step


@dataclass
class BCConfig:
    """Behaviour cloning: a policy learned from the run's data, or before the run (see llmrl/learners/bc.py)."""

    _target_: str = "???"
    name: str = "???"
    priors: list[str] = free(factory=list)  # the priors it may be given
    weights: str | None = "???"  # a file that scripts/clone.py wrote; its contents name the run. null with data
    hidden: list[int] = field(default_factory=lambda: [128, 128])
    alpha: float = 1.0  # temperature of the cloned policy
    product: bool = since(False)  # ... of w exp(f) as a whole; else of f alone, which is the same without a prior
    learned_weight: float = since(1.0)  # with product: of f beside log w when it acts; below 1 it trusts w more
    # with data:
    gradient_steps: int = since(2000)  # in all
    batch: int = since(128)
    lr: float = since(1e-3)
    weight_decay: float = since(0.0)
    grad_clip: float = since(10.0)
    successful: bool = since(False)  # learn from episodes that succeeded, and from no others
    whole: bool = since(False)  # nor from the one that data.size cuts: how it goes on is not among the data


@dataclass
class CQLConfig:
    """Conservative Q-learning, from data alone (see llmrl/learners/cql.py)."""

    _target_: str = "???"
    name: str = "???"
    priors: list[str] = free(factory=list)  # the priors it may be given
    gradient_steps: int = 5000  # in all
    alpha: float = 0.02  # temperature of the posterior, in evaluations and in backups but max; 0: greedy in Q
    alpha_eval: float | None = None  # null: alpha
    # target: y = R_n + gamma^n B Q_target
    gamma: float = 0.99
    discount_by: str = "decisions"  # decisions | primitive_steps
    backup: str = "max"  # max | soft | expected
    double_q: bool = False  # only the max backup has two Qs
    n_step: int = 1
    # what keeps Q low where there are no data
    c: float = 1.0  # weight of log sum exp Q - Q(s, a_data)
    regulariser: str = "uniform"  # uniform: sum over the candidates | prior: weighted by w
    data_action: bool = True  # the row's own action is one of the candidates of the sum
    join: bool = False  # every action that the data take in a state is one of its candidates, in the target too
    # the network and its optimiser
    hidden: list[int] = field(default_factory=lambda: [64, 64])
    lr: float = 1e-3
    weight_decay: float = 0.0
    loss: str = "huber"  # huber | mse: half the squared error
    reduction: str = "mean"  # mean | sum over the batch, of the TD term; the regulariser is always a mean
    grad_clip: float = 10.0
    target_rate: float = 0.01
    batch: int = 128


@dataclass
class IQLConfig:
    """Implicit Q-learning, from data alone (see llmrl/learners/iql.py)."""

    _target_: str = "???"
    name: str = "???"
    priors: list[str] = free(factory=list)  # the priors it may be given
    gradient_steps: int = 5000  # in all
    alpha: float = 1.0  # temperature of the policy in evaluations
    gamma: float = 0.99
    discount_by: str = "decisions"  # decisions | primitive_steps
    n_step: int = 1
    expectile: float = 0.8  # of Q over the data's actions, that V is
    temperature: float = 0.1  # of the advantage weights: exp(A / temperature)
    hidden: list[int] = field(default_factory=lambda: [64, 64])
    lr: float = 1e-3
    weight_decay: float = 0.0
    grad_clip: float = 10.0
    target_rate: float = 0.01
    batch: int = 128


@dataclass
class DataConfig:
    """What an offline run learns from; `data=FILE` sets the file."""

    file: str = "???"  # .parquet; the contents name the run, not the path
    size: int | None = (
        None  # transitions, of whole episodes but the last; a smaller size begins a larger one. null: all
    )
    draw: int | None = None  # decides the order of the episodes; null: the run's seed


# ---- the run -------------------------------------------------------------------------------------------------


@dataclass
class RolloutConfig:
    num_envs: int = 8  # environments that act at the same time
    workers: int = free(0)  # processes that step environments; 0: this one
    pipeline: bool = since(False)  # in two halves that take turns, so that one is asked about while the other acts


@dataclass
class EvaluationConfig:
    every: int = 200  # decisions; gradient steps of a run that learns from data
    episodes: int = 30  # of the behaviour policy; the greedy one takes one per task where nothing is random
    grid: str = since("linear")  # linear: at every multiple of `every` | log: `per_doubling` times from there to twice
    per_doubling: int = since(4)  # log: evaluations from one step to twice that step
    exact_up_to: int = since(0)  # worlds of at most so many states, history included: success computed, not sampled


@dataclass
class PathsConfig:
    runs: str = free("runs")  # the folder that runs are kept in
    cache: str | None = free(None)  # kept answers; null: $LLMRL_CACHE or the user's cache folder
    config_dir: str | None = free(None)  # --config-dir, as it was typed


@dataclass
class TrainConfig:
    """One run. `env`, `lm`, `learner` and `encoder` are chosen by `_target_`; somebody else's needs no schema here."""

    env: Any = "???"  # the world
    prior: PriorConfig = field(default_factory=PriorConfig)
    lm: Any = None  # null where nothing asks a model
    prompt: PromptConfig | None = None  # null where nothing asks a model
    learner: Any = "???"  # who learns, and how
    encoder: Any = None  # null where nothing is learned
    env_steps: int = 4000  # decisions in all
    episodes: int | None = since(None)  # the run ends with so many, if it has not ended before; null: no limit
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    data: DataConfig | None = since(None)  # null: the agent acts, and learns from what comes of it
    seed: int = 0  # of all that is random
    numerics: int = 3  # raised by the commit that changes a golden curve
    checkpoint_every: int = free(1000)  # decisions, or gradient steps; one more at the end
    threads: int = free(1)  # torch threads; provenance, and the machine type of a resumed run
    progress: bool = free(True)  # a moving bar, on a terminal
    strict: bool = free(False)  # data or a prior that do not fit the world end the run before it learns
    cached_only: bool = free(False)  # refuse to compute: only what is kept already is used
    paths: PathsConfig = free(factory=PathsConfig)


SCHEMAS: dict[str, type] = {
    "llmrl.envs.lake.env.frozen_lake": FrozenLakeConfig,
    "llmrl.envs.kitchen.env.overcooked_tomato": KitchenConfig,
    "llmrl.envs.kitchen.env.overcooked_salad": KitchenConfig,
    "llmrl.envs.kitchen.env.overcooked_random": RandomKitchenConfig,
    "llmrl.lm.transformers_lm.TransformersLM": TransformersLMConfig,
    "llmrl.lm.openai_lm.OpenAILM": OpenAILMConfig,
    "llmrl.lm.openai_lm.VllmLM": OpenAILMConfig,
    "llmrl.envs.household.env.household": HouseholdConfig,
    "llmrl.envs.alfworld.env.alfworld": AlfworldConfig,
    "llmrl.encoders.hash.HashEncoder": EncoderConfig,
    "llmrl.encoders.model.ModelEncoder": ModelEncoderConfig,
    "llmrl.encoders.model.BertEncoder": ModelEncoderConfig,
    "llmrl.learners.dqn.DQN": DQNConfig,
    "llmrl.learners.drrn.DRRN": DRRNConfig,
    "llmrl.learners.bc.BC": BCConfig,
    "llmrl.learners.cql.CQL": CQLConfig,
    "llmrl.learners.iql.IQL": IQLConfig,
    "llmrl.learners.prior_only.PriorOnly": NoLearnerConfig,
    "llmrl.learners.random.Random": NoLearnerConfig,
}

CHOICES: dict[str, tuple[str, ...]] = {
    "env.reward": ("once", "original"),
    "env.split": ("train", "dev", "test"),
    "env.grammar": ("packaged", "file"),
    "env.unit": ("games", "instructions"),
    "env.task": ("pick", "examine", "clean", "heat", "cool", "pick_two", "mixed"),
    "env.memory": ("none", "wanted", "all"),
    "env.layout": ("standard", "random"),
    "env.map": ("local", "full"),
    "lm.device": ("auto", "cpu", "cuda"),
    "prompt.kind": ("text", "chat"),
    "prompt.think": ("shared", "each"),
    "prompt.select": ("fixed", "similar"),
    "prior.source": ("uniform", "scored", "generated", "oracle", "learned", "own"),
    "prior.control": ("shuffled", "marginal"),
    "prior.head": ("bias", "hash", "hidden"),
    "prior.normalise": ("none", "token", "word"),
    "prior.calibrate": ("none", "pmi"),
    "prior.projection": ("whole", "last"),
    "prior.behaviour.redraw": ("visit", "never", "union"),
    "prior.target.redraw": ("visit", "never", "union"),
    "prior.evaluation.redraw": ("visit", "never", "union"),
    "encoder.pooling": ("cls", "mean", "last"),
    "encoder.device": ("auto", "cpu", "cuda"),
    "evaluation.grid": ("linear", "log"),
    "learner.combine": ("posterior", "product"),
    "learner.discount_by": ("decisions", "primitive_steps"),
    "learner.backup": ("max", "soft", "expected", "sampled"),
    "learner.loss": ("huber", "mse"),
    "learner.reduction": ("mean", "sum"),
    "learner.update_unit": ("decisions", "episodes"),
    "learner.regulariser": ("uniform", "prior"),
}


WORDS: dict[str, str] = {"prior.mix": "auto"}  # the word that may stand for a number


OF_SCHEMA: dict[Any, dict[str, tuple[str, ...]]] = {  # where a schema's choices are not those above
    HouseholdConfig: {"env.split": ("train", "dev", "valid_seen", "valid_unseen", "corpus")},
    AlfworldConfig: {"env.split": ("train", "valid_seen", "valid_unseen")},
}


LARGEST_K = 100_000  # draws of candidates: each is a number in memory, for every state of a batch

CAPS = {"field": 50, "paper": 61, "paper_env": 100}  # the field's; the main paper's script's; its environment's
NAMES: dict[Any, dict[str, dict[str, int]]] = {  # of a schema's numbers: what may be typed for them
    HouseholdConfig: {"max_decisions": CAPS},
    AlfworldConfig: {"max_decisions": CAPS},
}


class Range(NamedTuple):
    """The finite numbers a setting may take; a setting that may also be null says so by its type."""

    low: float
    high: float = inf
    above: bool = False  # `low` itself is excluded
    instead: str = ""  # what else a person may want

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or not isfinite(value):
            return False
        return (value > self.low if self.above else value >= self.low) and value <= self.high

    def __str__(self) -> str:
        if self.low == -inf:
            return "finite"
        if self.high < inf:
            return f"{'above' if self.above else 'at least'} {self.low:g} and at most {self.high:g}{self.instead}"
        return f"{'above' if self.above else 'at least'} {self.low:g}{self.instead}"


RANGES: dict[str, Range] = {
    **{key: Range(1) for key in ("env.max_decisions", "env.max_primitive_steps", "env.count")},
    "env.index": Range(0),
    "env.size": Range(4, 8),
    "env.ingredients": Range(1, 3),
    **{key: Range(1) for key in ("lm.batch_size", "lm.concurrency")},
    **{key: Range(0, above=True) for key in ("lm.attempt_s", "lm.patience_s", "lm.probe_tolerance")},
    "learner.learned_weight": Range(0),
    "prompt.history_turns": Range(0),
    "prompt.think_tokens": Range(1),
    "prompt.shots": Range(0, 32),
    "prompt.shot_steps": Range(1),
    **{
        f"prior.{use}.k": Range(1, LARGEST_K, instead="; null takes all, to which more draws tend")
        for use in ("behaviour", "target", "evaluation")
    },
    "prior.mix": Range(0, 1),
    "prior.calibrate_weight": Range(0, above=True, instead="; prior.calibrate=none takes nothing off"),
    "prior.max_tokens": Range(1),
    "prior.temperature": Range(0, above=True),
    "prior.top_p": Range(0, 1, above=True),
    "prior.limit": Range(0),
    "prior.draw_seed": Range(0),
    "prior.error": Range(0, 1),
    "prior.labels": Range(0, 1000),
    "prior.uniform_after": Range(0),
    "episodes": Range(1),
    **{f"encoder.{key}": Range(1) for key in ("dim", "ngrams")},
    **{f"encoder.{key}": Range(0) for key in ("history_turns", "seed")},
    **{
        f"learner.{key}": Range(0)
        for key in ("alpha", "alpha_eval", "weight_decay", "epsilon_decay", "learning_starts")
    },
    **{f"learner.{key}": Range(0, 1) for key in ("epsilon", "epsilon_final", "gamma")},
    **{f"learner.{key}": Range(0) for key in ("count_bonus", "prefill", "history_turns")},
    **{f"learner.{key}": Range(0, 1) for key in ("priority", "importance", "positive_share")},
    "learner.embedding": Range(1),
    "learner.optimism": Range(-inf),
    **{f"learner.{key}": Range(0, above=True) for key in ("lr", "grad_clip")},
    "learner.target_rate": Range(0, 1, above=True),
    "learner.hidden": Range(1),
    **{f"learner.{key}": Range(1) for key in ("n_step", "target_every", "buffer", "batch", "update_every")},
    "learner.updates": Range(0),
    "learner.gradient_steps": Range(1),
    "learner.c": Range(0),
    "learner.expectile": Range(0, 1, above=True),
    "learner.temperature": Range(0, above=True),
    "data.size": Range(1),
    "data.draw": Range(0),
    **{
        key: Range(1) for key in ("env_steps", "rollout.num_envs", "evaluation.every", "evaluation.episodes", "threads")
    },
    **{key: Range(0) for key in ("rollout.workers", "seed")},
    "checkpoint_every": Range(1),
    "evaluation.per_doubling": Range(1),
    "evaluation.exact_up_to": Range(0),
    "encoder.batch_size": Range(1),
}

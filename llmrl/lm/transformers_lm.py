"""A Hugging Face causal language model in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
import transformers

from llmrl.lm.fast_path_proof import holds, looks_back_only, prove, same_after_blocks, same_scores, same_steps
from llmrl.lm.identify import identify
from llmrl.lm.language_model import PROBES, LanguageModelError, Sampling, Score, with_bos
from llmrl.lm.load import choose_device, describe_device, end_tokens, load
from llmrl.lm.network import CachedSteps, ExactSteps, Network, State, Steps
from llmrl.lm.texts import Texts

STATES_ON_CPU = 1  # more saves little there (scripts/bench/scoring.py), and alone no state depends on its neighbours
SHARES_FROM = 192  # tokens of a prompt from which it is computed in blocks, where it is alone in its forward
STATES_ON_GPU = 16  # some thousand tokens per forward keep a GPU busy; more costs memory

# How far (nats, a probe's worst continuation) two exact methods may differ by rounding alone.
TOLERANCE = {"float32": 1e-3, "float16": 5e-2, "bfloat16": 0.3}
PROBE_TOKENS = 32
BOS_HELPS = 0.1  # nats a token: by how much plain text must be worse with it for the config to be wrong


class TransformersLM:
    """Scores and samples with any causal language model that `transformers` loads.

    model: an embedded model ("tiny-1"), a folder written by save_pretrained, or a hub id. revision: a hub branch, tag
        or commit; for a folder the (abbreviated) hash its weights must have. dtype: float32, bfloat16 or float16.
    device: "cpu", "cuda" or "auto" (CUDA where there is one).
    batch_size: states per forward; None: 1 on a CPU, 16 on a GPU. With 1, a state's numbers and generations are the
        same bits whatever else is asked in the call; with more, padding moves log-probabilities by about 1e-6.
    bos: whether a prompt begins with the beginning-of-text token; None: as the tokenizer has it.
    threads: of torch, for the whole process; None leaves torch's setting.

    Fast ways (a tree of all continuations after one prompt, keys and values that long prompts share, a cache while
    sampling) are used for those lengths for which `proof` holds them equal to the exact way for this architecture.
    Elsewhere each continuation is one unpadded row. `paths` says, for each prompt of the last call, which it was:
    "tree", "blocks", "cache" or "rows".

    Raises ValueError for a model, revision, dtype or device that cannot be had, and for one that is not causal.
    """

    engine = "transformers"

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        dtype: str = "float32",
        device: str = "auto",
        batch_size: int | None = None,
        bos: bool | None = None,
        threads: int | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: use 1 or more states per forward, or null for the default")
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = choose_device(device)
        self.batch_size = batch_size or (STATES_ON_CPU if self.device == "cpu" else STATES_ON_GPU)
        self.identity = with_bos(identify(model, revision, dtype), bos)
        self.tokenizer, self.network = load(model, self.identity.revision, dtype, self.device)
        config = self.network.config.get_text_config()
        named = getattr(config, "bos_token_id", None)
        bos_token: int | None = named if isinstance(named, int) else None
        self.texts = Texts(self.tokenizer, self.identity.model, bos, bos_token)
        self.paths: list[str] = []
        self._generated_tokens = 0
        self._ends = end_tokens(self.network, self.tokenizer)
        self._embeddings = len(self.network.get_input_embeddings().weight)  # type: ignore[arg-type]
        self.proof = prove(self.network, self.device)
        if self.proof.attention != self.network.config._attn_implementation:
            self.network.set_attn_implementation(self.proof.attention)
        tables = [getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len")]
        self._context = min((positions - self.proof.unused for positions in tables if positions), default=None)
        self._asked = Network(self.network, self.device)
        self._asked.keeps_last = self.proof.keeps_last
        self.provenance: Mapping[str, str] = {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "device": describe_device(self.device),
            "threads": str(torch.get_num_threads()),
            "attention": self.proof.attention,
        }
        self._say: Callable[[str], None] | None = None
        self._said = 0  # of the notes
        self._told: set[str] = set()  # of the ways that were not taken
        self._probe(TOLERANCE[dtype])
        if bos is None:
            self._compare_bos(bos_token)

    def score(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        """log p(continuation | prompt) for every continuation of every prompt, in the caller's order.

        A continuation's tokens are those that it has after its prompt, the two tokenised as one text.

        Raises LanguageModelError for a non-finite result; ValueError for an empty continuation, an empty prompt, or a
        prompt and continuation longer than the model's context.
        """
        states = self._states(prompts, continuations)
        tree = [self.proof.allows("tree", state.length) for state in states]
        scores: list[list[Score]] = [[] for _ in states]
        shares = [tree[i] and self._shares(state) for i, state in enumerate(states)]
        batched = [i for i, state in enumerate(states) if state.continuations and tree[i] and not shares[i]]
        for batch in _batches(batched, self._at_once, length=lambda i: states[i].length):
            for i, found in zip(batch, self._asked.score_trees([states[i] for i in batch]), strict=True):
                scores[i] = _sums(found)
        for i, state in enumerate(states):
            if state.continuations and shares[i]:
                scores[i] = _sums(self._asked.score_after_blocks(state))
            elif state.continuations and not tree[i]:
                scores[i] = _sums(self._asked.score_rows(state))
        self._tell("tree", tree)
        self.paths = ["blocks" if shared else path for path, shared in zip(self.paths, shares, strict=True)]
        return scores

    def score_exactly(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        """The result of `score` by definition: one unpadded row per continuation. For tests and benchmarks."""
        return [_sums(self._asked.score_rows(state)) for state in self._states(prompts, continuations)]

    def sample(self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], sampling: Sampling) -> list[list[str]]:
        """One generation per prompt and seed, without the stop string and what follows it.

        Each seed has a generator of its own and each token is the inverse of the distribution function at its next
        uniform number, so a generation depends on its prompt, its seed and `sampling` alone.

        Raises LanguageModelError for non-finite logits; ValueError for an empty prompt, or a prompt that leaves no room
        for `max_tokens` in the model's context.
        """
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many lists of seeds, not {len(seeds)}")
        tokens = self.texts.prompts(prompts)
        for prompt, ids in zip(prompts, tokens, strict=True):
            self._check(prompt, ids, sampling.max_tokens, "max_tokens")
        texts = self.generate(tokens, seeds, sampling)
        self._tell("cache", [self._caches(ids, sampling) for ids in tokens])
        return texts

    def generate(
        self, prompts: Sequence[list[int]], seeds: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[list[str]]:
        """`sample`, of prompts as tokens."""
        texts: list[list[str]] = [[] for _ in prompts]
        asked = [i for i, some in enumerate(seeds) if some]
        cached = [i for i in asked if self._caches(prompts[i], sampling)]
        batches = _batches(cached, self._at_once, length=lambda i: len(prompts[i]))
        for batch in [*batches, *([i] for i in asked if i not in cached)]:
            found = self._generate([prompts[i] for i in batch], [seeds[i] for i in batch], sampling)
            for i, some in zip(batch, found, strict=True):
                texts[i] = some
        return texts

    def counters(self) -> Mapping[str, float]:
        """The costs of asking so far, by their names in cost.json."""
        return {"lm/generated_tokens": self._generated_tokens}

    def hear(self, say: Callable[[str], None]) -> None:
        """`say` is told what a person should know about this model."""
        self._say = say
        self._tell_notes()

    # ---- texts to tokens ---------------------------------------------------------------------------------------------

    def _states(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[State]:
        if len(continuations) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many lists of continuations, not {len(continuations)}")
        states = [
            State(ids, self.texts.continuations(prompt, ids, texts))
            for prompt, ids, texts in zip(prompts, self.texts.prompts(prompts), continuations, strict=True)
        ]
        for prompt, state in zip(prompts, states, strict=True):
            longest = max(state.continuations, key=len, default=[])
            largest = max((max(tokens) for tokens in state.continuations), default=0)
            self._check(prompt, state.prompt, len(longest), "tokens of its longest continuation", largest)
        return states

    def _check(self, prompt: str, tokens: list[int], more: int, what: str, largest: int = 0) -> None:
        if self._context is not None and len(tokens) + more > self._context:
            raise ValueError(
                f"the prompt {prompt[:40]!r}... has {len(tokens)} tokens; with {more} {what} that is more than the "
                f"{self._context} that {self.identity.model} reads (max_position_embeddings): show less history "
                "(prompt.history_turns), or choose a model with a longer context"
            )
        largest = max(largest, *tokens)
        if largest >= self._embeddings:
            raise ValueError(
                f"the tokenizer of {self.identity.model} gives token {largest}, and the model has embeddings of "
                f"{self._embeddings} tokens: the tokenizer in its folder is that of another model"
            )

    # ---- generations -------------------------------------------------------------------------------------------------

    def _caches(self, prompt: list[int], sampling: Sampling) -> bool:
        return self.proof.allows("cache", len(prompt) + sampling.max_tokens)

    @torch.inference_mode()
    def _generate(
        self, prompts: Sequence[list[int]], seeds: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[list[str]]:
        """One row per seed of each prompt."""
        owners = [b for b, mine in enumerate(seeds) for _ in mine]
        uniforms = np.stack([_uniforms(seed, sampling.max_tokens) for mine in seeds for seed in mine])
        answers = [_Answer() for _ in owners]
        steps: Steps
        if self._caches(max(prompts, key=len), sampling):
            steps = CachedSteps(self._asked, prompts, owners, sampling.max_tokens)
        else:
            steps = ExactSteps(self._asked, prompts, owners)
        spare = len(steps.logits) - len(owners)
        draws = torch.as_tensor(np.pad(uniforms, ((0, spare), (0, 0))), device=self.device)
        for t in range(sampling.max_tokens):
            if not torch.isfinite(steps.logits.amax(-1)).all():  # a NaN or +inf; -inf is a token that cannot come
                raise LanguageModelError(f"{self.identity.model} gave logits that are not finite numbers")
            tokens = _draw(steps.logits, draws[:, t], sampling)
            for answer, token in zip(answers, tokens.tolist(), strict=False):
                answer.extend(token, self._ends, self.texts, sampling.stop)
            if all(answer.done for answer in answers) or t == sampling.max_tokens - 1:
                break
            steps.advance(tokens)
        self._generated_tokens += sum(len(answer.tokens) for answer in answers)
        texts = iter(answer.text for answer in answers)
        return [[next(texts) for _ in mine] for mine in seeds]

    # ---- what may be trusted -----------------------------------------------------------------------------------------

    def _shares(self, state: State) -> bool:
        return self._at_once == 1 and len(state.prompt) >= SHARES_FROM and self.proof.allows("blocks", state.length)

    @property
    def _at_once(self) -> int:
        return 1 if self.proof.alone else self.batch_size

    def _probe(self, tolerance: float) -> None:
        """Holds this very model to what was proven of its kind, on a short text. Raises ValueError."""
        room = PROBE_TOKENS if self._context is None else min(PROBE_TOKENS, self._context)
        vocabulary = min(self.network.config.get_text_config().vocab_size, self._embeddings)
        tokens = np.random.Generator(np.random.PCG64(0)).integers(0, vocabulary, 64).tolist()
        prompt, a, b = tokens[: room - 8], tokens[32:40], tokens[40:48]
        state = State(prompt, [a, b, a[:4] + b[4:], a[:2] + b[:1], b[:1]])
        kind = f"{self.identity.model} ({type(self.network).__name__})"
        try:
            exact = self._asked.score_rows(state)
            causal = self.proof.causal  # of a copy in float32; the real one's rounding could hide it, or look like it
            if causal is None:
                causal = looks_back_only(self._asked, prompt, tolerance)
        except LanguageModelError as error:
            if "finite" in str(error):
                raise
            raise ValueError(f"{kind} cannot be asked as a causal language model: {error}") from error
        if not causal:
            raise ValueError(
                f"{kind} is not causal: its last token changes its predictions for those before it, so it gives no "
                "probability of a text. Choose a causal model; where this one was trained as one, set is_decoder=true "
                "in its config.json"
            )
        probe = self._asked, [(state, exact)], tolerance
        for way, check in (("tree", same_scores), ("blocks", same_after_blocks), ("cache", same_steps)):
            if self.proof.allows(way, state.length) and not holds(check, *probe):
                reason = f"it (its {way} gives other numbers than single rows on a short probe)"
                self.proof = self.proof.without(way, reason)

    def _compare_bos(self, bos_token: int | None) -> None:
        """Notes where the config names a beginning-of-text token that the tokenizer does not put there."""
        ends = self._ends | {self.tokenizer.eos_token_id}
        if bos_token is None or self.texts.adds_bos or bos_token in ends or bos_token >= self._embeddings:
            return
        without = with_it = tokens = 0.0
        for prompt, continuations in PROBES:
            ids = self.texts.prompts([prompt])[0]
            likely = self.texts.continuations(prompt, ids, continuations[:1])
            tokens += len(likely[0])
            without += sum(self._asked.score_rows(State(ids, likely))[0])
            with_it += sum(self._asked.score_rows(State([bos_token, *ids], likely))[0])
        if with_it < without - BOS_HELPS * tokens:
            return  # the tokenizer is right, and the config names a token that texts do not begin with
        name = self.tokenizer.convert_ids_to_tokens(bos_token)
        self.texts.notes.append(
            f"{self.identity.model} names the beginning-of-text token {name}, and its tokenizer adds none: plain text "
            f"has {without / tokens:.2f} nats a token without it, {with_it / tokens:.2f} with it. lm.bos=true adds it, "
            "lm.bos=false leaves it out and says nothing"
        )

    def _tell(self, way: str, fast: Sequence[bool]) -> None:
        """Keeps how each prompt of a call was computed; says, the first time, that something took the exact way."""
        self.paths = [way if is_fast else "rows" for is_fast in fast]
        if "rows" in self.paths and way not in self._told:
            self._told.add(way)
            within = getattr(self.proof, way) == "within"
            which = f"texts of more than {self.proof.limit:,} tokens" if within else self.proof.reason or "it"
            doing = "scored" if way == "tree" else "sampled"
            self.texts.notes.append(
                f"{self.identity.model} ({type(self.network).__name__}): no faster way is proven equal for {which}, so "
                f"actions are {doing} exactly, one row at a time, which takes longer"
            )
        self._tell_notes()

    def _tell_notes(self) -> None:
        if self._say is not None:
            for note in self.texts.notes[self._said :]:
                self._say(note)
            self._said = len(self.texts.notes)


class _Answer:
    """One generation in the making."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.text = ""
        self.done = False

    def extend(self, token: int, ends: frozenset[int], texts: Texts, stop: str | tuple[str, ...]) -> None:
        if self.done:
            return
        if token in ends:
            self.done = True
            return
        self.tokens.append(token)
        self.text, self.done = texts.before_stop(self.tokens, stop)


def _sums(logprobs: Sequence[Sequence[float]]) -> list[Score]:
    """The sum of each continuation; rounding may leave it just above 0."""
    return [Score(min(sum(tokens), 0.0), len(tokens)) for tokens in logprobs]


def _uniforms(seed: int, count: int) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(seed)).random(count)


def _draw(logits: torch.Tensor, uniforms: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """logits [rows, vocabulary], uniforms [rows] in [0, 1) -> tokens [rows]: the inverse distribution function."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    logits = logits.float()
    p = torch.softmax((logits - logits.amax(-1, keepdim=True)) / sampling.temperature, -1).double()
    order = None
    if sampling.top_p < 1:
        p, order = p.sort(dim=-1, descending=True, stable=True)
        p = p.masked_fill(p.cumsum(-1) - p >= sampling.top_p, 0.0)
    cumulative = p.cumsum(-1)
    at = torch.searchsorted(cumulative, (uniforms * cumulative[:, -1])[:, None], right=True).clamp(max=p.shape[-1] - 1)
    return (at if order is None else order.gather(-1, at)).squeeze(-1)


def _batches(items: Sequence[int], size: int, length: Callable[[int], int]) -> Iterator[list[int]]:
    """Items of like length together, so that little is padding."""
    ordered = sorted(items, key=length)
    return (ordered[i : i + size] for i in range(0, len(ordered), size))

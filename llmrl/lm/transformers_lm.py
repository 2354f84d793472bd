"""A Hugging Face causal language model in this process."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from llmrl.lm.identify import identify
from llmrl.lm.language_model import Conversation, LanguageModelError, Sampling, Score
from llmrl.lm.load import choose_device, describe_device, end_tokens, load
from llmrl.lm.token_tree import TokenTree

STATES_ON_CPU = 1  # more saves little there (scripts/bench/scoring.py), and alone no state depends on its neighbours
STATES_ON_GPU = 16  # some thousand tokens per forward keep a GPU busy; more costs memory
ROWS_ON_CPU = 4  # matrix products of fewer rows round differently: below it a draw would depend on how many are drawn

# How far (nats, a probe's worst continuation) two exact methods may differ by rounding alone.
TOLERANCE = {"float32": 1e-3, "float16": 5e-2, "bfloat16": 0.3}


class TransformersLM:
    """Scores and samples with any causal language model that `transformers` loads.

    model: an embedded model ("tiny-1"), a folder written by save_pretrained, or a hub id. revision: a hub branch, tag
        or commit; for a folder the (abbreviated) hash its weights must have. dtype: float32, bfloat16 or float16.
    device: "cpu", "cuda" or "auto" (CUDA where there is one).
    batch_size: states per forward; None: 1 on a CPU, 16 on a GPU. With 1, a state's numbers and generations are the
        same bits whatever else is asked in the call; with more, padding moves log-probabilities by about 1e-6.
    threads: of torch, for the whole process; None leaves torch's setting.

    `scoring` says how: "tree" (the prompt once, all continuations beside each other under a 4-D mask) or "naive" (one
    padded row per continuation), for models whose attention does not take such a mask: a probe decides at construction.

    Raises ValueError for a model, revision, dtype or device that cannot be had.
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
        threads: int | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: use 1 or more states per forward, or null for the default")
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = choose_device(device)
        self.batch_size = batch_size or (STATES_ON_CPU if self.device == "cpu" else STATES_ON_GPU)
        self.identity = identify(model, revision, dtype)
        self.tokenizer, self.network = load(model, self.identity.revision, dtype, self.device)
        config = self.network.config.get_text_config()
        self._context: int | None = getattr(config, "max_position_embeddings", None)
        windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
        self._window = min((w for w in windows if w), default=None)
        self._generated_tokens = 0
        self._ends = end_tokens(self.network, self.tokenizer)
        self._accepts = frozenset(inspect.signature(self.network.forward).parameters)
        self._continuation = lru_cache(2**16)(self._tokenize_continuation)
        self.provenance: Mapping[str, str] = {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "device": describe_device(self.device),
            "threads": str(torch.get_num_threads()),
        }
        self.scoring = "tree" if self._tree_agrees(TOLERANCE[dtype]) else "naive"

    def score(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        """log p(continuation | prompt) for every continuation of every prompt, in the caller's order.

        Raises LanguageModelError for a non-finite result; ValueError for an empty continuation, an empty prompt, or a
        prompt and continuation longer than the model's context.
        """
        states = self._states(prompts, continuations)
        scores: list[list[Score]] = [[] for _ in states]
        batched = [i for i, state in enumerate(states) if state.continuations and self._fits_tree(state)]
        for batch in _batches(batched, self.batch_size, length=lambda i: states[i].length):
            for i, found in zip(batch, self._score_trees([states[i] for i in batch]), strict=True):
                scores[i] = found
        for i, state in enumerate(states):
            if state.continuations and not self._fits_tree(state):
                scores[i] = self._score_rows(state)
        return scores

    def score_naive(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        """What `score` returns, by the plainest way: one padded row per continuation, each with the whole prompt.

        The reference for tests and benchmarks, and the fallback where `scoring` is "naive".
        """
        return [self._score_rows(s) if s.continuations else [] for s in self._states(prompts, continuations)]

    def sample(self, prompts: Sequence[str], seeds: Sequence[Sequence[int]], sampling: Sampling) -> list[list[str]]:
        """One generation per prompt and seed, without the stop string and what follows it.

        Each seed has a generator of its own and each token is the inverse of the distribution function at its next
        uniform number, so a generation depends on its prompt, its seed and `sampling` alone.

        Raises LanguageModelError for non-finite logits; ValueError for an empty prompt, or a prompt that leaves no room
        for `max_tokens` in the model's context.
        """
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many lists of seeds, not {len(seeds)}")
        tokens = self._tokenize_prompts(prompts)
        for prompt, ids in zip(prompts, tokens, strict=True):
            self._check_length(prompt, len(ids), sampling.max_tokens, "max_tokens")
        texts: list[list[str]] = [[] for _ in prompts]
        # Padding on the left is only sure to be ignored by plain attention.
        size = self.batch_size if self.scoring == "tree" else 1
        for batch in _batches([i for i, s in enumerate(seeds) if s], size, length=lambda i: len(tokens[i])):
            for i, found in zip(
                batch, self._generate([tokens[i] for i in batch], [seeds[i] for i in batch], sampling), strict=True
            ):
                texts[i] = found
        return texts

    def counters(self) -> Mapping[str, float]:
        """What asking took so far, by its name in cost.json."""
        return {"lm/generated_tokens": self._generated_tokens}

    # ---- texts to tokens ---------------------------------------------------------------------------------------------

    def _states(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[_State]:
        if len(continuations) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many lists of continuations, not {len(continuations)}")
        states = [
            _State(ids, [self._continuation(text) for text in texts])
            for ids, texts in zip(self._tokenize_prompts(prompts), continuations, strict=True)
        ]
        for prompt, state in zip(prompts, states, strict=True):
            longest = max(map(len, state.continuations), default=0)
            self._check_length(prompt, len(state.prompt), longest, "tokens of its longest continuation")
        return states

    def _tokenize_prompts(self, prompts: Sequence[str]) -> list[list[int]]:
        if not prompts:
            return []
        plain = [prompt for prompt in prompts if not isinstance(prompt, Conversation)]
        texts = iter(self.tokenizer(plain, add_special_tokens=True, verbose=False)["input_ids"] if plain else [])
        tokens: list[list[int]] = [
            self._tokenize_conversation(p) if isinstance(p, Conversation) else next(texts) for p in prompts
        ]
        if not all(tokens):
            raise ValueError("a prompt has no tokens and this tokenizer adds none at the beginning: give it some text")
        return tokens

    def _tokenize_conversation(self, said: Conversation) -> list[int]:
        found: Any = self.tokenizer.apply_chat_template(
            list(said.messages), add_generation_prompt=True, return_dict=True
        )
        tokens: list[int] = list(found["input_ids"])
        return tokens

    def _tokenize_continuation(self, text: str) -> list[int]:
        tokens: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if not tokens:
            raise ValueError(f"the continuation {text!r} has no tokens, so it has no probability: give it some text")
        return tokens

    def _check_length(self, prompt: str, tokens: int, more: int, what: str) -> None:
        if self._context is not None and tokens + more > self._context:
            raise ValueError(
                f"the prompt {prompt[:40]!r}... has {tokens} tokens; with {more} {what} that is more than the "
                f"{self._context} that {self.identity.model} reads (max_position_embeddings): show less history "
                "(prompt.history_turns), or choose a model with a longer context"
            )

    # ---- scoring -----------------------------------------------------------------------------------------------------

    def _fits_tree(self, state: _State) -> bool:
        """A mask of our own overrides a sliding window, so it is right only inside one."""
        return self.scoring == "tree" and (self._window is None or state.length <= self._window)

    @torch.inference_mode()
    def _score_trees(self, states: Sequence[_State]) -> list[list[Score]]:
        """Each row of the batch: padding, the prompt, the tree of its continuations."""
        trees = [TokenTree(state.continuations) for state in states]
        width = max(len(s.prompt) + len(t.tokens) for s, t in zip(states, trees, strict=True))
        ids = np.zeros((len(states), width), dtype=np.int64)
        positions = np.zeros_like(ids)
        mask = np.zeros((len(states), 1, width, width), dtype=bool)
        for b, (state, tree) in enumerate(zip(states, trees, strict=True)):
            n, start = len(state.prompt), width - len(tree.tokens)
            prompt, nodes = slice(start - n, start), slice(start, width)
            ids[b, prompt], ids[b, nodes] = state.prompt, tree.tokens
            positions[b, prompt], positions[b, nodes] = np.arange(n), n - 1 + tree.depths
            mask[b, 0, prompt, prompt] = np.tri(n, dtype=bool)
            mask[b, 0, nodes, prompt] = True
            mask[b, 0, nodes, nodes] = tree.sees
            padding = np.arange(start - n)
            mask[b, 0, padding, padding] = True  # a token that sees nothing becomes a NaN
        logits = self._forward(
            input_ids=self._tensor(ids),
            attention_mask=self._tensor(mask),
            position_ids=self._tensor(positions),
            use_cache=False,
            keep=1 + max(len(tree.tokens) for tree in trees),
        ).logits
        return [
            self._sums(logits[b, -1 - len(tree.tokens) :], tree.rows, state.continuations)
            for b, (state, tree) in enumerate(zip(states, trees, strict=True))
        ]

    @torch.inference_mode()
    def _score_rows(self, state: _State) -> list[Score]:
        longest = max(map(len, state.continuations))
        ids = np.zeros((len(state.continuations), len(state.prompt) + longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for b, continuation in enumerate(state.continuations):
            row = state.prompt + continuation
            ids[b, : len(row)], mask[b, : len(row)] = row, 1
        logits = self._forward(
            input_ids=self._tensor(ids), attention_mask=self._tensor(mask), use_cache=False, keep=longest + 1
        ).logits[:, :longest]
        rows = [b * longest + j for b, c in enumerate(state.continuations) for j in range(len(c))]
        return self._sums(logits.flatten(0, 1), rows, state.continuations)

    def _sums(self, logits: torch.Tensor, rows: Sequence[int], continuations: Sequence[list[int]]) -> list[Score]:
        """logits [n, vocabulary]; rows: for each token of each continuation, the row that predicts it."""
        logits, row = logits.float(), self._tensor(rows)
        token = self._tensor([token for continuation in continuations for token in continuation])
        logprobs = (logits[row, token] - logits.logsumexp(-1)[row]).tolist()
        if not np.isfinite(logprobs).all():
            raise LanguageModelError(f"{self.identity.model} gave a log-probability that is not a finite number")
        of_each = iter(logprobs)
        sums = [sum(next(of_each) for _ in continuation) for continuation in continuations]
        return [Score(min(total, 0.0), len(c)) for total, c in zip(sums, continuations, strict=True)]

    def _tree_agrees(self, tolerance: float) -> bool:
        """Whether this model's attention takes the tree's mask and positions, seen on a short probe."""
        room = 32 if self._context is None else min(32, self._context)
        vocabulary = self.network.config.get_text_config().vocab_size
        tokens = np.random.Generator(np.random.PCG64(0)).integers(0, vocabulary, 64).tolist()
        prompt, a, b = tokens[: room - 8], tokens[32:40], tokens[40:48]
        probe = _State(prompt, [a, b, a[:4] + b[4:], a[:2] + b[:1], b[:1]])
        naive = self._score_rows(probe)
        try:
            tree = self._score_trees([probe])[0]
        except (LanguageModelError, RuntimeError, TypeError, ValueError, IndexError):
            return False  # a mask of four dimensions is beyond this architecture
        return max(abs(x.logprob - y.logprob) for x, y in zip(naive, tree, strict=True)) <= tolerance

    # ---- sampling ----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _generate(
        self, prompts: Sequence[list[int]], seeds: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[list[str]]:
        """The prompts once, each cache then repeated for the rows that continue it: one row per seed."""
        owners = [b for b, mine in enumerate(seeds) for _ in mine]
        uniforms = np.stack([_uniforms(seed, sampling.max_tokens) for mine in seeds for seed in mine])
        answers = [_Answer() for _ in owners]
        spare = max(0, ROWS_ON_CPU - len(owners)) if self.device == "cpu" else 0
        owner = self._tensor(owners + owners[:1] * spare)
        draws = self._tensor(np.pad(uniforms, ((0, spare), (0, 0))))

        width = max(map(len, prompts))
        ids = self._tensor([[0] * (width - len(p)) + p for p in prompts])
        mask = self._tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        # Prompts of one length need no mask, and attention without one is faster.
        padded = not bool(mask.all())
        out = self._forward(
            input_ids=ids, attention_mask=mask if padded else None, position_ids=positions, use_cache=True, keep=1
        )
        cache = self._repeated(out.get("past_key_values"), owner, sampling.max_tokens)
        logits, mask, position = out.logits[owner, -1], mask[owner], positions[owner, -1:]
        for t in range(sampling.max_tokens):
            if not torch.isfinite(logits.amax(-1)).all():  # a NaN or +inf anywhere; -inf is a token that cannot come
                raise LanguageModelError(f"{self.identity.model} gave logits that are not finite numbers")
            tokens = _draw(logits, draws[:, t], sampling)
            for answer, token in zip(answers, tokens.tolist(), strict=False):
                answer.extend(token, self._ends, self._decode, sampling.stop)
            if all(answer.done for answer in answers) or t == sampling.max_tokens - 1:
                break
            position, mask = position + 1, torch.nn.functional.pad(mask, (0, 1), value=1)
            logits = self._forward(
                input_ids=tokens[:, None],
                attention_mask=mask if padded else None,
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
                keep=1,
            ).logits[:, -1]
        self._generated_tokens += sum(len(answer.tokens) for answer in answers)
        texts = iter(answer.text for answer in answers)
        return [[next(texts) for _ in mine] for mine in seeds]

    def _repeated(self, cache: Any, owner: torch.Tensor, room: int) -> Any:
        if not isinstance(cache, DynamicCache):  # such as a state-space model's
            raise LanguageModelError(
                f"{self.identity.model} ({type(self.network).__name__}) keeps no key-value cache, so it cannot be "
                "sampled here: use prior=sampled or prior=scored, which only score"
            )
        layers: list[Any] = cache.layers
        for i, layer in enumerate(layers):
            if type(layer) is DynamicLayer:
                layers[i] = _RoomyLayer(layer, owner, room)
            else:
                layer.reorder_cache(owner)
        return cache

    def _decode(self, tokens: list[int]) -> str:
        text = self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    # ---- the model ---------------------------------------------------------------------------------------------------

    def _forward(self, keep: int, **inputs: Any) -> Any:
        """The model's output, its `logits` [batch, keep, vocabulary] those of the last `keep` positions."""
        if "position_ids" not in self._accepts:
            inputs.pop("position_ids", None)
        if "logits_to_keep" in self._accepts:
            inputs["logits_to_keep"] = keep
        try:
            out = self.network(**inputs)
        except torch.OutOfMemoryError as error:
            raise LanguageModelError(
                f"out of GPU memory with {self.batch_size} states per forward: "
                f"set lm.batch_size={self.batch_size // 2 or 1} (or lm.dtype=bfloat16, or a smaller model)"
            ) from error
        out.logits = out.logits[:, -keep:]
        return out

    def _tensor(self, values: Any) -> torch.Tensor:
        return torch.as_tensor(values, device=self.device)


class _State(NamedTuple):
    """One prompt and its continuations, as tokens."""

    prompt: list[int]
    continuations: list[list[int]]

    @property
    def length(self) -> int:
        return len(self.prompt) + max(map(len, self.continuations), default=0)


class _Answer:
    """One generation in the making."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.text = ""
        self.done = False

    def extend(self, token: int, ends: frozenset[int], decode: Callable[[list[int]], str], stop: str) -> None:
        if self.done:
            return
        if token in ends:
            self.done = True
            return
        self.tokens.append(token)
        self.text, found, _ = decode(self.tokens).partition(stop) if stop else (decode(self.tokens), "", "")
        self.done = bool(found)


class _RoomyLayer(DynamicLayer):
    """A layer's cache, repeated per row, with room for the tokens to come: without it every step copies all of it."""

    def __init__(self, layer: DynamicLayer, owner: torch.Tensor, room: int) -> None:
        super().__init__()
        assert layer.keys is not None
        assert layer.values is not None
        self._length = layer.get_seq_length()
        self._buffers = (self._repeated(layer.keys, owner, room), self._repeated(layer.values, owner, room))
        self.dtype, self.device, self.is_initialized = layer.dtype, layer.device, True
        self.keys, self.values = (buffer[:, :, : self._length] for buffer in self._buffers)

    def _repeated(self, part: torch.Tensor, owner: torch.Tensor, room: int) -> torch.Tensor:
        prompts, heads, length, width = part.shape
        buffer = part.new_empty(len(owner), heads, length + room, width)
        buffer[:, :, :length] = part if prompts == 1 else part[owner]
        return buffer

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        end = self._length + key_states.shape[-2]
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, self._length : end] = new
        self._length = end
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values


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

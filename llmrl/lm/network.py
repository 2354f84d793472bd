"""A causal network of transformers, asked in token ids: exactly and slowly, or fast where that is proven equal.

The exact way is the definition of every number: one unpadded row for each continuation, and one for each token that is
drawn, with no cache, no mask and no positions given. The fast ways are three. A tree holds the prompt once and all its
continuations beside each other, under a 4-D mask. Blocks are a tree after keys and values that are kept: prompts that
begin with the same tokens share them. A cache keeps what a prompt computed for the tokens drawn after it.
`llmrl.lm.fast_path_proof` finds out for which lengths the fast ways give what the exact one does.

Shapes: B prompts, R rows (generations), N tokens of a row, V the vocabulary.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from llmrl.lm.language_model import LanguageModelError
from llmrl.lm.token_tree import TokenTree

BLOCK = 64  # tokens whose keys and values are kept together
BLOCKS_BYTES = 2**28  # of keys and values, at most
ROWS_ON_CPU = 4  # matrix products of fewer rows round differently: below it a draw would depend on how many are drawn


# How a model says that a text is too long for it, or that it is none of the kind that is asked here.
FAILURES = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


class State(NamedTuple):
    """One prompt and its continuations, as tokens; none of them is empty."""

    prompt: list[int]
    continuations: list[list[int]]

    @property
    def length(self) -> int:
        return len(self.prompt) + max(map(len, self.continuations), default=0)


class Steps(Protocol):
    """Generations in the making, one row each."""

    logits: torch.Tensor  # [R or more, V] of each row's next token; rows beyond R are to be ignored

    def advance(self, tokens: torch.Tensor) -> None:
        """tokens [rows of `logits`]: what was drawn; `logits` are then those of the tokens after it."""
        ...


class Network:
    """`model` in evaluation mode on `device`. Raises LanguageModelError where the model fails on what it is given."""

    def __init__(self, model: PreTrainedModel, device: str) -> None:
        self.model, self.device = model, device
        self.keeps_last = True  # whether `logits_to_keep` may be used
        self._accepts = frozenset(inspect.signature(model.forward).parameters)
        # Dynamic rotary factors stay those of the longest text so far: a row would depend on what was asked before it.
        self._rotary = [module for module in model.modules() if "dynamic" in str(getattr(module, "rope_type", ""))]
        self._blocks = _Blocks()

    @torch.inference_mode()
    def score_rows(self, state: State) -> list[list[float]]:
        """log p of each token of each continuation, in nats: the exact way."""
        return [self._score_row(state.prompt, continuation) for continuation in state.continuations]

    def _score_row(self, prompt: list[int], continuation: list[int]) -> list[float]:
        n = len(continuation)
        logits_NV = self._forward(keep=n + 1, input_ids=self._tensor([prompt + continuation]), use_cache=False).logits
        return self._logprobs(logits_NV[0, :n], range(n), continuation)

    @torch.inference_mode()
    def score_trees(self, states: Sequence[State]) -> list[list[list[float]]]:
        """`score_rows` of each state, in one forward. Each row of it: padding, the prompt, its tree."""
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
            keep=1 + max(len(tree.tokens) for tree in trees),
            input_ids=self._tensor(ids),
            attention_mask=self._attention_mask(self._tensor(mask)),
            position_ids=self._tensor(positions),
            use_cache=False,
        ).logits
        found = []
        for b, (state, tree) in enumerate(zip(states, trees, strict=True)):
            tokens = [token for continuation in state.continuations for token in continuation]
            logprobs = iter(self._logprobs(logits[b, -1 - len(tree.tokens) :], tree.rows, tokens))
            found.append([[next(logprobs) for _ in continuation] for continuation in state.continuations])
        return found

    @torch.inference_mode()
    def score_after_blocks(self, state: State, block: int = BLOCK) -> list[list[float]]:
        """`score_rows`. The prompt's whole blocks, but for its last token, are computed each on its own, and once.

        So the numbers of a state depend on its own tokens alone, whatever was asked before.
        """
        whole = (len(state.prompt) - 1) // block * block
        blocks: list[list[_Pair]] = []
        for end in range(block, whole + 1, block):
            beginning = tuple(state.prompt[:end])
            found = self._blocks.get(beginning)
            if found is None:
                out = self._forward(
                    keep=1,
                    input_ids=self._tensor([state.prompt[end - block : end]]),
                    position_ids=self._tensor([list(range(end - block, end))]),
                    past_key_values=_join(blocks),
                    use_cache=True,
                )
                found = self._blocks.add(beginning, _copy_tail(out.get("past_key_values"), block))
            blocks.append(found)
        rest, tree = state.prompt[whole:], TokenTree(state.continuations)
        n, nodes = len(rest), len(tree.tokens)
        sees = np.zeros((n + nodes, whole + n + nodes), dtype=bool)
        sees[:, :whole] = True
        sees[:n, whole : whole + n] = np.tri(n, dtype=bool)
        sees[n:, whole : whole + n] = True
        sees[n:, whole + n :] = tree.sees
        logits = self._forward(
            keep=1 + nodes,
            input_ids=self._tensor([rest + tree.tokens]),
            attention_mask=self._attention_mask(self._tensor(sees[None, None])),
            position_ids=self._tensor([[*range(whole, whole + n), *(len(state.prompt) - 1 + tree.depths).tolist()]]),
            past_key_values=_join(blocks),
            use_cache=True,
        ).logits
        tokens = [token for continuation in state.continuations for token in continuation]
        logprobs = iter(self._logprobs(logits[0], tree.rows, tokens))
        return [[next(logprobs) for _ in continuation] for continuation in state.continuations]

    def logits(self, row: list[int]) -> torch.Tensor:
        """[N, V] of the tokens after each token of one row: the exact way."""
        with torch.inference_mode():
            logits: torch.Tensor = self._forward(keep=None, input_ids=self._tensor([row]), use_cache=False).logits[0]
            return logits

    def next_logits(self, row: list[int]) -> torch.Tensor:
        """[V] of the token after one row: the exact way."""
        with torch.inference_mode():
            logits: torch.Tensor = self._forward(keep=1, input_ids=self._tensor([row]), use_cache=False).logits[0, -1]
            return logits

    def _logprobs(self, logits_NV: torch.Tensor, rows: Sequence[int], tokens: Sequence[int]) -> list[float]:
        """log p of each token, predicted by that row of the logits."""
        logits_NV, row, token = logits_NV.float(), self._tensor(rows), self._tensor(tokens)
        logprobs: list[float] = (logits_NV[row, token] - logits_NV.logsumexp(-1)[row]).tolist()
        if not np.isfinite(logprobs).all():
            raise LanguageModelError(f"{type(self.model).__name__} gave a log-probability that is not a finite number")
        return logprobs

    def _attention_mask(self, sees: torch.Tensor) -> torch.Tensor:
        """sees [B, 1, N, N]: as the model's attention reads a mask that is given to it whole."""
        if self.model.config._attn_implementation != "eager":
            return sees
        dtype = self.model.dtype
        return torch.zeros(sees.shape, dtype=dtype, device=self.device).masked_fill(~sees, torch.finfo(dtype).min)

    def _forward(self, keep: int | None, **inputs: Any) -> Any:
        """The model's output, its `logits` [B, keep, V] those of the last `keep` positions; None: of all."""
        if "position_ids" not in self._accepts:
            inputs.pop("position_ids", None)
        if keep is not None and self.keeps_last and "logits_to_keep" in self._accepts:
            inputs["logits_to_keep"] = keep
        for module in self._rotary:
            _forget_longer_texts(module)
        try:
            out = self.model(**inputs)
        except torch.OutOfMemoryError as error:
            raise LanguageModelError(
                f"out of GPU memory with {len(inputs['input_ids'])} states per forward: set lm.batch_size to fewer "
                "(or lm.dtype=bfloat16, or take a smaller model)"
            ) from error
        except FAILURES as e:
            raise LanguageModelError(
                f"{type(self.model).__name__} failed on a text of {inputs['input_ids'].shape[-1]} tokens "
                f"({type(e).__name__}: {(str(e).strip().splitlines() or ['no reason given'])[0]})"
            ) from e
        if keep is not None:
            out.logits = out.logits[:, -keep:]
        return out

    def _tensor(self, values: Any) -> torch.Tensor:
        return torch.as_tensor(values, device=self.device)


def _forget_longer_texts(module: torch.nn.Module) -> None:
    """Rotary factors as before the first text; transformers keeps one set, or one for each type of layer."""
    for name in [name for name in (*vars(module), *dict(module.named_buffers())) if name.endswith("original_inv_freq")]:
        prefix, original = name.removesuffix("original_inv_freq"), getattr(module, name)
        current = getattr(module, f"{prefix}inv_freq")
        module.register_buffer(f"{prefix}inv_freq", original.to(current.device), persistent=False)
        setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)


_Pair = tuple[torch.Tensor, torch.Tensor]  # keys and values of a layer, each [1, heads, tokens, width]


class _Blocks:
    """Keys and values of blocks, by all tokens from the text's first to the block's last; the oldest are forgotten."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, ...], list[_Pair]] = OrderedDict()

    def get(self, beginning: tuple[int, ...]) -> list[_Pair] | None:
        if beginning in self._kept:
            self._kept.move_to_end(beginning)
        return self._kept.get(beginning)

    def add(self, beginning: tuple[int, ...], layers: list[_Pair]) -> list[_Pair]:
        self._kept[beginning] = layers
        bytes_each = sum(part.nbytes for pair in layers for part in pair)
        while len(self._kept) > max(BLOCKS_BYTES // bytes_each, 1):
            self._kept.popitem(last=False)
        return layers


def _copy_tail(cache: Any, last: int) -> list[_Pair]:
    """The keys and values of the last tokens of a cache."""
    layers: list[Any] = cache.layers if isinstance(cache, DynamicCache) else []
    if not layers or any(type(layer) is not DynamicLayer for layer in layers):
        raise LanguageModelError(f"a cache of type {type(cache).__name__} is none of keys and values of all tokens")
    return [(layer.keys[:, :, -last:].clone(), layer.values[:, :, -last:].clone()) for layer in layers]


def _join(blocks: list[list[_Pair]]) -> DynamicCache:
    """A cache of all blocks, one after the other, that may grow."""
    layers = [[torch.cat(parts, -2) for parts in zip(*of_layer, strict=True)] for of_layer in zip(*blocks, strict=True)]
    return DynamicCache([(keys, values) for keys, values in layers] or None)


class ExactSteps:
    """Each row is computed anew, alone and whole, for each of its tokens. owners: the prompt of each row."""

    def __init__(self, network: Network, prompts: Sequence[list[int]], owners: Sequence[int]) -> None:
        self._network = network
        self._rows = [prompts[owner] for owner in owners]
        self.logits = self._compute()

    def advance(self, tokens: torch.Tensor) -> None:
        self._rows = [[*row, token] for row, token in zip(self._rows, tokens.tolist(), strict=True)]
        self.logits = self._compute()

    def _compute(self) -> torch.Tensor:
        of = {row: self._network.next_logits(list(row)) for row in dict.fromkeys(map(tuple, self._rows))}
        return torch.stack([of[tuple(row)] for row in self._rows])


class CachedSteps:
    """The prompts once, padded on the left; their cache is then repeated for the rows that continue them.

    room: the most tokens that will be drawn.
    """

    def __init__(self, network: Network, prompts: Sequence[list[int]], owners: Sequence[int], room: int) -> None:
        self._network = network
        spare = max(0, ROWS_ON_CPU - len(owners)) if network.device == "cpu" else 0
        owner = network._tensor([*owners, *[owners[0]] * spare])
        width = max(map(len, prompts))
        ids = network._tensor([[0] * (width - len(p)) + p for p in prompts])
        mask = network._tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        # Prompts of one length need no mask, and attention without one is faster.
        self._padded = not bool(mask.all())
        out = self._read(ids, mask, positions)
        self._cache = _repeat(out.get("past_key_values"), owner, room)
        self.logits, self._mask, self._position = out.logits[owner, -1], mask[owner], positions[owner, -1:]

    def advance(self, tokens: torch.Tensor) -> None:
        self._position = self._position + 1
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        self.logits = self._read(tokens[:, None], self._mask, self._position, past_key_values=self._cache).logits[:, -1]

    @torch.inference_mode()
    def _read(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, **past: Any) -> Any:
        return self._network._forward(
            keep=1,
            input_ids=ids,
            attention_mask=mask if self._padded else None,
            position_ids=positions,
            use_cache=True,
            **past,
        )


def _repeat(cache: Any, owner: torch.Tensor, room: int) -> DynamicCache:
    """The cache of some prompts as that of the rows that continue them."""
    if not isinstance(cache, DynamicCache):
        raise LanguageModelError(f"a cache of type {type(cache).__name__} is none of keys and values")
    layers: list[Any] = cache.layers
    for i, layer in enumerate(layers):
        if type(layer) is DynamicLayer and layer.keys is not None:
            layers[i] = _RoomyLayer(layer, owner, room)
        else:
            layer.reorder_cache(owner)
    return cache


class _RoomyLayer(DynamicLayer):
    """A layer's cache, repeated per row, with room for the tokens to come: without it every step copies all of it."""

    def __init__(self, layer: DynamicLayer, owner: torch.Tensor, room: int) -> None:
        super().__init__()
        assert layer.keys is not None
        assert layer.values is not None
        self._length = layer.get_seq_length()
        self._buffers = (self._repeat_part(layer.keys, owner, room), self._repeat_part(layer.values, owner, room))
        self.dtype, self.device, self.is_initialized = layer.dtype, layer.device, True
        self.keys, self.values = (buffer[:, :, : self._length] for buffer in self._buffers)

    def _repeat_part(self, part: torch.Tensor, owner: torch.Tensor, room: int) -> torch.Tensor:
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

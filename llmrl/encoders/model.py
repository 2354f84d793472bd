"""Encoders with a model behind them: the last layer's hidden states, frozen.

phi(s, a) = layer_norm(pool(h_1 .. h_n)), h the last layer's states over the n tokens of the pair's text.

The layer norm has no weights: each row gets mean 0 and variance 1 over its coordinates, which is the scale of `hash`,
so that Q trains under the same settings whatever the model's own scale is. Nothing is estimated from data.
`bert` with pooling=cls is what arXiv 2410.07927 gives its Q (there unscaled).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, cast

import numpy as np
import torch
from torch.nn import functional as F

from llmrl.encoders.encoder import RowStore
from llmrl.lm.identify import identify
from llmrl.lm.language_model import ModelIdentity
from llmrl.lm.load import CAUSAL, choose_device, describe_device, load
from llmrl.schema.encoders import ModelEncoderConfig


class ModelEncoder:
    """Any causal language model that `transformers` loads: its hidden states, not its next token.

    cfg.pooling: "last" (the last token's state, the only one that has seen the whole text), "mean", or "cls" (the
    first token's, for models that look both ways).

    On a CPU one text is read at a time, so that a row is the same bits whatever else is asked for; on a GPU
    cfg.batch_size padded texts are, and a row moves in its last digits with its neighbours.

    kept: where rows are kept. With it the model is loaded when the first row is missing, and must be the one that was
    found when this was made; without it, at once, and nothing is kept.

    Raises ValueError for a model, revision, dtype or device that cannot be had, and for a pooling that tells no two
    texts apart.
    """

    architecture = CAUSAL

    def __init__(
        self, cfg: ModelEncoderConfig, kept: RowStore | None = None, identity: ModelIdentity | None = None
    ) -> None:
        self.device = choose_device(cfg.device, "encoder")
        self.identity = identity or identify(cfg.model, cfg.revision, cfg.dtype, "encoder")
        self.cfg = replace(cfg, model=self.identity.model, revision=self.identity.revision)  # what was found
        self.history_turns = cfg.history_turns
        self.network: Any = None
        self._asked, self._kept = cfg, kept
        self._batch_size = 1 if self.device == "cpu" else cfg.batch_size
        self._together: Callable[[int], bool] = lambda length: True  # whether texts of this length may be padded
        # All that changes a row, beside its text. How texts are batched on a GPU moves its last digits alone.
        self._name = {"class": type(self).__name__, "pooling": cfg.pooling, **asdict(self.identity)}
        known = kept.dim(self._name) if kept is not None else None
        self.dim: int = self._load() if known is None else known

    def encode(self, texts: Sequence[tuple[str, Sequence[str]]]) -> list[np.ndarray]:
        """Raises ValueError for a text longer than the model reads, and for features that are not finite."""
        pairs = [pair_text(state, action) for state, actions in texts for action in actions]
        if self._kept is None:
            rows = self._compute(pairs)
        else:
            found = self._kept.rows(self._name, pairs, self._computed_bytes, self._provenance)
            rows = np.frombuffer(b"".join(found), dtype="<f4").astype(np.float32).reshape(len(pairs), self.dim)
        ends = np.cumsum([len(actions) for _, actions in texts])
        return [rows[end - len(actions) : end] for end, (_, actions) in zip(ends, texts, strict=True)]

    def _load(self) -> int:
        """Returns the length of a row."""
        cfg, identity = self._asked, self.identity
        now = identify(cfg.model, cfg.revision, cfg.dtype, "encoder")
        if now != identity:
            raise ValueError(
                f"encoder.model={cfg.model} has changed since the run started, from {identity} to {now}: its features "
                "would be kept under a wrong name; type the same command again"
            )
        self.tokenizer, network = load(
            cfg.model, identity.revision, cfg.dtype, self.device, self.architecture, "encoder"
        )
        if self.architecture == CAUSAL:  # its attention and its batches as far as they are exact
            from llmrl.lm.fast_path_proof import prove

            proof = prove(network, self.device)
            network.set_attn_implementation(proof.attention)
            self._together = lambda length: not proof.alone and proof.allows("cache", length)
        self.network = cast(Any, network.base_model)
        self.network.config.use_cache = False  # nothing is generated
        config = self.network.config.get_text_config()
        # Both, since some models count positions from above 0, and only their tokenizer knows how many are left.
        self._context = min(getattr(config, "max_position_embeddings", None) or 2**62, self.tokenizer.model_max_length)
        self._refuse_blindness()
        return int(config.hidden_size)

    def _computed_bytes(self, texts: list[str]) -> list[bytes]:
        if self.network is None:
            self._load()
        return [row.astype("<f4").tobytes() for row in self._compute(texts)]

    def _provenance(self) -> dict[str, str]:
        import transformers

        return {
            "torch": torch.__version__, "transformers": transformers.__version__,
            "device": describe_device(self.device),
        }  # fmt: skip

    def _compute(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [texts, dim]; equal texts are read once."""
        distinct = {text: self._tokenize(text) for text in texts}
        tokens = list(distinct.values())
        width = self.network.config.get_text_config().hidden_size
        rows = np.empty((len(tokens), width), dtype=np.float32)
        by_length = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))  # so that little is padding
        together = [i for i in by_length if self._together(len(tokens[i]))]
        batches = [together[start : start + self._batch_size] for start in range(0, len(together), self._batch_size)]
        for batch in [*batches, *([i] for i in by_length if not self._together(len(tokens[i])))]:
            rows[batch] = self._forward([tokens[i] for i in batch])
        if not np.isfinite(rows).all():
            raise ValueError(
                f"{self.identity.model} gives features that are not finite numbers in {self.cfg.dtype}: "
                "type encoder.dtype=float32"
            )
        at = {text: i for i, text in enumerate(distinct)}
        return rows[[at[text] for text in texts]]

    def _tokenize(self, text: str) -> list[int]:
        tokens: list[int] = self.tokenizer(text, verbose=False)["input_ids"]
        if len(tokens) > self._context:
            raise ValueError(
                f"the text {text[:40]!r}... has {len(tokens)} tokens, more than the {self._context} that "
                f"{self.identity.model} reads: show less history (encoder.history_turns), or choose a model with a "
                "longer context (encoder.model)"
            )
        return tokens

    @torch.inference_mode()
    def _forward(self, texts: Sequence[list[int]]) -> np.ndarray:
        """float32 [texts, dim]. Padding stands at the end, where no real token of a causal model sees it."""
        width = max(map(len, texts))
        ids = torch.tensor([text + [0] * (width - len(text)) for text in texts], device=self.device)
        mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in texts], device=self.device)
        hidden = self.network(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        pooled = torch.stack([self._pool(h[: len(text)]) for h, text in zip(hidden, texts, strict=True)])
        return F.layer_norm(pooled, pooled.shape[-1:], eps=1e-12).cpu().numpy()

    def _pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """[tokens, dim] -> [dim]"""
        if self.cfg.pooling == "mean":
            return hidden.mean(0)
        return hidden[0 if self.cfg.pooling == "cls" else -1]

    def _refuse_blindness(self) -> None:
        """The first token of a causal model sees none of those after it; a vocabulary may know none of our words."""
        one, other = self._compute([pair_text("A room.", action) for action in ("go to the door", "take the red key")])
        if np.array_equal(one, other):
            raise ValueError(
                f"{self.identity.model} with encoder.pooling={self.cfg.pooling} gives different texts the same row, so "
                "Q could tell no two actions apart: use encoder.pooling=last or mean (cls is for models that look "
                "both ways, such as BERT)"
            )


class BertEncoder(ModelEncoder):
    """Any encoder that `transformers` loads, such as BERT; cfg.pooling is "cls" in the paper."""

    architecture = "AutoModel"


def pair_text(state: str, action: str) -> str:
    """The text of a state and an action, as the model reads it."""
    return f"{state}\nAction: {action}"

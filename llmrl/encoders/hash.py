"""The default encoder: hashed word n-grams, randomly projected. No model stands behind it.

phi(s, a) = F^-1/2 sum_f R[f] over the F features f of the pair: the n-grams of each line of the state's text, and the
same n-grams joined with the action. The first let actions share what is common to a state, the second tell them apart.
R has standard normal rows, drawn once from a fixed seed, so phi is the same on every machine and for every arm of a
comparison. (Feature hashing: Weinberger et al. 2009, arXiv 0902.2206.)
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from llmrl.schema.encoders import EncoderConfig

BUCKETS = 1 << 15


class HashEncoder:
    def __init__(self, cfg: EncoderConfig) -> None:
        if cfg.dim < 1 or cfg.ngrams < 1:
            raise ValueError(f"encoder.dim={cfg.dim} and encoder.ngrams={cfg.ngrams} must be at least 1")
        self.cfg = cfg
        self.dim, self.history_turns, self.ngrams = cfg.dim, cfg.history_turns, cfg.ngrams
        generator = np.random.Generator(np.random.PCG64(cfg.seed))
        self._projection = torch.from_numpy(generator.standard_normal((BUCKETS, cfg.dim), dtype=np.float32))

    def encode(self, texts: Sequence[tuple[str, Sequence[str]]]) -> list[np.ndarray]:
        return [self._encode(state, actions) for state, actions in texts]

    def _encode(self, state: str, actions: Sequence[str]) -> np.ndarray:
        grams = np.array(self._grams(state), dtype=np.uint64)
        names = np.array([zlib.crc32(action.casefold().encode()) for action in actions], dtype=np.uint64)
        joined = grams * np.uint64(0x9E3779B97F4A7C15) ^ names[:, None]
        buckets = torch.from_numpy(_bucket(np.vstack([grams, joined])))
        sums = F.embedding_bag(
            buckets, self._projection, mode="sum"
        )  # each row for itself, in the order of its features
        return ((sums[1:] + sums[0]) / (2 * grams.size) ** 0.5).numpy()

    def _grams(self, state: str) -> list[int]:
        hashes = []
        for number, line in enumerate(state.casefold().split("\n")):
            words = line.split() or [""]
            for n in range(1, self.ngrams + 1):
                hashes += [
                    zlib.crc32(f"{number} {' '.join(words[i : i + n])}".encode()) for i in range(len(words) - n + 1)
                ]
        return sorted(set(hashes))


def _bucket(hashes: np.ndarray) -> np.ndarray:
    """Spread the bits (splitmix64's finaliser), then keep the top ones."""
    x = hashes.copy()
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    return (x >> np.uint64(64 - 15)).astype(np.int64)

"""Randomness: one seed a run, split by name into independent streams."""

from __future__ import annotations

import hashlib
import struct

import numpy as np


def stream(seed: int, *name: str | int) -> np.random.Generator:
    """The generator of one named use, e.g. `stream(seed, "replay")`; equal names give equal numbers anywhere."""
    words = [seed, *_words(*name)]
    # As an array they are taken as they are, one by one they take as long as all the rest; a longer seed is several.
    entropy = np.array(words, dtype=np.uint32) if 0 <= seed < 2**32 else words
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def integer(seed: int, *name: str | int) -> int:
    """A 31-bit seed for something that wants one, e.g. an environment's reset."""
    return int(stream(seed, *name).integers(2**31))


def draw_from(cumulative: np.ndarray, u: np.ndarray | float) -> np.ndarray:
    """int64 [*]: the places that uniform numbers u in [0, 1), [*], pick by weight: the inverse distribution function.

    `cumulative`: sums of weights of at least 0, [*, A] or what broadcasts to it; the last need not be 1.
    """
    at = u * cumulative[..., -1]
    if cumulative.ndim == 1:  # the same, for less
        return np.minimum(cumulative.searchsorted(at, side="right"), cumulative.size - 1)
    below: np.ndarray = (cumulative <= at[..., None]).sum(-1)
    return np.minimum(below, cumulative.shape[-1] - 1)


def _words(*name: str | int) -> tuple[int, ...]:
    digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
    return struct.unpack("<4I", digest[:16])

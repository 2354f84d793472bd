"""Randomness: one seed a run, split by name into independent streams."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *name: str | int) -> np.random.Generator:
    """The generator of one named use, e.g. `stream(seed, "replay")`; equal names give equal numbers anywhere."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *_words(*name)])))


def integer(seed: int, *name: str | int) -> int:
    """A 31-bit seed for something that wants one, e.g. an environment's reset."""
    return int(stream(seed, *name).integers(2**31))


def _words(*name: str | int) -> list[int]:
    digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
    return [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4)]

"""A sum tree: draws of leaves by their values, and changes of values, in log2(leaves) steps for many at once."""

from __future__ import annotations

import numpy as np


class SumTree:
    """Leaf i is node i + leaves, and node n is the sum of nodes 2n and 2n+1; node 1 is the total."""

    def __init__(self, capacity: int) -> None:
        self._leaves = 1 << (capacity - 1).bit_length()
        self._sums = np.zeros(2 * self._leaves)

    @property
    def total(self) -> float:
        return float(self._sums[1])

    def __getitem__(self, leaves: np.ndarray) -> np.ndarray:
        """float64 [B]"""
        return self._sums[leaves + self._leaves]

    def __setitem__(self, leaves: np.ndarray, values: np.ndarray) -> None:
        """`leaves`: int64 [B]; of equal ones the last counts. `values`: not negative."""
        nodes = leaves + self._leaves
        self._sums[nodes] = values
        while nodes[0] > 1:
            nodes = nodes >> 1
            self._sums[nodes] = self._sums[2 * nodes] + self._sums[2 * nodes + 1]

    def find(self, mass: np.ndarray) -> np.ndarray:
        """int64 [B]: the leaf at which the running sum of all values first exceeds `mass`, which is in [0, total).

        A leaf of value 0 is never found, whatever rounding does.
        """
        nodes = np.ones(mass.size, dtype=np.int64)
        while nodes[0] < self._leaves:
            nodes = 2 * nodes
            left = self._sums[nodes]
            right = (mass >= left) & (self._sums[nodes + 1] > 0)
            mass = np.where(right, mass - left, mass)
            nodes = nodes + right
        return nodes - self._leaves

    def save(self) -> np.ndarray:
        """float64 [leaves]"""
        return self._sums[self._leaves :]

    def restore(self, leaves: np.ndarray) -> None:
        """Sums are of two nodes each, so that they come out as the same bits as those that were kept up to date."""
        self._sums[self._leaves :] = leaves
        for node in range(self._leaves - 1, 0, -1):
            self._sums[node] = self._sums[2 * node] + self._sums[2 * node + 1]

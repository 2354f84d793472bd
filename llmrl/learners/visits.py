"""Counts of each action in each state. The feature row of the pair's text tells states apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class Visits:
    """N(s, a); 0 for a row that was never counted."""

    def __init__(self) -> None:
        self._n = np.zeros(1024, dtype=np.int64)

    def count(self, row: int) -> None:
        self._reach(row)
        self._n[row] += 1

    def of(self, rows: np.ndarray) -> np.ndarray:
        """int64, in the shape of `rows`; any number where a row is negative."""
        self._reach(int(rows.max(initial=0)))
        return self._n[rows]

    def save(self) -> dict[str, Any]:
        rows = np.flatnonzero(self._n)
        return {"rows": rows, "visits": self._n[rows]}

    def restore(self, saved: Mapping[str, Any]) -> None:
        self._n[:] = 0
        self._reach(int(saved["rows"].max(initial=0)))
        self._n[saved["rows"]] = saved["visits"]

    def _reach(self, row: int) -> None:
        while row >= len(self._n):
            self._n = np.concatenate([self._n, np.zeros_like(self._n)])

"""Whether counts are those of given chances, and whether two samples are of one distribution: chi-square tests."""

from __future__ import annotations

from collections import Counter

import torch

CHANCE = 1e-3  # of a verdict against two that are the same


def goodness_of_fit(seen: Counter[str], expected: dict[str, float]) -> float:
    """p-value of counts against chances; what is named by none, and what is too rare to tell, is one class."""
    n = seen.total()
    common = {text: n * p for text, p in expected.items() if n * p >= 5}
    rest = n - sum(common.values()), n - sum(seen[text] for text in common)
    cells = [(seen[text], mean) for text, mean in common.items()]
    cells += [(rest[1], rest[0])] if rest[0] >= 5 else []
    return p_value(sum((count - mean) ** 2 / mean for count, mean in cells), len(cells) - 1)


def homogeneity(a: Counter[str], b: Counter[str]) -> float:
    """p-value of two samples of one size having one distribution."""
    common = [text for text in a | b if a[text] + b[text] >= 10]
    pairs = [(a[text], b[text]) for text in common]
    rest = a.total() - sum(x for x, _ in pairs), b.total() - sum(y for _, y in pairs)
    pairs += [rest] if sum(rest) >= 10 else []
    assert a.total() == b.total()
    return p_value(sum((x - y) ** 2 / (x + y) for x, y in pairs), len(pairs) - 1)


def p_value(statistic: float, freedom: int) -> float:
    if freedom < 1:
        return 1.0
    half = torch.tensor([freedom / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))

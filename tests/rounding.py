"""Whether two runs agree on processors, or on numbers of threads, that round sums in different orders."""

from __future__ import annotations

import math
from typing import Any

# Instruction sets and thread counts moved no metric of the golden curves by more than 8 parts in 10 million. One hit
# more or less among the N decisions, rows or episodes of a share moves it by at least 1/N, and N is at most SHARED_BY:
# between the two, RELATIVE forgives every rounding and no count. ABSOLUTE is a float32's rounding of a term of size 1,
# for differences of such terms that come near 0.
RELATIVE, ABSOLUTE = 1e-4, 1e-7
SHARED_BY = 240


def differences(found: list[dict[str, Any]], golden: list[dict[str, Any]]) -> list[str]:
    """What rows of metrics hold that those of another run do not, beyond rounding."""
    if [row.keys() for row in found] != [row.keys() for row in golden]:
        return [f"rows of {[sorted(row) for row in found]}, once {[sorted(row) for row in golden]}"]
    return [
        f"row {i}, {key}: {now[key]!r}, once {value!r}"
        for i, (now, then) in enumerate(zip(found, golden, strict=True))
        for key, value in then.items()
        if not agree(now[key], value)
    ]


def agree(now: object, then: object) -> bool:
    if isinstance(now, float) and isinstance(then, float):
        return math.isclose(now, then, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return type(now) is type(then) and now == then

from __future__ import annotations

import math

import pytest

from llmrl.lm.language_model import Sampling


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 0),
        ("temperature", -0.1),
        ("temperature", math.inf),
        ("temperature", math.nan),
        ("top_p", 0.0),
        ("top_p", 1.1),
    ],
)
def test_sampling_out_of_range(field: str, value: float):
    with pytest.raises(ValueError, match=f"{field}="):
        Sampling(**{field: value})


def test_sampling_at_its_bounds():
    assert Sampling(max_tokens=1, temperature=0.0, top_p=1.0, stop="").stop == ""

from __future__ import annotations

import math

import pytest

from llmrl.lm.language_model import Sampling, before_stop, stopping


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


def test_several_texts_end_an_answer_and_one_is_named_as_ever() -> None:
    assert [stopping(texts) for texts in ([], ["\n"], ["a", "b"])] == ["", "\n", ("a", "b")]
    assert before_stop("a cab", ("b", "c")) == ("a ", True)
    assert before_stop("a cab", "") == before_stop("a cab", ("x", "y")) == ("a cab", False)

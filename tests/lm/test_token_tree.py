from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmrl.lm.token_tree import TokenTree

continuations = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=8)


@given(continuations)
def test_each_token_is_predicted_by_what_comes_before_it(texts: list[list[int]]):
    tree = TokenTree(texts)
    rows = iter(tree.rows)
    for text in texts:
        for i in range(len(text)):
            row = next(rows)
            seen = np.flatnonzero(tree.sees[row - 1]) if row else []
            assert [tree.tokens[j] for j in seen] == text[:i]
            assert [tree.depths[j] for j in seen] == list(range(1, i + 1))
    assert next(rows, None) is None


@given(continuations)
def test_a_shared_beginning_is_one_node(texts: list[list[int]]):
    beginnings = {tuple(text[:i]) for text in texts for i in range(1, len(text))}
    assert len(TokenTree(texts).tokens) == len(beginnings)


@given(continuations)
def test_nodes_see_only_what_is_before_them(texts: list[list[int]]):
    sees = TokenTree(texts).sees
    assert np.array_equal(sees, np.tril(sees))
    assert sees.diagonal().all()

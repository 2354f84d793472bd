"""Many continuations of one prompt as one sequence: a tree in which a shared beginning is computed once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class TokenTree:
    """The tree of `continuations` (token lists, none empty) below a prompt's last token.

    A node stands for a token whose successor is to be predicted: every token but a continuation's last, once per
    distinct beginning. Parents come before their children.

    tokens: [nodes] the nodes' tokens.
    depths: [nodes] how many tokens below the prompt, 1 for the first.
    sees: [nodes, nodes] whether a node attends to another: to its ancestors and itself.
    rows: for each token of each continuation, one after the other, what predicts it: 0 the prompt's last token, i the
        i-th node (counted from 1).
    """

    def __init__(self, continuations: Sequence[Sequence[int]]) -> None:
        children: dict[tuple[int, int], int] = {}  # (row of the parent, token) -> row
        self.rows: list[int] = []
        for continuation in continuations:
            row = 0
            self.rows.append(row)
            for token in continuation[:-1]:
                row = children.setdefault((row, token), len(children) + 1)
                self.rows.append(row)
        self.tokens = [token for _, token in children]
        self.sees = np.eye(len(children), dtype=bool)
        for (parent, _), row in children.items():
            if parent:
                self.sees[row - 1] |= self.sees[parent - 1]
        self.depths = self.sees.sum(-1)

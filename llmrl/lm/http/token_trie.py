"""Which next tokens to ask about, to know the probabilities of many continuations: the inner nodes of their trie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

MOST_IDS = 128  # tokens that one request may name (vLLM's limit)
MOST_ROWS = 128  # nodes in one request: a round of a server takes about as many


class Node(NamedTuple):
    """A place in the trie: the tokens that lead there from the prompt, and those asked about as the next one."""

    before: tuple[int, ...]
    ids: tuple[int, ...]


class Row(NamedTuple):
    """A node below one of several prompts."""

    prompt: int
    node: Node


Table = Mapping[tuple[int, ...], Mapping[int, float]]  # before -> next token -> log-probability


def trie_nodes(continuations: Sequence[Sequence[int]]) -> list[Node]:
    """The inner nodes, those near the prompt first; one with more than MOST_IDS next tokens comes in parts."""
    children: dict[tuple[int, ...], dict[int, None]] = {}
    for continuation in continuations:
        for i, token in enumerate(continuation):
            children.setdefault(tuple(continuation[:i]), {})[token] = None
    return [
        Node(before, part)
        for before, ids in sorted(children.items(), key=lambda node: len(node[0]))
        for part in _parts(tuple(ids))
    ]


def requests(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Rows that can be asked about together: all the tokens that they name are asked of each.

    Near the prompt first, and those that name the same tokens beside each other, so that few are asked for in vain.
    """
    some: list[Row] = []
    ids: set[int] = set()
    for row in sorted(rows, key=lambda row: (len(row.node.before), row.node.ids)):
        if some and (len(ids.union(row.node.ids)) > MOST_IDS or len(some) == MOST_ROWS):
            yield some
            some, ids = [], set()
        some.append(row)
        ids.update(row.node.ids)
    if some:
        yield some


def total(table: Table, continuation: Sequence[int]) -> float:
    """The log-probability of a whole continuation."""
    return sum(table[tuple(continuation[:i])][token] for i, token in enumerate(continuation))


def _parts(ids: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    rest = iter(ids)
    while part := tuple(islice(rest, MOST_IDS)):
        yield part

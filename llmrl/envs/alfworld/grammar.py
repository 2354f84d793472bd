"""TextWorld's context-sensitive grammar: what is parsed is kept, and nothing is copied that is never changed.

Word for word what `textworld.envs.pddl.textgen` derives (tests/envs/alfworld/test_engine.py compares them). The
original parses symbols and conditions anew at each use, and copies contexts deeply.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import CodeType
from typing import Any, NamedTuple

from textworld.envs.pddl import logic, textgen
from textworld.logic import Rule

PARSING = threading.RLock()  # TatSu's parsers, and the translator from PDDL, have a state that threads would share
_KEPT = 4096  # texts: those of a grammar are some hundreds

Context = dict[str, Any]  # state, variables: name -> entity, mapping: placeholder -> variable, entity_infos


class Reads(NamedTuple):
    predicates: frozenset[str]
    names: frozenset[str]  # of placeholders, and of attributes of what they stand for
    asked: frozenset[str]  # the placeholders of queries


class Grammar(textgen.ContextSensitiveGrammar):
    """Rules that are shared between games and never changed: `with_task` makes another grammar."""

    def with_task(self, sentence: str) -> Grammar:
        """The same grammar, in which `#task#` is `sentence`, taken as it is."""
        other = Grammar()
        other._rules.update(self._rules)
        other._rules["task"] = [textgen.ProductionRule("task", [textgen.TerminalSymbol(sentence)])]
        return other

    def derive(self, start: str, context: Context | None = None) -> str:
        stack = [(symbol, context or {}) for symbol in reversed(parse(start))]
        text: list[str] = []
        while stack:
            symbol, here = stack.pop()
            if isinstance(symbol, textgen.TerminalSymbol):
                text.append(str(symbol))
            elif isinstance(symbol, textgen.NonterminalSymbol):
                stack += [(inner, here) for inner in reversed(self._rule(symbol, here).rhs)]
            elif isinstance(symbol, textgen.EvalSymbol):
                text.append(str(_value(symbol.expression, here)))
            elif isinstance(symbol, textgen.ConditionalSymbol):
                stack += reversed(_conditional(symbol, here))
            elif isinstance(symbol, textgen.ListSymbol):
                stack += reversed(_list_items(_conditional(symbol.symbol, here), here))
            else:
                raise NotImplementedError(f"Unknown symbol: {type(symbol)}")
        return "".join(text)

    def _rule(self, symbol: Any, context: Context) -> Any:
        rules = self._rules.get(str(symbol))
        if not rules:
            raise textgen.CSGUnknownSymbolError(symbol)
        return next(rule for rule in rules if not rule.condition or _any_match(rule.condition, context))


def parse(text: str) -> list[Any]:
    """The symbols of a text. They are shared: nobody changes them."""
    return _parse(text)


@lru_cache(maxsize=_KEPT)
def reads(template: str) -> Reads | None:
    """The facts and parameters that a template's text depends on; None where that cannot be told."""
    predicates: set[str] = set()
    names: set[str] = set()
    asked: set[str] = set()
    for symbol in parse(template):
        inner = symbol.symbol if isinstance(symbol, textgen.ListSymbol) else symbol
        if isinstance(inner, textgen.TerminalSymbol):
            continue
        if not (isinstance(inner, textgen.ConditionalSymbol) and isinstance(inner.expression, textgen.EvalSymbol)):
            return None
        names.update(_compile(inner.expression.expression).co_names)
        for predicate in _rule_of(inner.given).preconditions if inner.given else ():
            predicates.add(predicate.name)
            asked.update(placeholder.name for placeholder in predicate.parameters)
    return Reads(frozenset(predicates), frozenset(names | asked), frozenset(asked))


@lru_cache(maxsize=64)
def actions_and_grammar(source: str) -> tuple[Mapping[str, Any], Grammar]:
    """A grammar file's actions and rules."""
    with PARSING:
        found, rules = logic._parse_and_convert(source, rule_name="pddlStart")
    grammar = Grammar()
    grammar.update(rules)
    return dict(found), grammar


@lru_cache(maxsize=_KEPT)
def _parse(text: str) -> list[Any]:
    with PARSING:
        return list(textgen._parse_and_convert(text, rule_name="symbols"))


@lru_cache(maxsize=_KEPT)
def _rule_of(query: str) -> Any:
    with PARSING:
        return Rule.parse_conjunctive_query(query)


@lru_cache(maxsize=_KEPT)
def _compile(expression: str) -> CodeType:
    return compile(expression.strip(), "<grammar>", "eval")


def _value(expression: str, context: Context) -> object:
    return eval(_compile(expression), {}, context["variables"])  # of the packaged grammar, or of a file one trusts


def _conditional(symbol: Any, context: Context) -> list[tuple[Any, Context]]:
    if not context:
        raise ValueError("Empty context")
    contexts: Iterable[Context] = _matches(symbol.given, context) if symbol.given else [context]
    return [(symbol.expression, inner) for inner in contexts]


def _list_items(items: list[tuple[Any, Context]], context: Context) -> list[tuple[Any, Context]]:
    if not items:
        return [(textgen.NonterminalSymbol("list_empty"), context)]
    separator = (textgen.NonterminalSymbol("list_separator"), context)
    out = [items[0]]
    for item in items[1:-1]:
        out += [separator, item]
    return [*out, (textgen.NonterminalSymbol("list_last_separator"), context), items[-1]] if len(items) > 1 else out


def _any_match(query: str, context: Context) -> bool:
    return any(True for _ in context["state"].all_assignments(_rule_of(query), context["mapping"]))


def _matches(query: str, context: Context) -> list[Context]:
    found = []
    entities = context["entity_infos"]
    for mapping in context["state"].all_assignments(_rule_of(query), context["mapping"]):
        names = {placeholder.name: entities[variable.name] for placeholder, variable in mapping.items()}
        found.append(context | {"variables": context["variables"] | names, "mapping": context["mapping"] | mapping})
    return found

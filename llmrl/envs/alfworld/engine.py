"""TextWorld's engine for PDDL games, stock and fast.

`FastEnv` is `textworld.envs.PddlEnv` that keeps what it has worked out: parsed texts (`grammar`), translated problems
(`store`: on disk, too), and the command of every operator. It says the same, byte for byte
(tests/envs/alfworld/test_engine.py), and it is made for the exact versions that `packages` names, whose inner parts it
knows.

The libraries under it have three traps, which this module keeps to itself: importing alfworld creates a folder in the
home unless ALFWORLD_DATA is set, translating overwrites sys.argv, and every environment loads its own copy of the
planner's library, which is never freed (unloading one can crash the next that is loaded). So copies are handed on.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

from llmrl.envs.alfworld import packages

packages.require()

import fast_downward
from textworld.core import EnvInfos, GameState
from textworld.envs.pddl import logic as pddl_logic
from textworld.envs.pddl.pddl import PddlEnv
from textworld.logic import Action, Placeholder, Proposition, Signature, Type, TypeHierarchy, Variable

from llmrl.envs.alfworld.grammar import PARSING, Grammar, actions_and_grammar, reads
from llmrl.envs.alfworld.store import load_packed

KEPT_PROBLEMS = 1024  # translated ones, packed to 10 to 50 kB each, shared by the environments of a process
TRANSLATION = 1  # raised when `_translate` gives something else
LONGEST = 1000  # bytes of a name: the planner's library writes names where there is room for 1,023

_idle: list[Any] = []  # copies of the planner's library that nobody uses


class Shown(NamedTuple):
    text: str
    commands: tuple[str, ...]  # sorted, no two alike
    won: bool


class Engine:
    """One game at a time; another one is loaded into the same copy of the planner's library."""

    def __init__(self, fast: bool = True) -> None:
        infos = EnvInfos(won=True, admissible_commands=True)
        self._env: PddlEnv = FastEnv(infos) if fast else PddlEnv(infos)
        self._open = True

    def load(self, game: Mapping[str, Any], task: str | None = None) -> None:
        """`game`: `pddl_domain`, `grammar` and `pddl_problem`, as in a game file.

        With `task`, `#task#` is that sentence, whatever the grammar says. Entities get the names that ALFWorld gives.
        """
        with PARSING, _own_arguments():
            self._env.load(dict(game))
            if task is not None:
                self._set_task(task)
            _name_entities(self._env._entity_infos)

    def reset(self) -> Shown:
        with PARSING, _own_arguments():
            return self._show(self._env.reset())

    def step(self, command: str) -> Shown:
        state, _, _ = self._env.step(command)
        return self._show(state)

    def close(self) -> None:
        """The next engine takes over the copy of the library. Nothing can be done with this one afterwards."""
        if self._open:
            self._open = False
            library, self._env.downward_lib = self._env.downward_lib, None
            library.cleanup()
            _idle.append(library)

    def _set_task(self, sentence: str) -> None:
        grammar = self._env._logic.grammar
        if isinstance(grammar, Grammar):
            self._env._logic.grammar = grammar.with_task(sentence)
        else:
            grammar._rules["task"][0].rhs[:] = [type(grammar._rules["task"][0].rhs[0])(sentence)]

    def _show(self, state: GameState) -> Shown:
        return Shown(state["feedback"], tuple(state["admissible_commands"]), bool(state["won"]))


class FastEnv(PddlEnv):
    def __init__(self, infos: EnvInfos) -> None:
        super(PddlEnv, self).__init__(infos)  # PddlEnv's own would load a copy of the library
        try:
            self.downward_lib = _idle.pop()
        except IndexError:
            self.downward_lib = fast_downward.load_lib()

    def load(self, data: Mapping[str, Any]) -> None:
        self._game_file, self._game_data = None, data
        self.walkthrough = data.get("walkthrough")
        self._logic = _Logic(data["pddl_domain"], data["grammar"])
        self._problem = _problem(data["pddl_domain"], data["pddl_problem"])
        self._pddl_state = _State(self.downward_lib, self._problem, self._logic)
        self._entity_infos = self._get_entity_infos()
        self._commands: dict[int, _Command] = {}  # by operator
        self._texts: dict[tuple[Any, ...], str] = {}
        self._untouched = True

    def reset(self) -> GameState:
        if not self._untouched:
            self._pddl_state = _State(self.downward_lib, self._problem, self._logic)
        self._untouched = False
        self.prev_state, self._last_action, self._moves = None, None, 0
        self.state = GameState()
        context = {"state": self._pddl_state, "variables": {}, "mapping": {}, "entity_infos": self._entity_infos}
        self.state.feedback = self.state.raw = self._logic.grammar.derive("#intro#", context)
        self._gather_infos()
        return self.state

    def _gather_infos(self) -> None:
        state, infos = self._pddl_state, self._entity_infos
        commands = [self._command(operator) for operator in state.applicable()]
        self.state["won"] = state.check_goal()
        self.state["lost"] = False
        self.state["_entity_infos"] = infos
        self.state["last_action"] = None
        self.state["_last_action"] = self._last_action
        self.state["_valid_actions"] = [command.action for command in commands]
        self.state["_valid_commands"] = texts = [
            command.text if command.text is not None else self._text(command.action) for command in commands
        ]
        self.state["admissible_commands"] = sorted(set(texts))

    def _command(self, operator: int) -> _Command:
        command = self._commands.get(operator)
        if command is None:
            action = self._pddl_state.action(operator)
            key = self._fixed_by(action)
            text = None
            if key is not None:
                text = self._texts.get(key)
                if text is None:
                    text = self._texts[key] = self._text(action)
            command = self._commands[operator] = _Command(action, text)
        return command

    def _fixed_by(self, action: Action) -> tuple[Any, ...] | None:
        """The values that fix the text of a command in this game; None where it depends on facts that change.

        A query all of whose placeholders are the action's is answered by the facts alone.
        """
        needs = reads(action.command_template)
        if needs is None or needs.predicates & self._problem.changing:
            return None
        used = [(ph.name, variable) for ph, variable in action.mapping.items() if ph.name in needs.names]
        answered = needs.asked <= {ph.name for ph in action.mapping}
        return (action.name, *used, *(() if answered else action.mapping.values()))

    def _text(self, action: Action) -> str:
        context = {
            "state": self._pddl_state,
            "variables": {ph.name: self._entity_infos[var.name] for ph, var in action.mapping.items()},
            "mapping": action.mapping,
            "entity_infos": self._entity_infos,
        }
        names = {ph: info.name for ph, info in self._entity_infos.items()}
        return str(self._logic.grammar.derive(action.command_template, context).format(**names))


class _Command(NamedTuple):
    action: Action
    text: str | None  # None: it depends on facts that change


class _Logic(pddl_logic.GameLogic):
    def __init__(self, domain: str, grammar: str) -> None:
        self.domain = domain
        self.actions, self.grammar = actions_and_grammar(grammar)
        self.types = TypeHierarchy()


class _Problem(NamedTuple):
    """The parts of a translated problem that a state needs. The translator's own tree is ten times as large."""

    sas: bytes
    parameters: dict[str, list[Placeholder]]  # of each action
    types: list[tuple[str, list[str]]]
    name2type: dict[str, str]
    facts: list[Proposition]
    changing: frozenset[str]  # predicates that an action or an axiom changes


class _State(pddl_logic.PddlState):
    """`PddlState` from a problem that was translated before. It cannot replan."""

    def __init__(self, downward_lib: Any, problem: _Problem, logic: _Logic) -> None:
        self._logic, self._problem, self.downward_lib = logic, problem, downward_lib
        self.name2type = problem.name2type
        self._facts: dict[Any, set[Proposition]] = defaultdict(set)
        self._vars_by_name: dict[str, Variable] = {}
        self._vars_by_type: dict[str, set[Variable]] = defaultdict(set)
        self._var_counts: Counter[str] = Counter()
        self._sorted: dict[Signature, list[Proposition]] = {}
        for name, supertypes in problem.types:
            try:
                logic.types.add(Type(name, supertypes))
            except ValueError:  # added by an earlier state of this game
                continue
        downward_lib.load_sas(problem.sas)
        self.add_facts(problem.facts)
        atoms = (pddl_logic.Atom * downward_lib.get_state_size())()
        downward_lib.get_state(atoms)
        facts = [atom.get_fact(self.name2type) for atom in atoms]
        self.add_facts([fact for fact in facts if not fact.is_negation])

    def add_fact(self, prop: Proposition) -> None:
        self._sorted.pop(prop.signature, None)
        super().add_fact(prop)

    def remove_fact(self, prop: Proposition) -> None:
        self._sorted.pop(prop.signature, None)
        super().remove_fact(prop)

    def all_assignments(self, rule: Any, mapping: Any = None, *_: object) -> Iterator[dict[Placeholder, Variable]]:
        """In the order of the original: by the types of the predicates, then by facts. No two share a variable."""
        return self._assignments(rule.preconditions, dict(mapping or {}))

    def _assignments(self, predicates: Sequence[Any], known: dict[Placeholder, Variable]) -> Iterator[dict[Any, Any]]:
        if not predicates:
            yield known
            return
        first, rest = predicates[0], predicates[1:]
        for fact in self._candidates(first, known):
            extended, used = dict(known), set(known.values())
            for placeholder, variable in zip(first.parameters, fact.arguments, strict=True):
                before = extended.get(placeholder)
                if before != variable and (before is not None or variable in used):
                    break
                extended[placeholder] = variable
                used.add(variable)
            else:
                yield from self._assignments(rest, extended)

    def _candidates(self, predicate: Any, known: Mapping[Placeholder, Variable]) -> list[Proposition]:
        if all(placeholder in known for placeholder in predicate.parameters):
            fact = Proposition(predicate.name, [known[placeholder] for placeholder in predicate.parameters])
            return [fact] if fact in self._facts.get(fact.signature, ()) else []
        facts: list[Proposition] = []
        types = [self._logic.types.get(name) for name in predicate.signature.types]
        for subtypes in self._logic.types.multi_subtypes(types):
            facts += self._in_order(Signature(predicate.name, [kind.name for kind in subtypes]))
        return facts

    def _in_order(self, signature: Signature) -> list[Proposition]:
        facts = self._sorted.get(signature)
        if facts is None:
            facts = self._sorted[signature] = sorted(self._facts.get(signature, ()))
        return facts

    def applicable(self) -> list[int]:
        """Operators by id, one for each name."""
        count = self.downward_lib.get_applicable_operators_count()
        operators = (fast_downward.Operator * count)()
        self.downward_lib.get_applicable_operators(operators)
        self._operators = {}
        seen = set()
        for operator in operators:
            name = operator._name
            if name not in seen:
                seen.add(name)
                self._operators[operator.id] = operator
        return list(self._operators)

    def action(self, operator: int) -> Action:
        name, *arguments = self._operators[operator].name.split()
        action = Action(name=name, preconditions=[], postconditions=[])
        action.id = operator
        action.mapping = {
            placeholder: Variable(argument, placeholder.type)
            for placeholder, argument in zip(self._problem.parameters[name], arguments, strict=False)
        }
        action.command_template = self._logic.actions[name].template
        action.feedback_rule = self._logic.actions[name].feedback_rule
        return action


def _problem(domain: str, problem: str) -> _Problem:
    parameters, kinds, name2type, facts, changing, sas = json.loads(zlib.decompress(_pack(domain, problem)))
    return _Problem(
        sas.encode(),
        {action: [Placeholder(*p) for p in placeholders] for action, placeholders in parameters.items()},
        kinds,
        name2type,
        [Proposition(name, [Variable(arg, name2type[arg]) for arg in args]) for name, *args in facts],
        frozenset(changing),
    )


@lru_cache(maxsize=KEPT_PROBLEMS)
def _pack(domain: str, problem: str) -> bytes:
    made_by = (str(TRANSLATION), *(f"{name} {version}" for name, version in sorted(packages.versions().items())))
    return load_packed((*made_by, domain, problem), lambda: _translate(domain, problem))


def _translate(domain: str, problem: str) -> bytes:
    """The translation that `_Problem` is made from."""
    task, sas = fast_downward.pddl2sas(domain, problem)
    if any(len(line.encode()) > LONGEST for line in sas.splitlines()):
        raise ValueError(f"names of more than {LONGEST} bytes")
    changed = {effect.literal.predicate for action in task.actions for effect in action.effects}
    changed |= {axiom.name for axiom in task.axioms}
    parts = (
        {a.name: [[p.name.strip("?"), p.type_name] for p in a.parameters] for a in task.actions},
        [[kind.name, kind.supertype_names] for kind in task.types],
        {thing.name: thing.type_name for thing in task.objects},
        list(filter(None, map(_fact, task.init))),
        sorted(changed | {f"not_{name}" for name in changed}),
        sas,
    )
    return json.dumps(parts).encode()


def _fact(atom: Any) -> list[str] | None:
    """Predicate and arguments, as `PddlState` reads the initial facts: without equality, costs and distances."""
    if isinstance(atom, fast_downward.translate.pddl.conditions.Atom):
        return None if atom.predicate == "=" else [atom.predicate, *atom.args]
    name = str(atom.expression.value)
    return None if atom.fluent.symbol == "total-cost" or name.isdigit() else [name, *atom.fluent.args]


def _name_entities(infos: Mapping[str, Any]) -> None:
    """Names like "cabinet 3", by ALFWorld's own rule."""
    names = _demangler()(game_infos=infos)
    for info in infos.values():
        info.name = names.demangle_alfred_name(info.id)


def _demangler() -> Any:
    with _some_data_folder():
        from alfworld.agents.utils.misc import Demangler
    return Demangler


@contextmanager
def _some_data_folder() -> Iterator[None]:
    """Importing alfworld makes the folder that ALFWORLD_DATA names, and one in the home where it names none."""
    before = os.environ.get("ALFWORLD_DATA")
    if before is not None and os.path.isdir(before):
        yield
        return
    os.environ["ALFWORLD_DATA"] = os.path.dirname(__file__)
    try:
        yield
    finally:
        del os.environ["ALFWORLD_DATA"]
        os.environ |= {} if before is None else {"ALFWORLD_DATA": before}


@contextmanager
def _own_arguments() -> Iterator[None]:
    """Translating from PDDL puts another list in the place of sys.argv, which starting a worker process reads."""
    before = sys.argv
    try:
        yield
    finally:
        sys.argv = before

"""TextWorld's engine for PDDL games, stock and fast.

`FastEnv` is `textworld.envs.PddlEnv` that keeps what it has worked out: parsed texts (`grammar`), translated problems, and
the command of every operator. It says the same, byte for byte (tests/envs/alfworld/test_engine.py), and it is made for
the exact versions that `packages` names, whose inner parts it knows.

The libraries under it have three traps, which this module keeps to itself: importing alfworld creates a folder in the
home unless ALFWORLD_DATA is set, translating overwrites sys.argv, and an environment never frees its copy of the
planner's library.
"""

from __future__ import annotations

import os
import sys
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from llmrl.envs.alfworld import packages

packages.require()

import fast_downward  # noqa: E402
from textworld.core import EnvInfos, GameState  # noqa: E402
from textworld.envs.pddl import logic as pddl_logic  # noqa: E402
from textworld.envs.pddl.pddl import PddlEnv  # noqa: E402
from textworld.logic import Action, Placeholder, Proposition, Type, TypeHierarchy, Variable  # noqa: E402

from llmrl.envs.alfworld.grammar import PARSING, Grammar, actions_and_grammar  # noqa: E402

KEPT_PROBLEMS = 32  # translated ones, 0.3 to 1 MB each, shared by the environments of a process


class Shown(NamedTuple):
    text: str
    commands: tuple[str, ...]  # sorted, no two alike
    won: bool


class Engine:
    """One game at a time; another one is loaded into the same copy of the planner's library."""

    def __init__(self, fast: bool = True) -> None:
        infos = EnvInfos(won=True, admissible_commands=True)
        self._env: PddlEnv = FastEnv(infos) if fast else PddlEnv(infos)
        self._state: GameState | None = None
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
            return self._shown(self._env.reset())

    def step(self, command: str) -> Shown:
        state, _, _ = self._env.step(command)
        return self._shown(state)

    def close(self) -> None:
        """Frees the copy of the library, which closing a PddlEnv does not. Nothing can be done with it afterwards."""
        if self._open:
            self._open = False
            fast_downward.close_lib(self._env.downward_lib)

    def _set_task(self, sentence: str) -> None:
        grammar = self._env._logic.grammar
        if isinstance(grammar, Grammar):
            self._env._logic.grammar = grammar.with_task(sentence)
        else:
            grammar._rules["task"][0].rhs[:] = [type(grammar._rules["task"][0].rhs[0])(sentence)]

    def _shown(self, state: GameState) -> Shown:
        return Shown(state["feedback"], tuple(state["admissible_commands"]), bool(state["won"]))


class FastEnv(PddlEnv):  # type: ignore[misc]  # untyped
    def load(self, data: Mapping[str, Any]) -> None:
        self._game_file, self._game_data = None, data
        self.walkthrough = data.get("walkthrough")
        self._logic = _Logic(data["pddl_domain"], data["grammar"])
        self._problem = _problem(data["pddl_domain"], data["pddl_problem"])
        self._pddl_state = _State(self.downward_lib, self._problem, self._logic)
        self._entity_infos = self._get_entity_infos()

    def reset(self) -> GameState:
        self._commands: dict[int, _Command] = {}
        self._pddl_state = _State(self.downward_lib, self._problem, self._logic)
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
            depends = self._logic.grammar.depends_on(action.command_template)
            fixed = depends is not None and not depends & self._problem.changing
            text = self._text(action) if fixed else None
            command = self._commands[operator] = _Command(action, text)
        return command

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


class _Logic(pddl_logic.GameLogic):  # type: ignore[misc]  # untyped
    def __init__(self, domain: str, grammar: str) -> None:
        self.domain = domain
        self.actions, self.grammar = actions_and_grammar(grammar)
        self.types = TypeHierarchy()


class _Problem(NamedTuple):
    """What a state needs of a translated problem; the translator's own tree is ten times as large."""

    sas: bytes
    parameters: dict[str, list[Placeholder]]  # of each action
    types: list[tuple[str, list[str]]]
    name2type: dict[str, str]
    facts: list[Proposition]
    changing: frozenset[str]  # predicates that an action or an axiom changes


class _State(pddl_logic.PddlState):  # type: ignore[misc]  # untyped
    """`PddlState` from a problem that was translated before. It cannot replan."""

    def __init__(self, downward_lib: Any, problem: _Problem, logic: _Logic) -> None:
        self._logic, self._problem, self.downward_lib = logic, problem, downward_lib
        self.name2type = problem.name2type
        self._facts: dict[Any, set[Proposition]] = defaultdict(set)
        self._vars_by_name: dict[str, Variable] = {}
        self._vars_by_type: dict[str, set[Variable]] = defaultdict(set)
        self._var_counts: Counter[str] = Counter()
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


_problems: OrderedDict[tuple[str, str], _Problem] = OrderedDict()


def _problem(domain: str, problem: str) -> _Problem:
    key = (domain, problem)
    if key in _problems:
        _problems.move_to_end(key)
    else:
        _problems[key] = _translated(domain, problem)
        if len(_problems) > KEPT_PROBLEMS:
            _problems.popitem(last=False)
    return _problems[key]


def _translated(domain: str, problem: str) -> _Problem:
    task, sas = fast_downward.pddl2sas(domain, problem)
    changed = {effect.literal.predicate for action in task.actions for effect in action.effects}
    changed |= {axiom.name for axiom in task.axioms}
    name2type = {thing.name: thing.type_name for thing in task.objects}
    return _Problem(
        sas.encode(),
        {a.name: [Placeholder(p.name.strip("?"), p.type_name) for p in a.parameters] for a in task.actions},
        [(kind.name, kind.supertype_names) for kind in task.types],
        name2type,
        list(filter(None, (_fact(atom, name2type) for atom in task.init))),
        frozenset(changed | {f"not_{name}" for name in changed}),
    )


def _fact(atom: Any, name2type: Mapping[str, str]) -> Proposition | None:
    """As `PddlState` reads the initial facts: without equality, costs and distances."""
    pddl = fast_downward.translate.pddl
    if isinstance(atom, pddl.conditions.Atom):
        name, arguments = atom.predicate, atom.args
    else:
        name, arguments = str(atom.expression.value), atom.fluent.args
        if atom.fluent.symbol == "total-cost" or name.isdigit():
            return None
    return None if name == "=" else Proposition(name, [Variable(arg, name2type[arg]) for arg in arguments])


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

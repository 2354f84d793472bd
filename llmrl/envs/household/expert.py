"""The expert of a home: every command on a shortest way, from any state to the goal. It knows the whole home.

No search is needed. Going anywhere takes one decision, so that the shortest way is the cheapest of few plans: lay down
the held object where it is not wanted, fetch a wanted object, make it ready, put it down. Each place that the agent is
not at already takes a decision more. So does each shut receptacle on the way. The best plan depends on little of the
state: where the wanted objects are, whether they are ready, and which of the receptacles that matter are shut. Plans
are cached by that. `tests/envs/household/test_expert.py` compares all of it with a search through every state.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from llmrl.envs.household.game import Game
from llmrl.envs.household.home import HELD, NOTHING, Command, Home, HomeState

NO_WAY = 1_000
_ELSEWHERE = -2  # at none of the receptacles that matter


class Plan(NamedTuple):
    distance: int  # decisions to the goal
    commands: frozenset[str]  # all that begin a shortest way; empty at the goal


class _Scene(NamedTuple):
    """The parts of a state that matter to the expert."""

    at: int
    hand: int
    spots: tuple[int, ...]  # where each wanted object is
    ready: int  # bit i: wanted object i is as it has to be
    open: int
    lit: int


class Expert:
    """The expert of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._task = home.game.goal.task
        self._lamps = [(lamp, home.objects[lamp].place) for lamp in home.lamps]
        self._fixed = home.targets | home.treats | ({place for _, place in self._lamps} if self._examines else set())
        every = range(len(home.receptacles))
        self._accept = [[r for r in every if home.holds(r, thing)] for thing in range(len(home.objects))]
        self._masks = [sum(1 << r for r in places) for places in self._accept]
        self._target_mask = sum(1 << r for r in home.targets)
        self._plans: dict[_Scene, Plan] = {}
        self._laid: dict[tuple[object, ...], tuple[dict[int, int], int]] = {}

    def plan(self, s: HomeState) -> Plan:
        home = self._home
        spots = tuple([s.places[thing] for thing in home.wanted])
        ready = sum(home.ready(s, thing) << i for i, thing in enumerate(home.wanted))
        matters = self._target_mask
        for spot in spots:
            if spot != HELD:
                matters |= 1 << spot
        if s.hand != NOTHING:
            matters |= self._masks[s.hand]
        at = s.at if s.hand != NOTHING or s.at in self._fixed or s.at in spots else _ELSEWHERE
        scene = _Scene(at, s.hand, spots, ready, s.open & matters, s.lit if self._examines else 0)
        plan = self._plans.get(scene)
        if plan is None:
            plan = self._plans[scene] = self._plan(scene)
        return plan

    @property
    def _examines(self) -> bool:
        return self._task == "examine"

    def _plan(self, scene: _Scene) -> Plan:
        distance = self._distance(scene)
        if distance == 0:
            return Plan(0, frozenset())
        best = [command for command, after in self._steps(scene) if self._distance(after) == distance - 1]
        return Plan(distance, frozenset(self._home.text(command, scene.at) for command in best))

    def _steps(self, scene: _Scene) -> Iterator[tuple[Command, _Scene]]:
        """The commands that a shortest way may begin with, and what they lead to."""
        home, at, hand = self._home, scene.at, scene.hand
        places = set(scene.spots) if hand == NOTHING else set()
        if hand in home.wanted:
            places |= self._fixed
        if self._may_lay_down(scene):
            left, least = self._laying_down(scene)
            places |= {place for place, decisions in left.items() if decisions == least}
        for place in places - {at, HELD}:
            yield Command("go to", place), scene._replace(at=place)
        if at < 0:
            return
        if not scene.open >> at & 1 and home.receptacles[at].openable:
            yield Command("open", at), scene._replace(open=scene.open | 1 << at)
        elif hand == NOTHING:
            for i, thing in enumerate(home.wanted):
                if scene.spots[i] == at:
                    yield Command("take", thing), scene._replace(hand=thing, spots=_with(scene.spots, i, HELD))
        elif at in self._accept[hand]:
            spots = tuple(at if spot == HELD else spot for spot in scene.spots)
            yield Command("move", hand), scene._replace(hand=NOTHING, spots=spots)
        if hand in home.wanted and at in home.treats:
            made = scene.ready | 1 << home.wanted.index(hand)
            yield Command(self._task, hand), scene._replace(ready=made)
        if self._examines:
            for lamp, place in self._lamps:
                if place == at:
                    yield Command("use", lamp), scene._replace(lit=scene.lit | 1 << lamp)

    # ---- distances -----------------------------------------------------------------------------------------------

    def _distance(self, scene: _Scene) -> int:
        if self._is_reached(scene):
            return 0
        if scene.hand == NOTHING:
            return self._fetch(scene)
        finish = self._finish(scene) if scene.hand in self._home.wanted else NO_WAY
        return min(finish, self._lay_down(scene)) if self._may_lay_down(scene) else finish

    def _is_reached(self, scene: _Scene) -> bool:
        targets = self._home.targets
        if self._examines:
            lit_here = any(scene.lit >> lamp & 1 and place == scene.at for lamp, place in self._lamps)
            return scene.hand in self._home.wanted and lit_here
        put = [spot for i, spot in enumerate(scene.spots) if spot in targets and scene.ready >> i & 1]
        return len(set(put)) < len(put) if self._task == "pick_two" else bool(put)

    def _may_lay_down(self, scene: _Scene) -> bool:
        """Whether a shortest way may begin with laying down: an unwanted object, or one while only another is ready."""
        if scene.hand not in self._home.wanted:
            return scene.hand != NOTHING
        return scene.ready != 0 and not scene.ready >> self._home.wanted.index(scene.hand) & 1

    def _lay_down(self, scene: _Scene) -> int:
        """The held object goes to a place that may hold it; then a wanted object is fetched."""
        left, least = self._laying_down(scene)
        return min(left.get(scene.at, NO_WAY), 1 + least)

    def _laying_down(self, scene: _Scene) -> tuple[dict[int, int], int]:
        """For each place that may hold what is held: the decisions left to who stands there with it; and the fewest."""
        key = scene[1:]  # where one stands now is another matter
        found = self._laid.get(key)
        if found is None:
            elsewhere = self._fetch(scene._replace(at=_ELSEWHERE, hand=NOTHING))  # what is held is not fetched again
            left = {}
            for place in self._accept[scene.hand]:
                matters = place in self._fixed or place in scene.spots
                after = self._distance_after(scene, place) if matters else elsewhere
                left[place] = self._shut(scene, place) + 1 + after
            found = self._laid[key] = left, min(left.values())
        return found

    def _distance_after(self, scene: _Scene, place: int) -> int:
        """Once what is held was laid down at a place."""
        spots = tuple([place if spot == HELD else spot for spot in scene.spots])
        after = scene._replace(at=place, hand=NOTHING, spots=spots, open=scene.open | 1 << place)
        return 0 if self._is_reached(after) else self._fetch(after)

    def _fetch(self, scene: _Scene) -> int:
        """The plans with an empty hand."""
        best = NO_WAY
        for i, spot in enumerate(scene.spots):
            if spot < 0:
                continue
            cost = (spot != scene.at) + self._shut(scene, spot) + 1
            if cost < best:
                taken = scene._replace(
                    at=spot, hand=self._home.wanted[i], spots=_with(scene.spots, i, HELD), open=scene.open | 1 << spot
                )
                best = min(best, cost + self._finish(taken))
        return best

    def _finish(self, scene: _Scene) -> int:
        """The plans with a wanted object in the hand."""
        if self._examines:
            return min((scene.at != place) + (not scene.lit >> lamp & 1) for lamp, place in self._lamps)
        if self._task == "pick_two":
            return min(self._put_first(scene, place) for place in self._home.targets)
        if scene.ready >> self._home.wanted.index(scene.hand) & 1:
            return self._put(scene, scene.at)
        return min((scene.at != place) + 1 + self._put(scene, place) for place in self._home.treats)

    def _put(self, scene: _Scene, at: int) -> int:
        return min((at != place) + self._shut(scene, place) + 1 for place in self._home.targets)

    def _put_first(self, scene: _Scene, target: int) -> int:
        """One of two goes to `target`; the other one is there, or is fetched then."""
        cost = (scene.at != target) + self._shut(scene, target) + 1
        if target in scene.spots:
            return cost
        return cost + min(4 + self._shut(scene, spot) for spot in scene.spots if spot != HELD)

    def _shut(self, scene: _Scene, place: int) -> int:
        return not scene.open >> place & 1


def _with(spots: tuple[int, ...], i: int, spot: int) -> tuple[int, ...]:
    return (*spots[:i], spot, *spots[i + 1 :])


def solution(game: Game) -> tuple[str, ...]:
    """The commands of a shortest way from the start, as played in the game. Raises ValueError where it has none."""
    home = Home(game)
    expert, state = Expert(home), home.initial()
    commands = []
    for left in range(expert.plan(state).distance, 0, -1):
        plan = expert.plan(state)
        if plan.distance != left or not plan.commands:
            break
        commands.append(min(plan.commands))
        menu = home.menu(state)
        state = home.apply(state, menu.commands[menu.texts.index(commands[-1])])
    if not home.done(state):
        raise ValueError(f"{game.name} cannot be solved: after {'; '.join(commands) or 'nothing'} there is no way")
    return tuple(commands)

"""A drawing of the home for people, in plain text: its receptacles room by room, and what was found where."""

from __future__ import annotations

from llmrl.envs.household.home import MIDDLE, NOTHING, Home, HomeState

MAX_WIDTH = 80
COLUMNS = 2
YOU, SHUT, OPEN, UNKNOWN, EMPTY = "@", "■", "□", "?", "-"
CLEAN, HOT, COLD, ON = "+", "^", "~", "*"


def draw(home: Home, s: HomeState) -> str:
    """Only what the agent has seen is named; at most 80 characters wide."""
    width = MAX_WIDTH // COLUMNS
    name_width = max(len(r.name) for r in home.receptacles)
    lines = []
    for room in home.game.layout.rooms:
        places = [i for i, receptacle in enumerate(home.receptacles) if receptacle.room == room]
        rows = -(-len(places) // COLUMNS)
        cells = [_cell(home, s, place, name_width, width - 2) for place in places]
        lines.append(room.upper())
        lines += ["  ".join(f"{cell:<{width - 2}}" for cell in cells[row::rows]).rstrip() for row in range(rows)]
    searched = s.searched.bit_count()
    lines += [
        "",
        f"  in hand   {'nothing' if s.hand == NOTHING else _thing(home, s, s.hand)}",
        f"  searched  {searched} of {len(home.receptacles)}{'; you are in the middle' * (s.at == MIDDLE)}",
        "",
        f"  {YOU} you   {SHUT} shut   {OPEN} open   {UNKNOWN} not looked into   {EMPTY} empty",
        f"  {CLEAN} clean   {HOT} hot   {COLD} cold   {ON} switched on   ! wanted",
    ]
    return "\n".join(lines)


def _cell(home: Home, s: HomeState, place: int, name_width: int, width: int) -> str:
    receptacle = home.receptacles[place]
    door = " " if not receptacle.openable else OPEN if s.open >> place & 1 else SHUT
    found = UNKNOWN
    if s.searched >> place & 1:
        found = ", ".join(_thing(home, s, thing) for thing in home.contents(s, place)) or EMPTY
    text = f"{YOU if s.at == place else ' '}{door} {receptacle.name:<{name_width}}  {found}"
    return text if len(text) <= width else text[: width - 1] + "…"


def _thing(home: Home, s: HomeState, thing: int) -> str:
    marks = {CLEAN: s.clean, HOT: s.hot, COLD: s.cool, ON: s.lit}
    made = "".join(mark for mark, things in marks.items() if things >> thing & 1)
    return f"{'!' if thing in home.wanted else ''}{home.objects[thing].name}{made}"

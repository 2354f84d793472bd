"""The types of a home: receptacles and objects, the treatments of each object, and the places where it may lie.

Types carry ALFWorld's names (arXiv 2010.03768), so that a game of ours can be told in its terms and back. The contents
of receptacles and rooms are facts of everyday life, put together for this world.
"""

from __future__ import annotations

from typing import Literal

Room = Literal["kitchen", "living room", "bedroom", "bathroom"]

# ---- receptacles: (least, most) of each type in a room ---------------------------------------------------------------

FURNITURE: dict[Room, dict[str, tuple[int, int]]] = {
    "kitchen": {
        "Cabinet": (3, 7),
        "CoffeeMachine": (0, 1),
        "CounterTop": (1, 3),
        "DiningTable": (0, 1),
        "Drawer": (1, 5),
        "Fridge": (1, 1),
        "GarbageCan": (0, 1),
        "Microwave": (1, 1),
        "Shelf": (0, 3),
        "SinkBasin": (1, 1),
        "StoveBurner": (2, 4),
        "Toaster": (0, 1),
    },
    "living room": {
        "ArmChair": (0, 2),
        "CoffeeTable": (1, 2),
        "Desk": (0, 1),
        "Drawer": (0, 3),
        "Dresser": (0, 1),
        "GarbageCan": (0, 1),
        "Ottoman": (0, 1),
        "Safe": (0, 1),
        "Shelf": (0, 4),
        "SideTable": (1, 3),
        "Sofa": (1, 1),
        "TVStand": (0, 1),
    },
    "bedroom": {
        "ArmChair": (0, 1),
        "Bed": (1, 1),
        "Desk": (1, 2),
        "Drawer": (1, 5),
        "Dresser": (0, 1),
        "GarbageCan": (0, 1),
        "LaundryHamper": (0, 1),
        "Safe": (0, 1),
        "Shelf": (0, 4),
        "SideTable": (0, 2),
    },
    "bathroom": {
        "BathtubBasin": (0, 1),
        "Cabinet": (1, 4),
        "CounterTop": (1, 1),
        "Drawer": (0, 2),
        "GarbageCan": (0, 1),
        "HandTowelHolder": (0, 2),
        "Shelf": (0, 1),
        "SinkBasin": (1, 2),
        "Toilet": (1, 1),
        "ToiletPaperHanger": (1, 1),
        "TowelHolder": (0, 1),
    },
}
RECEPTACLES: tuple[str, ...] = tuple(sorted({kind for room in FURNITURE.values() for kind in room}))
OPENABLE = frozenset({"Cabinet", "Drawer", "Fridge", "Microwave", "Safe"})  # closed at first
CLEANS, HEATS, COOLS = "SinkBasin", "Microwave", "Fridge"  # where a held object is cleaned, heated, cooled

# ---- objects ---------------------------------------------------------------------------------------------------------

_FRUIT = frozenset({"Apple", "Egg", "Lettuce", "Potato", "Tomato"})
_FOOD = _FRUIT | {"Bread"}
_CROCKERY = frozenset({"Bowl", "Cup", "Mug", "Plate"})
_CUTLERY = frozenset({"ButterKnife", "Fork", "Knife", "Ladle", "Spatula", "Spoon"})
_COOKWARE = frozenset({"Kettle", "Pan", "Pot"})
_SPICES = frozenset({"PepperShaker", "SaltShaker"})
_BOTTLES = frozenset({"SoapBottle", "SprayBottle", "WineBottle"})
_WASHING = frozenset({"Cloth", "DishSponge", "SoapBar"})
_ROLLS = frozenset({"PaperTowelRoll", "TissueBox", "ToiletPaper"})
_TOWELS = frozenset({"HandTowel", "Towel"})
_POCKET = frozenset({"CD", "CellPhone", "CreditCard", "KeyChain", "Pen", "Pencil", "RemoteControl", "Watch"})
_PAPER = frozenset({"Book", "Newspaper"})
_DECOR = frozenset({"AlarmClock", "Candle", "Statue", "Vase", "WateringCan"})
_LARGE = frozenset({"BaseballBat", "BasketBall", "Box", "Laptop", "Pillow", "TeddyBear", "TennisRacket"})
LAMPS = frozenset({"DeskLamp"})
FIXED = LAMPS | {"HousePlant", "Television"}  # seen, and never picked up

CLEANABLE = _FRUIT | _CROCKERY | _CUTLERY | _COOKWARE | _WASHING
HEATABLE = _FOOD - {"Lettuce"} | {"Cup", "Mug", "Plate"}
COOLABLE = _FOOD | _CROCKERY | {"Pan", "Pot", "WineBottle"}
PORTABLE = (
    _FOOD | _CROCKERY | _CUTLERY | _COOKWARE | _SPICES | _BOTTLES | _WASHING | _ROLLS | _TOWELS | _POCKET | _PAPER
    | _DECOR | _LARGE
)  # fmt: skip
OBJECTS: tuple[str, ...] = tuple(sorted(PORTABLE | FIXED))

# ---- what a receptacle of a type may hold ----------------------------------------------------------------------------

_SMALL = _POCKET | _PAPER | _ROLLS
_TABLETOP = PORTABLE - {"BaseballBat", "Pillow", "TeddyBear", "TennisRacket", "Towel"} | FIXED
MAY_HOLD: dict[str, frozenset[str]] = {
    "ArmChair": _PAPER | _LARGE | {"CellPhone", "Cloth", "CreditCard", "KeyChain", "RemoteControl"},
    "BathtubBasin": _WASHING | {"HandTowel"},
    "Bed": _PAPER | _LARGE | {"CD", "CellPhone", "CreditCard", "KeyChain", "RemoteControl"},
    "Cabinet": _CROCKERY
    | _COOKWARE
    | _SPICES
    | _BOTTLES
    | _WASHING
    | _ROLLS
    | _PAPER
    | _DECOR
    | {"HandTowel", "Ladle"},
    "CoffeeMachine": frozenset({"Cup", "Mug"}),
    "CoffeeTable": _TABLETOP,
    "CounterTop": _TABLETOP - {"Television"},
    "Desk": _TABLETOP - _COOKWARE | {"BaseballBat", "TennisRacket"},
    "DiningTable": _TABLETOP,
    "Drawer": _CUTLERY | _SPICES | _WASHING | _SMALL | {"Candle", "HandTowel", "SoapBottle", "SprayBottle"},
    "Dresser": _TABLETOP - _COOKWARE - _FOOD | {"BaseballBat", "TennisRacket"},
    "Fridge": _FOOD | _CROCKERY | {"Pan", "Pot", "WineBottle"},
    "GarbageCan": _FOOD | _WASHING | _ROLLS | _BOTTLES | {"CD", "HandTowel", "Newspaper", "Pen", "Pencil"},
    "HandTowelHolder": frozenset({"HandTowel"}),
    "LaundryHamper": _TOWELS | {"Cloth"},
    "Microwave": _FOOD - {"Lettuce"} | _CROCKERY,
    "Ottoman": _PAPER | _LARGE | {"CellPhone", "CreditCard", "KeyChain", "RemoteControl"},
    "Safe": frozenset({"CD", "CellPhone", "CreditCard", "KeyChain", "Statue", "Vase", "Watch"}),
    "Shelf": _CROCKERY | _COOKWARE | _SPICES | _BOTTLES | _SMALL | _DECOR | LAMPS | {"Box", "HandTowel", "HousePlant"},
    "SideTable": _TABLETOP,
    "SinkBasin": _FRUIT | _CROCKERY | _CUTLERY | _COOKWARE | _WASHING | {"HandTowel"},
    "Sofa": _PAPER | _LARGE | {"CellPhone", "Cloth", "CreditCard", "KeyChain", "RemoteControl"},
    "StoveBurner": _COOKWARE,
    "TVStand": _SMALL | _DECOR | FIXED - LAMPS | {"Box", "Laptop"},
    "Toaster": frozenset({"Bread"}),
    "Toilet": _BOTTLES - {"WineBottle"} | _ROLLS | _WASHING | {"Candle", "HandTowel", "Newspaper"},
    "ToiletPaperHanger": frozenset({"ToiletPaper"}),
    "TowelHolder": frozenset({"Towel"}),
}

# ---- where the objects of a room are kept, of its receptacles that may hold them -------------------------------------

LIVES_IN: dict[Room, frozenset[str]] = {
    "kitchen": _FOOD | _CROCKERY | _CUTLERY | _COOKWARE | _SPICES
    | {"Book", "CreditCard"}
    | {"DishSponge", "HousePlant", "PaperTowelRoll", "SoapBottle", "Statue", "Vase", "WineBottle"},
    "living room": _POCKET - {"CD", "Pen", "Pencil"} | _PAPER | FIXED
    | {"Bowl", "Box", "Candle", "Laptop", "Pillow", "Plate", "Statue", "TissueBox", "Vase", "WateringCan"},
    "bedroom": _POCKET | LAMPS
    | {"AlarmClock", "BaseballBat", "BasketBall", "Book", "Bowl", "Box", "Cloth", "Laptop", "Mug", "Pillow", "Statue"}
    | {"TeddyBear", "TennisRacket", "TissueBox"},
    "bathroom": _WASHING - {"DishSponge"} | _TOWELS | _ROLLS - {"PaperTowelRoll"}
    | {"Candle", "SoapBottle", "SprayBottle"},
}  # fmt: skip

"""Builds priors of graded quality, and two that know nothing, to be compared with the embedded one. None is shipped.

    python -m scripts.tiny.ladder                    all of them, under runs/models
    python -m scripts.tiny.ladder untrained s-cook   these two
    python -m scripts.tiny.ladder --report           how good each is before anything is learned
    llmrl train lm=hf prompt=plain lm.model=runs/models/s-cook   in use

Three sizes (s, m, l) times two skills of the authors read (cook: as wrong as tiny-1's; expert: wrong half as often or
less); `random`, which read as many texts by authors who act at random and give no advice; `untrained`, weights as they
were drawn. A model that is complete is not built again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from llmrl.lm.identify import local_folder
from llmrl.report import markdown
from scripts.tiny.build import VOCAB, Training, build
from scripts.tiny.corpus import CorpusConfig
from scripts.tiny.quality import chance, exam, measure

COOK = CorpusConfig()
EXPERT = replace(COOK, mistakes=(0.15, 0.35))
COOK_TEXTS = 102_771  # what COOK comes to
RANDOM = replace(COOK, author="random", howtos=0, texts=COOK_TEXTS)


@dataclass(frozen=True)
class Rung:
    corpus: CorpusConfig
    width: int
    layers: int
    trained: bool = True


RUNGS = {  # cheapest first
    "untrained": Rung(COOK, 192, 3, trained=False),  # its corpus only makes its tokenizer
    "s-cook": Rung(COOK, 64, 2),
    "s-expert": Rung(EXPERT, 64, 2),
    "m-cook": Rung(COOK, 128, 3),
    "m-expert": Rung(EXPERT, 128, 3),
    "l-cook": Rung(COOK, 192, 3),
    "random": Rung(RANDOM, 192, 3),
    "l-expert": Rung(EXPERT, 192, 3),
}


def climb(names: Sequence[str], out: Path, steps: int) -> None:
    """Builds those of the named rungs that are not complete. Raises ValueError for one made with other settings."""
    wanted = {
        name: Training(RUNGS[name].width, RUNGS[name].layers, steps if RUNGS[name].trained else 0) for name in names
    }
    missing = [name for name, training in wanted.items() if not _is_built(out / name, RUNGS[name].corpus, training)]
    for name in missing:
        card = build(out / name, RUNGS[name].corpus, VOCAB, wanted[name], exam())
        print(f"{out / name}: {card['parameters']} parameters, {card['seconds']:.0f} s of training", flush=True)


def report(out: Path) -> None:
    """Prints what each model under `out`, and tiny-1, cost and how good it is."""
    held_out = exam()
    uniform = chance(held_out)
    rows = [["uniform prior", "", "", "", "", f"{uniform['way']:.3f}", f"{uniform['reachable']:.3f}", "", ""]]
    rows += [_row(name, _card(out / name)) for name in RUNGS if (out / name / "card.json").is_file()]
    tiny = local_folder("tiny-1")
    assert tiny is not None
    rows.append(_row("tiny-1", _card(tiny) | measure(tiny, held_out)))
    columns = "model", "parameters", "texts", "tokens trained on", "seconds"
    print(*markdown.table([*columns, "expert mass, way", "all", "log p, way", "all"], rows), sep="\n")


def _is_built(folder: Path, corpus: CorpusConfig, training: Training) -> bool:
    if not (folder / "card.json").is_file():
        return False
    card = _card(folder)
    corpus_read = asdict(CorpusConfig()) | card["corpus"]  # a card knows no settings that came later
    made_with = {"corpus": corpus_read, "vocab": card["vocab"], "training": card["training"]}
    # As JSON has it: a tuple is a list there.
    wanted = json.loads(json.dumps({"corpus": asdict(corpus), "vocab": VOCAB, "training": asdict(training)}))
    if made_with != wanted:
        raise ValueError(
            f"{folder} holds a model made with other settings ({made_with['training']}): "
            "move it away, or choose another folder with --out"
        )
    return True


def _card(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "card.json").read_text())


def _row(name: str, card: dict[str, Any]) -> list[str]:
    return [
        name,
        f"{card['parameters']:,}",
        f"{card['corpus_texts'] if card.get('worlds') != 0 else 0:,}",  # the corpus of the untrained is not read
        f"{card['tokens_trained']:,}" if "tokens_trained" in card else "",
        f"{card['seconds']:.0f}" if "seconds" in card else "",
        *(f"{card['expert_mass'][which]:.3f}" for which in ("way", "reachable")),
        *(f"{card['log_likelihood'][which]:.2f}" for which in ("way", "reachable")),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rungs", nargs="*", metavar="RUNG", help=f"some of {', '.join(RUNGS)} (default: all)")
    parser.add_argument("--out", type=Path, default=Path("runs/models"), help="default runs/models")
    parser.add_argument("--steps", type=int, default=600, help="of training, half of tiny-1's by default (600)")
    parser.add_argument("--report", action="store_true", help="print the table of those built, build nothing")
    args = parser.parse_args()
    unknown = [name for name in args.rungs if name not in RUNGS]
    if unknown:
        parser.error(f"there is no rung {unknown[0]!r}: choose among {', '.join(RUNGS)}")
    if args.report:
        report(args.out)
        return
    try:
        climb(args.rungs or list(RUNGS), args.out, args.steps)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

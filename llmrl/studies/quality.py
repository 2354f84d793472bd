"""Sample efficiency against prior quality: a point for each model of the ladder and each oracle of a study.

The quality of a prior is its expert mass: the probability that it gives to the expert's actions on the shortest ways
through development kitchens (`card.json` of each model, see scripts/tiny/quality.py); of an oracle it is known. What it
is worth is the area under the success curve, and the median of decisions to 80 %, on the study's world.
"""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path

from matplotlib.figure import Figure

from llmrl.lm.identify import local_folder
from llmrl.report.compare import compare
from llmrl.report.figures import STYLES, layout, save
from llmrl.report.statistics import Estimate
from llmrl.studies.study import Results

UNIFORM = 0.208  # the expert mass of equal weights, in the same kitchens
AUTHORS = {"cook": "cooks", "expert": "better cooks", "random": "random authors", "untrained": "nobody"}


def quality(overrides: list[str]) -> tuple[str, float] | None:
    """(kind of prior, its expert mass) of an arm; None where it is neither a model of the ladder nor an oracle."""
    settings = dict(o.split("=", 1) for o in overrides if "=" in o)
    if settings.get("prior") == "oracle":
        error = float(settings["prior.error"])
        return "oracle", 1 - error + error * UNIFORM
    if settings.get("prior", "sampled") != "sampled" or any(key.endswith(".uniform") for key in settings):
        return None
    if settings.get("learner") != "dqn_prior":
        return None
    folder = local_folder(settings.get("lm.model", "tiny-1"))
    assert folder is not None
    mass = json.loads((folder / "card.json").read_text())["expert_mass"]["way"]
    name = folder.name
    return ("tiny-1" if name == "tiny-1" else AUTHORS[name.rpartition("-")[2]]), mass


def draw_quality(
    results: Results, wanted: list[str], out: Path, against: str = "dqn", columns: int | None = None
) -> Path | None:
    """The figure of the arms that are wanted, in `out`; None where none of them has a known quality.

    `against`: the arm without a prior, drawn as a line. `columns`: of a paper, as in `layout`.
    """
    study, arms = results.study, results.arms(wanted)
    if against not in arms:
        return None
    found: dict[str, list[tuple[str, float, Estimate, Estimate]]] = {}
    line = None
    for arm, own in arms.items():
        if arm == against or arm.endswith("_original"):
            continue
        if (kind := quality([*study.common, *study.arms[arm]["set"]])) is None:
            continue
        c = compare(own, arms[against], allow_different=True)
        line = c.against
        assert c.groups[0].area is not None
        found.setdefault(kind[0], []).append((arm, kind[1], c.groups[0].area, c.groups[0].needed[1]))
    if not found:
        return None
    _draw(found, line, out, columns)
    return out


def _draw(found: dict, line, out: Path, columns: int | None) -> None:  # type: ignore[no-untyped-def]
    look = layout(columns)
    stacked = columns == 1
    height = 3.9 if columns is None else look.width * (1.5 if stacked else 0.5)
    figure = Figure(figsize=(look.width, height), layout="constrained")
    left, right = figure.subplots(2 if stacked else 1, 1 if stacked else 2, squeeze=False).flat
    shown = {"color": "black", "linewidth": 0.4 * look.line, "linestyle": "--"}
    for i, (kind, points) in enumerate(sorted(found.items())):
        colour, _, marker = STYLES[i % len(STYLES)]
        form = {"color": colour, "marker": marker, "markersize": 0.6 * look.small, "linestyle": "none"}
        x = [mass for _, mass, _, _ in points]
        low = [a.low - a.interval_low for _, _, a, _ in points]
        high = [a.interval_high - a.low for _, _, a, _ in points]
        left.errorbar(x, [a.low for _, _, a, _ in points], [low, high], label=kind, capsize=2, elinewidth=0.8, **form)
        for _, mass, _, needed in points:
            right.plot(mass, needed.low, fillstyle="full" if isfinite(needed.high) else "none", **form)
    if line is not None and line.area is not None:
        left.axhline(line.area.low, label="dqn, no prior", **shown)
        right.axhline(line.needed[1].low, **shown)
    left.set(ylabel="area under the success curve", ylim=(0, 1))
    right.set(ylabel="decisions to 80 %\n(hollow: not reached)", yscale="log")
    for axes in (left, right):
        axes.set_xlabel("expert mass of the prior")
        axes.xaxis.label.set_size(look.text)
        axes.yaxis.label.set_size(look.text)
        axes.tick_params(labelsize=look.small)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = left.get_legend_handles_labels()
    across = look.legend_columns(labels, len(labels))
    figure.legend(handles, labels, loc="outside lower center", ncols=across, frameon=False, fontsize=look.small)
    save(figure, out, 150 if columns is None else look.dpi)

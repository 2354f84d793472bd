from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from report.runs_on_disk import make_run

from llmrl.report import plots
from llmrl.report.compare import compare
from llmrl.report.figures import STYLES
from llmrl.report.plots import _curve, curve, group_runs, interval, run_curve
from llmrl.report.transitions import Arm
from llmrl.run.load import RunInfo

DQN = ["learner=dqn", "env=overcooked_tomato"]


@pytest.fixture
def runs(tmp_path: Path) -> list[RunInfo]:
    made = [make_run(tmp_path, [*DQN, f"seed={s}"], lambda step, s=s: min(1, step / 1000 + s / 10)) for s in range(3)]
    made.append(make_run(tmp_path, ["learner=random", "env=overcooked_tomato"], lambda step: 0.1))
    return made


def seen_figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    made: list[Figure] = []

    class Seen(Figure):
        def savefig(self, *args: object, **kwargs: object) -> None:
            super().savefig(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(plots, "Figure", Seen)
    return made


def test_a_curve_is_a_picture_of_readme_width(runs: list[RunInfo], tmp_path: Path) -> None:
    out = curve(runs, tmp_path / "pictures" / "c.png")
    data = out.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (800, 460)
    assert curve(runs, tmp_path / "same.png").read_bytes() == data


def test_labels_and_seeds_are_in_the_picture(runs: list[RunInfo], tmp_path: Path) -> None:
    svg = curve(runs, tmp_path / "c.svg").read_text()
    for text in ("dqn (3 seeds)", "random (1 seed)", "overcooked_tomato", "decisions", "success", "100%", "1,000"):
        assert f">{text}<" in svg


@pytest.mark.parametrize("length", [3, 18, 34, 60])
@pytest.mark.parametrize("curves", [1, 2, 5])
def test_a_legend_is_no_wider_than_its_picture(
    length: int, curves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = seen_figures(monkeypatch)
    arms = [
        Arm("w" + "m" * (length // 3) + "i" * (length - length // 3 - 1), [0], np.array([1.0, 10.0]), np.ones((1, 2)))
    ]
    plots.samples({"title": arms * curves}, tmp_path / "c.png", (), {"title": 0.3})
    (legend,) = made[0].legends
    assert legend.get_window_extent().x0 >= 0
    assert legend.get_window_extent().x1 <= made[0].bbox.width


WIDTHS = {None: 8.0, 1: 3.25, 2: 6.75}


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_a_figure_has_its_kind_its_width_and_its_texts(
    columns: int | None, suffix: str, runs: list[RunInfo], tmp_path: Path
) -> None:
    inches = WIDTHS[columns]
    data = curve(runs, tmp_path / f"c{suffix}", columns=columns).read_bytes()
    assert curve(runs, tmp_path / f"again{suffix}", columns=columns).read_bytes() == data
    texts = ("dqn (3 seeds)", "random (1 seed)", "overcooked_tomato", "decisions", "success")
    if suffix == ".png":
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">I", data[16:20])[0] == round(inches * (100 if columns is None else 300))
    elif suffix == ".svg":
        root = ElementTree.fromstring(data)
        assert root.get("width") == f"{72 * inches:g}pt"
        shown = {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
        assert shown >= set(texts)
    else:
        assert data.startswith(b"%PDF-")
        box = re.search(rb"/MediaBox \[ 0 0 (\S+) ", data)
        assert box is not None
        assert float(box[1]) == pytest.approx(72 * inches)
        assert b"/FontFile2" in data  # TrueType, in the file
        assert b"/Type3" not in data
        streams = re.findall(rb"stream\r?\n(x.*?)\r?\nendstream", data, re.DOTALL)
        drawn = b"".join(map(zlib.decompress, streams))
        letters = re.sub(rb"\)\s*-?[\d.]*\s*\(|[\\\0]", b"", drawn)  # kerning stands between parts of a word
        assert all(text.encode() in letters for text in texts)


def test_eight_lines_are_told_apart_in_colour_and_in_grey() -> None:
    assert len(STYLES) == 8
    assert len({style.colour for style in STYLES}) == len({style.marker for style in STYLES}) == 8
    assert len({str(style.line) for style in STYLES}) == 8
    grey = [np.dot(to_rgb(style.colour), (0.2126, 0.7152, 0.0722)) for style in STYLES]
    assert max(grey) < 0.7  # on white


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("several", [False, True])
def test_no_text_lies_on_another_or_outside(
    columns: int | None, several: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = seen_figures(monkeypatch)
    names = ["bc", "cql", "cql_prior", "iql", "an arm with a name that is rather long, as labels of settings are"]
    sizes = np.array([100.0, 1000.0, 10000.0, 100000.0])
    arms = [Arm(name, [0], sizes, np.full((1, 4), i / 5)) for i, name in enumerate(names)]
    panels = {"A home with a name of many words, as titles of studies have": arms}
    if several:
        panels["Overcooked tomato"] = arms
    plots.samples(panels, tmp_path / "c.png", (0.5,), columns=columns)
    (figure,) = made
    FigureCanvasAgg(figure).draw()
    shown = list(figure.legends[0].get_texts())
    for axes in figure.axes:
        shown += [axes.title, axes.xaxis.label, axes.yaxis.label]
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
            shown += [label for at, label in ticks if low <= at <= high]
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
    assert {text for text, _ in boxes} >= {
        "success",
        "transitions",
        "cql_prior" if several else "cql_prior (1 seed)",
        "1,000",
        "40%",
    }
    for number, (text, box) in enumerate(boxes):
        assert -1 <= box.x0 <= box.x1 <= figure.bbox.width + 1, text
        assert [other for other, its in boxes[number + 1 :] if box.overlaps(its)] == [], text
    assert min(text.get_fontsize() for text in shown) >= (7 if columns else 9)


def test_runs_that_differ_only_in_their_seed_are_one_group(runs: list[RunInfo], tmp_path: Path) -> None:
    runs.append(make_run(tmp_path / "elsewhere", [*DQN, "seed=9", "threads=2", "checkpoint_every=7"], lambda step: 0.5))
    groups = group_runs(runs)
    assert {label: len(group) for label, group in groups.items()} == {"dqn": 4, "random": 1}


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        ([DQN], ["dqn"]),
        ([["learner=dqn"], ["learner=dqn_prior"]], ["dqn", "dqn_prior"]),
        ([["learner=dqn"], ["learner=dqn", "prior=uniform_k"]], ["uniform", "uniform_k"]),
        ([["learner=dqn"], ["learner=dqn", "learner.alpha=0.5"]], ["alpha=0.02", "alpha=0.5"]),
        ([["learner=dqn"], ["learner=dqn", "prior.target.k=3"]], ["prior.target.k=null", "prior.target.k=3"]),
        (
            [["learner=dqn"], ["learner=random", "env=overcooked_tomato"]],
            ["dqn overcooked_salad", "random overcooked_tomato"],
        ),
        (
            [["learner=dqn"], ["learner=dqn_prior"], ["learner=dqn_prior", "learner.alpha=0.5", "learner.lr=0.1"]],
            ["dqn alpha=0.02", "dqn_prior alpha=0.02", "dqn_prior alpha=0.5"],
        ),
    ],
)
def test_groups_are_told_apart_by_what_differs(cells: list[list[str]], labels: list[str], tmp_path: Path) -> None:
    assert list(group_runs([make_run(tmp_path, cell, lambda step: 0.5) for cell in cells])) == labels


def test_the_interval_holds_the_mean_and_narrows_with_seeds() -> None:
    rng = np.random.default_rng(1)
    few, many = rng.random((5, 5)), rng.random((40, 5))
    for y in (few, many):
        low, high = interval(y)
        assert (low <= y.mean(0)).all()
        assert (y.mean(0) <= high).all()
    assert (np.subtract(*interval(many)[::-1]) < np.subtract(*interval(few)[::-1])).all()
    assert np.isnan(interval(few[:4])).all()


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(size=(20, 400))  # 400 experiments of 20 seeds, true mean 0
    low, high = interval(y)
    assert 0.88 < ((low <= 0) & (high >= 0)).mean() < 0.98


def test_seeds_are_compared_where_all_were_measured() -> None:
    short, long = (np.array([0.0, 250]), np.array([0.0, 1])), (np.array([0.0, 250, 500]), np.array([0.5, 0.5, 0.5]))
    c = _curve("x", [short, long])
    assert c is not None
    assert c.x_X.tolist() == [0, 250]
    assert c.y_SX.tolist() == [[0, 1], [0.5, 0.5]]


def test_seeds_that_share_no_point_are_read_between_their_own() -> None:
    c = _curve("x", [(np.array([0.0, 10]), np.array([0.0, 1])), (np.array([2.0, 8]), np.array([1.0, 1]))])
    assert c is not None
    assert (c.x_X[0], c.x_X[-1]) == (2, 8)
    np.testing.assert_allclose(c.y_SX[0], c.x_X / 10)


def test_other_axes_and_missing_ones(runs: list[RunInfo], tmp_path: Path) -> None:
    assert curve(runs[:3], tmp_path / "p.png", x="lm/distinct_prompts").exists()
    with pytest.raises(ValueError, match=r"no run has eval/sucess over env_steps: they have env_steps, eval/success"):
        curve(runs, tmp_path / "p.png", metric="eval/sucess")


def test_a_run_draws_its_own_curve(runs: list[RunInfo], tmp_path: Path) -> None:
    assert run_curve(runs[0].path) == runs[0].path / "curve.png"
    assert (runs[0].path / "curve.png").stat().st_size > 5000
    assert run_curve(make_run(tmp_path, [*DQN, "seed=7"], lambda step: None).path) is None


def test_a_group_has_one_colour_in_both_pictures(
    runs: list[RunInfo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours: list[dict[str, str]] = []

    class Seen(Figure):
        def savefig(self, *args: object, **kwargs: object) -> None:
            super().savefig(*args, **kwargs)
            (legend,) = self.legends
            lines = zip(legend.get_texts(), legend.get_lines(), strict=True)
            colours.append({text.get_text(): line.get_color() for text, line in lines})

    monkeypatch.setattr(plots, "Figure", Seen)
    runs += [make_run(tmp_path, [*DQN, f"learner.alpha={alpha}"], lambda step: 0.3) for alpha in (0.5, 0.2)]
    curve(runs, tmp_path / "a.png")
    curve(runs[::-1], tmp_path / "b.png")
    for a, b in ((runs[:3] + runs[4:], runs[3:4]), (runs[3:], runs[:3])):
        plots.comparison(compare(a, b, allow_dirty=True), tmp_path / "c.png")
    assert len(colours[0]) == len(set(colours[0].values())) == 4
    assert all(each == colours[0] for each in colours[1:])

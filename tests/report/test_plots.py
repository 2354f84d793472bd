from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from report.runs_on_disk import make_run

from llmrl.report import plots
from llmrl.report.compare import compare
from llmrl.report.plots import _curve, curve, group_runs, interval, run_curve
from llmrl.report.transitions import Arm
from llmrl.run.load import RunInfo

DQN = ["learner=dqn", "env=overcooked_tomato"]


@pytest.fixture
def runs(tmp_path: Path) -> list[RunInfo]:
    made = [make_run(tmp_path, [*DQN, f"seed={s}"], lambda step, s=s: min(1, step / 1000 + s / 10)) for s in range(3)]
    made.append(make_run(tmp_path, ["learner=random", "env=overcooked_tomato"], lambda step: 0.1))
    return made


def test_a_curve_is_a_picture_of_readme_width(runs: list[RunInfo], tmp_path: Path) -> None:
    out = curve(runs, tmp_path / "pictures" / "c.png")
    data = out.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (800, 460)
    assert curve(runs, tmp_path / "same.png").read_bytes() == data


def test_labels_and_seeds_are_in_the_picture(runs: list[RunInfo], tmp_path: Path) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none"}):
        svg = curve(runs, tmp_path / "c.svg").read_text()
    for text in ("dqn (3 seeds)", "random (1 seed)", "overcooked_tomato", "decisions", "success", "100%", "1,000"):
        assert f">{text}<" in svg


@pytest.mark.parametrize("length", [3, 18, 34, 60])
@pytest.mark.parametrize("curves", [1, 2, 5])
def test_a_legend_is_no_wider_than_its_picture(
    length: int, curves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Figure] = []

    class Seen(Figure):
        def savefig(self, *args: object, **kwargs: object) -> None:
            super().savefig(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(plots, "Figure", Seen)
    arms = [
        Arm("w" + "m" * (length // 3) + "i" * (length - length // 3 - 1), [0], np.array([1.0, 10.0]), np.ones((1, 2)))
    ]
    plots.samples({"title": arms * curves}, tmp_path / "c.png", (), {"title": 0.3})
    (legend,) = made[0].legends
    assert legend.get_window_extent().x0 >= 0
    assert legend.get_window_extent().x1 <= made[0].bbox.width


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

"""ALFWorld cells of one table: of one version, one set of games, one rule of success, and told so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from report.runs_on_disk import make_run, make_runs
from typer.testing import CliRunner

from llmrl.cli.main import app
from llmrl.report.alfworld import MixedCells, Played, check_played
from llmrl.report.games import evaluations_table
from llmrl.report.sweeps import arms, keep
from llmrl.run.evaluations import Judged
from llmrl.run.load import RunInfo
from llmrl.run.provenance import machine
from llmrl.studies.judge import Judgement
from llmrl.studies.study import Study

WORLD = {
    "packages": {"alfworld": "0.4.2", "textworld": "1.7.0", "tatsu": "5.8.3"},
    "games": 140,
    "data": "ab" * 32,
    "left_out": {},
    "success": "won",
}
NOTE = "ALFWorld: alfworld 0.4.2, textworld 1.7.0; games abababababab (140); rule of success: won"
OTHER: list[tuple[dict[str, Any], str, str]] = [
    ({"packages": {"alfworld": "0.4.3", "textworld": "1.7.0"}}, "differ in alfworld", "0.4.3: "),
    ({"packages": {"alfworld": "0.4.2", "textworld": "1.8.0"}}, "differ in textworld", "1.8.0: "),
    ({"data": "cd" * 32, "games": 134}, "differ in games", "cdcdcdcdcdcd (134): "),
    ({"success": "all_goals"}, "differ in rule of success", "all_goals: "),
    ({"packages": {}}, "differ in alfworld", "not recorded: "),
]
PICK = ["env=alfworld/pick", "env_steps=20", "evaluation.every=10", "evaluation.episodes=1"]


def played_on(run: RunInfo, **changed: Any) -> RunInfo:
    file = run.path / "provenance.json"
    world = {key: value for key, value in (WORLD | changed).items() if value is not None}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"world": world}))
    return RunInfo(run.path)


def runs_of(root: Path, learner: str, seeds: Sequence[int], *more: str, **changed: Any) -> list[RunInfo]:
    words = [*PICK, f"learner={learner}", *more]
    return [played_on(run, **changed) for run in make_runs(root, words, seeds, lambda seed: lambda step: 0.5, 20, 10)]


def typed(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(map(str, words)))
    return done.exit_code, " ".join(done.output.split())


def test_a_comparison_says_what_was_played(tmp_path: Path) -> None:
    runs_of(tmp_path, "dqn", range(5))
    runs_of(tmp_path, "random", range(5), success=None)  # of before the rule was recorded, and there was one
    code, text = typed("compare", "dqn", "--against", "random", "--runs", tmp_path, "--out", tmp_path / "a.md")
    assert code == 0, text
    assert NOTE in text
    assert NOTE in (tmp_path / "a.md").read_text().replace("\n", " ")


@pytest.mark.parametrize(("changed", "what", "value"), OTHER)
@pytest.mark.parametrize("more", [(), ("--allow-different", "--allow-dirty")])
def test_cells_that_differ_are_refused_by_name(
    changed: dict[str, Any], what: str, value: str, more: tuple[str, ...], tmp_path: Path
) -> None:
    runs_of(tmp_path, "dqn", range(2))
    odd = runs_of(tmp_path, "random", [0], **changed)
    runs_of(tmp_path, "random", [1])
    code, text = typed("compare", "dqn", "--against", "random", "--runs", tmp_path, *more)
    assert code == 2
    assert f"ALFWorld cells of one table {what}" in text
    assert f"{value}{odd[0].name}" in text
    code, text = typed("report", tmp_path, "--runs", tmp_path, "--out", tmp_path / "page.html")
    assert (code, f"{value}{odd[0].name}" in text) == (2, True)


def test_a_sweep_and_its_table_are_of_the_same_games(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, "dqn", range(2))
    (table, _) = keep(arms(runs), runs, tmp_path)
    assert NOTE in table.read_text()
    with pytest.raises(MixedCells, match=f"cdcdcdcdcdcd \\(134\\): {runs[0].name}\n"):
        arms([played_on(runs[0], data="cd" * 32, games=134), runs[1]])


def test_evaluations_that_are_shown_together_are_of_the_same_games(tmp_path: Path) -> None:
    judged = []
    for run, data in zip(runs_of(tmp_path, "dqn", range(2)), ("ab", "cd"), strict=True):
        path = run.path / "evaluations" / "a"
        path.mkdir(parents=True)
        (path / "config.yaml").write_text((run.path / "config.yaml").read_text())
        (path / "provenance.json").write_text(json.dumps({"world": WORLD | {"data": data * 32}}))
        judged.append(Judged(run, path, {"exact": {"a": 0.5}, "tasks": 1, "length": 3, "checkpoint": 20}))
    assert evaluations_table(judged[:1]).row_count == 1
    with pytest.raises(MixedCells, match=r"cdcdcdcdcdcd \(140\): alfworld_pick-.*, a$"):
        evaluations_table(judged)


def test_a_report_may_have_groups_of_other_games(tmp_path: Path) -> None:
    runs_of(tmp_path, "dqn", range(2))
    runs_of(tmp_path, "dqn", range(2), "env.split=valid_seen", data="cd" * 32, games=5)
    page = tmp_path / "page.html"
    code, text = typed("report", tmp_path, "--runs", tmp_path, "--out", page)
    assert code == 0, text
    assert "games abababababab (140), cdcdcdcdcdcd (5); rule of success: won" in page.read_text()
    code, text = typed("compare", "env.split=train", "--against", "env.split=valid_seen", "--allow-different",
                       "--runs", tmp_path)  # fmt: skip
    assert (code, "differ in games" in text) == (2, True)


def test_other_worlds_have_no_such_note_and_no_such_rule(tmp_path: Path) -> None:
    runs = make_runs(tmp_path, ["env=household/pick"], [0, 1], lambda seed: lambda step: 0.5, 20, 10)
    odd = played_on(runs[0], data="cd" * 32)
    assert check_played(map(Played.of, [odd, *runs[1:]])) == []
    (own,) = runs_of(tmp_path, "dqn", [0])
    assert check_played(map(Played.of, [odd, own])) == [NOTE]
    old = Played("old", {"env": {"_target_": "llmrl.envs.alfworld.env.alfworld", "task": "pick"}}, {})
    with pytest.raises(MixedCells, match="not recorded: old"):
        check_played([old, Played.of(own)])


STUDY = {
    "seeds": 2,
    "common": PICK,
    "arms": {"dqn": ["learner=dqn"], "random": ["learner=random"]},
    "tables": {"": "random"},
}


@pytest.mark.parametrize("changed", [{}, {"data": "cd" * 32, "games": 134}])
def test_the_table_of_a_study(changed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    for cell in Study.read(Path("small.yaml")).cells():
        run = make_run(Path("runs/small"), [*cell.overrides], lambda step: 0.5, 20, 10)
        odd = changed if (cell.arm, cell.seed) == ("random", 1) else {}
        file = run.path / "provenance.json"
        file.write_text(file.read_text().replace("true", "false"))  # made by committed code
        played_on(run, **odd)
    for command in ("table", "report", "reproduce"):
        more = ("--tables",) if command == "reproduce" else ()
        code, text = typed(command, "small.yaml", *more)
        if changed:
            assert code == 2, text
            assert "cdcdcdcdcdcd (134): random seed 1" in text
            assert "abababababab (140): dqn seed 0, dqn seed 1, random seed 0" in text
        else:
            assert code == 0, text
    if not changed:
        assert NOTE in Path("runs/tables/small/tables.md").read_text()
        assert NOTE in Path("report.html").read_text()
        assert NOTE in typed("table", "small.yaml")[1]


@pytest.mark.parametrize("changed", [False, True])
def test_the_table_in_other_games(changed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns have other games, and the cells of a column have the same."""
    monkeypatch.chdir(tmp_path)
    sets = {"seen": ["env.split=valid_seen"], "unseen": ["env.split=valid_unseen"]}
    judged = {"evaluate": sets, "episodes": 1, "judge": {"dqn": ["random"], "random": []}}
    Path("small.yaml").write_text(yaml.safe_dump({**STUDY, **judged, "tables": {}}, sort_keys=False))
    study = Study.read(Path("small.yaml"))
    for cell in study.cells():
        run = make_run(Path("runs/small"), [*cell.overrides], lambda step: 0.5, 20, 10)
        played_on(run)
        (run.path / "checkpoints" / "20").mkdir(parents=True)
    for planned in Judgement(study, Path("runs/small"), print).orders():
        planned.path.mkdir(parents=True)
        summary = {"evaluation_id": planned.id, "policy": "behaviour", "checkpoint": 20, "exact": {"a": 0.5, "b": 1.0}}
        (planned.path / "summary.json").write_text(json.dumps(summary))
        (planned.path / "config.yaml").write_text(OmegaConf.to_yaml(planned.cfg))
        world = WORLD | {"data": ("cd" if "valid_seen" in planned.asked.overrides[0] else "ef") * 32}
        (planned.path / "provenance.json").write_text(json.dumps({"world": world}))
    if changed:
        (planned.path / "provenance.json").write_text(json.dumps({"world": WORLD | {"data": "00" * 32}}))
    code, text = typed("table", "small.yaml")
    if changed:
        assert code == 2, text
        assert f"000000000000 (140): {planned.run.name} in env.split=valid_unseen" in text
    else:
        assert code == 0, text
        assert "games abababababab (140), cdcdcdcdcdcd (140), efefefefefef (140); rule of success: won" in text


def test_a_run_of_before_the_rule_was_recorded_is_resumed() -> None:
    origin = {"packages": {}, "machine_type": {}, "world": WORLD}
    old = {key: value for key, value in WORLD.items() if key != "success"}
    assert machine(origin) == machine(origin | {"world": old})
    assert machine(origin) != machine(origin | {"world": WORLD | {"success": "all_goals"}})

"""`llmrl runs push`, and what `logger=` takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from loggers.fakes import Fake, fake
from omegaconf import OmegaConf
from report.runs_on_disk import make_runs
from typer.testing import CliRunner

from llmrl.cli.main import app
from llmrl.config.compose import ConfigError, compose
from llmrl.loggers.logger import chosen_loggers
from llmrl.report.command import command_of
from llmrl.run.identity import free_settings, identify_run
from llmrl.run.load import RunInfo

__all__ = ["fake"]


@pytest.fixture
def runs(tmp_path: Path) -> list[RunInfo]:
    overrides = ["learner=dqn", "logger=wandb", "logger.wandb.project=of_the_run"]
    return make_runs(tmp_path / "runs", overrides, [0, 1], lambda s: lambda t: 0.5, 500, 250)


def typed(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["runs", "push", *words, "--runs", str(folder / "runs")])


def test_runs_are_sent_to_several_dashboards_and_then_nothing_is_left(
    fake: Fake, tmp_path: Path, runs: list[RunInfo]
) -> None:
    words = ["dqn", "--to", "tensorboard", "--to", "wandb", "--folder", str(tmp_path / "events")]
    done = typed(tmp_path, *words)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        line
        for run in runs
        for line in (
            f"{run.name}: 3 of 3 rows sent to tensorboard: {tmp_path / 'events' / run.name}",
            f"{run.name}: 3 of 3 rows sent to wandb: https://example.org/run",
        )
    ]
    assert fake.told("step") == [0, 250, 500] * 2
    assert [asked["project"] for asked in fake.told("init")] == ["of_the_run"] * 2
    assert typed(tmp_path, *words).stdout.count("all 3 rows are in") == 4


def test_options_come_before_the_settings_of_the_run(fake: Fake, tmp_path: Path, runs: list[RunInfo]) -> None:
    options = ["--project", "other", "--entity", "team", "--mode", "offline", "--dir", str(tmp_path / "kept")]
    typed(tmp_path, "seed=1", "--to", "wandb", *options)
    (asked,) = fake.told("init")
    assert asked["name"] == runs[1].name
    assert [asked[key] for key in ("project", "entity", "mode")] == ["other", "team", "offline"]
    assert asked["dir"] == str(tmp_path / "kept")
    assert (tmp_path / "kept").is_dir()  # wandb takes another folder where there is none


def test_a_run_that_cannot_be_sent_is_named_and_the_others_are_tried(
    fake: Fake, tmp_path: Path, runs: list[RunInfo]
) -> None:
    fake.fails("init")
    done = typed(tmp_path, "dqn", "--to", "wandb")
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        f"{run.name}: wandb does not have all rows (RuntimeError: no key)" for run in runs
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "wandbb"], "--to=wandbb: did you mean --to=wandb? choose one of tensorboard, wandb, trackio"),
        (["--to", "wandb", "--folder", "x"], "--folder: wandb has no such setting"),
        (["--to", "wandb", "--mode", "of"], "--mode=of: choose one of online, offline"),
        (["--to", "tensorboard", "--space-id", "x"], "--space-id: tensorboard has no such setting"),
    ],
)
def test_what_is_typed_wrongly_is_refused(
    words: list[str], said: str, fake: Fake, tmp_path: Path, runs: list[RunInfo]
) -> None:
    done = typed(tmp_path, "dqn", *words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert fake.told("init") == []


def test_one_or_several_loggers_are_chosen() -> None:
    assert chosen_loggers(compose([]).logger) == {}
    assert chosen_loggers(compose(["logger=tensorboard"]).logger) == {"tensorboard": {"folder": "tensorboard"}}
    both = chosen_loggers(compose(["logger=[trackio,wandb]", "logger.wandb.project=mine"]).logger)
    assert list(both) == ["wandb", "trackio"]
    assert both["wandb"] == {"project": "mine", "entity": None, "mode": None, "dir": None}


def test_a_preset_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "logger").mkdir()
    (tmp_path / "logger" / "team.yaml").write_text("# Ours.\ndefaults: [wandb, _self_]\nwandb: {entity: team}\n")
    cfg = compose(["logger=team"], tmp_path)
    assert chosen_loggers(cfg.logger)["wandb"]["entity"] == "team"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("logger=tensorbord", "logger=tensorbord: did you mean logger=tensorboard?"),
        ("logger=[wandb,trakio]", "logger=trakio: did you mean logger=trackio?"),
        ("logger.wandb.project=mine", "nothing is sent there; add logger=wandb"),
        ("learner=[dqn,bc]", "learner is one option; for a run with each: -m learner=dqn,bc"),
    ],
)
def test_a_wrong_choice_is_refused(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose([override])
    assert said in str(refused.value)


def test_a_wrong_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"did you mean logger\.wandb\.project=x"):
        compose(["logger=wandb", "logger.wandb.projct=x"])
    with pytest.raises(ConfigError, match=r"logger\.wandb\.mode=of: choose one of online, offline"):
        compose(["logger=wandb", "logger.wandb.mode=of"])


def test_a_logger_is_no_part_of_a_run_nor_of_the_command_that_makes_it() -> None:
    plain, sent = compose(["learner=dqn"]), compose(["learner=dqn", "logger=[wandb,tensorboard]"])
    assert identify_run(sent) == identify_run(plain)
    config = OmegaConf.to_container(sent)
    assert isinstance(config, dict)
    assert {"logger.wandb.project", "logger.tensorboard.folder"} <= free_settings(
        {str(k): v for k, v in config.items()}
    )
    assert "logger" not in " ".join(command_of({str(k): v for k, v in config.items()}))

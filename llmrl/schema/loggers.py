"""Settings of the dashboards that a run's rows are sent to. The field of `LoggerConfig` is the logger's name."""

from __future__ import annotations

from dataclasses import dataclass

from llmrl.schema.fields import Schema, setting


@dataclass
class TensorBoardConfig(Schema):
    folder: str = "tensorboard"  # has a folder of event files for each run


@dataclass
class WandbConfig(Schema):
    project: str = "llmrl"  # is made where it is not there yet
    entity: str | None = None  # a user or a team; null: as wandb chooses
    # offline: kept in `dir` until `wandb sync`; null: $WANDB_MODE, or online
    mode: str | None = setting(None, choices=("online", "offline"))
    dir: str | None = None  # holds the folder wandb/ with its files; null: $WANDB_DIR, or the working directory


@dataclass
class TrackioConfig(Schema):
    project: str = "llmrl"  # is made where it is not there yet
    space_id: str | None = None  # a Hugging Face Space, USER/NAME; null: this machine, in $TRACKIO_DIR


@dataclass
class LoggerConfig(Schema):
    tensorboard: TensorBoardConfig | None = None
    wandb: WandbConfig | None = None
    trackio: TrackioConfig | None = None

"""Event files for TensorBoard, by its own writer: `<folder>/<run>/events.out.tfevents.*`.

Each process that sends a run writes all of it into a file of its own. That begins with the start of a session, at which
TensorBoard drops what it has read of the run: a step is there once, also in a server that runs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.hparams.api_pb2 import STATUS_RUNNING, STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from llmrl.core.files import flatten
from llmrl.loggers.logger import Sent


class TensorBoard:
    first = 0

    def __init__(self, settings: Mapping[str, Any], run: Sent) -> None:
        folder = _folder(settings, run)
        folder.mkdir(parents=True, exist_ok=True)
        self.where = str(folder)
        self._writer = EventFileWriter(str(folder))
        self._add(Event(session_log=SessionLog(status=SessionLog.START)))
        self._add_text("config", run.config)
        self._add_hparams(
            hparams.SESSION_START_INFO_TAG,
            HParamsPluginData(session_start_info=_start_info(flatten(run.config))),
        )

    @staticmethod
    def has(settings: Mapping[str, Any], run: Sent) -> bool:
        return any(_folder(settings, run).glob("events.out.tfevents.*"))

    def write(self, step: int, row: Mapping[str, float]) -> None:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in row.items()]
        self._add(Event(step=step, summary=Summary(value=values)))
        self._writer.flush()

    def finish(self, summary: Mapping[str, Any], last: int, complete: bool) -> None:
        if complete:
            self._add_text("summary", summary)
        end = SessionEndInfo(status=STATUS_SUCCESS if complete else STATUS_RUNNING, end_time_secs=time.time())
        self._add_hparams(hparams.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))
        self._writer.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.add_event(event)

    def _add_text(self, tag: str, values: Mapping[str, Any]) -> None:
        table = "\n".join(
            ["| | |", "|-|-|", *(f"| {key} | {_cell(value)} |" for key, value in flatten(values).items())]
        )
        tensor = TensorProto(
            dtype=DT_STRING,
            string_val=[table.encode()],
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
        )
        metadata = create_summary_metadata(display_name=tag, description="")
        self._add(Event(summary=Summary(value=[Summary.Value(tag=tag, tensor=tensor, metadata=metadata)])))

    def _add_hparams(self, tag: str, data: HParamsPluginData) -> None:
        metadata = hparams.create_summary_metadata(data)
        value = Summary.Value(tag=tag, tensor=hparams.NULL_TENSOR, metadata=metadata)
        self._add(Event(summary=Summary(value=[value])))


def _start_info(config: Mapping[str, Any]) -> SessionStartInfo:
    info = SessionStartInfo(start_time_secs=time.time())
    for key, value in config.items():
        if isinstance(value, bool):
            info.hparams[key].bool_value = value
        elif isinstance(value, int | float):
            info.hparams[key].number_value = value
        else:
            info.hparams[key].string_value = str(value)
    return info


def _folder(settings: Mapping[str, Any], run: Sent) -> Path:
    return Path(settings["folder"]) / run.name


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")

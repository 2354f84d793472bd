"""A llama.cpp server for measurements and tests, and SmolLM2's file for it, as it is distributed and in float32."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import gguf
import httpx2
import numpy as np

from llmrl.config.compose import config_folder
from llmrl.core.overrides import ConfigFolders
from llmrl.lm.model_folders import models_folder
from llmrl.models.entry import read_entry
from llmrl.models.fetch import fetch

FLOAT32 = ("-ctk", "f32", "-ctv", "f32", "-fa", "off")  # keys and values are kept in float16 otherwise
SLOTS = 4
STARTS_IN = 120  # seconds


class LlamaServer(NamedTuple):
    url: str
    process: subprocess.Popen[bytes]


def smollm2() -> Path:
    """The file as it is distributed, in Q4_1; downloaded once."""
    entry = read_entry("smollm2", ConfigFolders(config_folder()))
    return fetch(entry, models_folder() / "files", print)


def write_as(file: Path, to: Path, kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32) -> Path:
    """Writes the same tokenizer and settings, and the same weights as `kind`; vectors stay in float32."""
    reader = gguf.GGUFReader(file)
    writer = gguf.GGUFWriter(to, reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        value_type, *rest = field.types
        writer.add_key_value(name, field.contents(), value_type, rest[-1] if rest else None)
    for tensor in reader.tensors:
        weights = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        is_matrix = weights.ndim == 2
        data = gguf.quantize(weights, kind) if is_matrix else weights
        writer.add_tensor(tensor.name, data, raw_dtype=kind if is_matrix else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return to


@contextmanager
def serving(build: Path, file: Path, log: Path, *options: str) -> Iterator[LlamaServer]:
    """A server of `file` on 127.0.0.1, on one thread, for as long as the block. build: the folder of make llamacpp."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [build / "build" / "bin" / "llama-server", "-m", file, "--host", "127.0.0.1", "--port", port]
    command += ["-c", 2048 * SLOTS, "-np", SLOTS, "-t", 1, *options]
    with log.open("wb") as out:
        process = subprocess.Popen([str(part) for part in command], stdout=out, stderr=out)
    try:
        until = time.monotonic() + STARTS_IN
        while not _is_up(port):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"llama-server does not answer; its last words:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield LlamaServer(f"http://127.0.0.1:{port}/v1", process)
    finally:
        process.terminate()
        process.wait()


def _is_up(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False

"""The settings of models: what they share, and those of language models."""

from __future__ import annotations

from dataclasses import dataclass

from llmrl.schema.fields import Schema, setting

DEVICES = ("auto", "cpu", "cuda")


@dataclass
class ModelConfig(Schema):
    """A model of an `lm` or an `encoder`. Its identity (model, revision, dtype, tokenizer) enters the run id."""

    kind: str = "???"
    name: str = setting("???", free=True)  # the option's name; the identity says which model it is
    model: str = "???"  # tiny-1 | one of `llmrl models list` | a local folder | FILE.gguf | a hub id
    revision: str | None = None  # a hub commit; a local folder's is a hash of its files, found when the run starts
    dtype: str = "float32"  # float32 | bfloat16 | float16: type of numbers in computation


@dataclass
class TransformersLMConfig(ModelConfig):
    """A causal language model in this process."""

    device: str = setting("auto", choices=DEVICES, free=True)  # auto: a GPU where there is one
    # states per forward; null: 1 on a CPU (no answer depends on another), else 16
    batch_size: int | None = setting(None, low=1, free=True)
    # begin each prompt with the beginning-of-text token; null: as the tokenizer does
    bos: bool | None = setting(None, since=True)


@dataclass
class OpenAILMConfig(ModelConfig):
    """A model behind a server, which is what these settings declare."""

    model: str = "???"  # tiny-1 | one of `llmrl models list` | a local folder | a hub id | with `tokenizer`, any name
    dtype: str = "bfloat16"  # the server's type of numbers
    tokenizer: str | None = None  # null: the model can be looked at from here | a name: it is only declared
    url: str = setting("http://127.0.0.1:8000/v1", free=True)  # address of the server, up to /v1
    served_name: str | None = setting(None, free=True)  # the server's name of the model; null: found in its list
    api_key_env: str | None = setting(None, free=True)  # the name of the environment variable that holds the key
    allow_http: bool = setting(False, free=True)  # allow no encryption beyond this machine too
    # requests at once, at most; how many the server sustains is found out
    concurrency: int = setting(256, low=1, free=True)
    attempt_s: float = setting(120.0, low=0, above=True, free=True)  # seconds for one attempt at a question
    patience_s: float = setting(600.0, low=0, above=True, free=True)  # seconds for all attempts; then the run pauses
    # nats by which the server may answer the probes otherwise than before
    probe_tolerance: float = setting(0.01, low=0, above=True, free=True)
    serve: str | None = setting(None, free=True)  # a model to start vLLM with, for as long as the command runs
    serve_env: str | None = setting(None, free=True)  # the folder of the environment that has vLLM; null: on PATH

"""A small server that speaks the API of llama.cpp's llama-server, as far as it differs from vLLM's."""

from __future__ import annotations

from typing import Any

from small_server import ModelBackend, SmallServer

from llmrl.lm.transformers_lm import TransformersLM


class SmallLlamaCpp(SmallServer):
    """slots: the answers that it computes at once. biases: its log-probabilities are those with the bias.

    noise: nats by which it moves each answer, up and down in turn, as quantised activations do.
    """

    def __init__(self, backend: ModelBackend, slots: int = 2, biases: bool = False, noise: float = 0.0) -> None:
        super().__init__(backend)
        self.slots, self.biases, self.noise = slots, biases, noise

    @property
    def lm(self) -> TransformersLM:
        assert isinstance(self.backend, ModelBackend)
        return self.backend.lm

    def answer(self, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        if path == "/props":
            settings = {"n_ctx": self.backend.room, "params": {}}
            return 200, {"default_generation_settings": settings, "total_slots": self.slots, "build_info": "b1-small"}
        if path == "/tokenize" and body is not None:
            text = body.get("content", "")
            return 200, {"tokens": self.backend.tokenize(text, body.get("add_special", False)) if text else []}
        if path == "/apply-template" and body is not None:
            prompt = self.lm.tokenizer.apply_chat_template(body["messages"], add_generation_prompt=True, tokenize=False)
            return 200, {"prompt": prompt.removeprefix(self.lm.tokenizer.bos_token)}  # its tokenizer adds it
        if path in ("/v1/models", "/v1/chat/completions"):
            return super().answer(path, body)
        if path == "/v1/completions" and body is not None:
            return self._complete(body)
        return 404, {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}

    def _complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        if "logit_bias" not in body:
            return super().answer("/v1/completions", {**body, "logprobs": None, "prompt_logprobs": None})
        self.seen.append(body)
        ((token, bias),) = body["logit_bias"]
        assert bias >= 100
        (found,) = self.backend.next_logprobs([body["prompt"]], [token])
        at = {"id": token, "token": "?", "logprob": 0.0 if self.biases else min(0.0, found[token] + self.noise)}
        self.noise = -self.noise
        choice = {"index": 0, "text": "?", "finish_reason": "length", "logprobs": {"content": [at]}}
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": 1}
        return 200, {"choices": [choice], "usage": usage}

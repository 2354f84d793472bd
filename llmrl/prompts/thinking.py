"""Think first: the model writes a thought, and is then asked again with its thought in the prompt.

A thought is a generation like another, kept under the same rules. The prompt after it ends with the thought and the
prompt's `then`. Actions are projected from the answer to that prompt alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from llmrl.answers.answers import Answers
from llmrl.lm.language_model import Conversation, Sampling, Score, stopping
from llmrl.prompts.prompt import Prompt
from llmrl.schema.priors import PriorConfig


def asked_first(prompt: Prompt, cfg: PriorConfig, seed: int, answers: Answers) -> Asked:
    """The object that a prior with these settings asks: with a thought first, where the prompt wants one."""
    if prompt.think is None:
        return answers
    temperature = cfg.temperature if cfg.source == "generated" else 1.0
    thought = Sampling(prompt.think_tokens, temperature, cfg.top_p, prompt.think_end, _draw_seed(cfg, seed))
    return Thinking(answers, thought, prompt.then, prompt.think == "each")


def sampling_of(cfg: PriorConfig, seed: int, prompt: Prompt) -> Sampling:
    """How free answers are drawn with these settings of a prior."""
    stop = prompt.end if cfg.stop is None else stopping(cfg.stop)
    return Sampling(cfg.max_tokens, cfg.temperature, cfg.top_p, stop, _draw_seed(cfg, seed))


def thoughts_before(ask: Asked, prompt: str, n: int) -> tuple[str, ...]:
    """Those before the first n answers, one that they share or n of them; none where the model does not think."""
    return tuple(ask.thoughts([prompt], n)[0]) if isinstance(ask, Thinking) else ()


def _draw_seed(cfg: PriorConfig, seed: int) -> int:
    return seed if cfg.draw_seed is None else cfg.draw_seed


class Thinking:
    """Answers after a thought.

    each: every answer has a thought of its own; else all answers to a prompt share thought number 0. `sampling` is the
    thought's. then: what follows a thought; in a conversation, what is said to the model next.
    """

    def __init__(self, answers: Answers, sampling: Sampling, then: str, each: bool) -> None:
        self._answers, self._sampling, self._then, self._each = answers, sampling, then, each

    def thoughts(self, prompts: Sequence[str], n: int) -> list[list[str]]:
        """The thoughts before the first n answers to each prompt: n of them, or the one that they share."""
        return self._answers.generations(prompts, n if self._each else 1, self._sampling)

    def generations(self, prompts: Sequence[str], n: int, sampling: Sampling) -> list[list[str]]:
        """Asks for generations as `Answers.generations`, each after a thought.

        Answers that follow equal thoughts are different generations of one prompt, in the order of their thoughts.
        """
        given = [
            [self._after(p, t) for t in (ts if self._each else ts * n)]
            for p, ts in zip(prompts, self.thoughts(prompts, n), strict=True)
        ]
        wanted = Counter[str]()
        for some in given:
            wanted |= Counter(some)
        found: dict[str, list[str]] = {}
        for many in sorted(set(wanted.values())):
            asked = [prompt for prompt, count in wanted.items() if count == many]
            found |= zip(asked, self._answers.generations(asked, many, sampling), strict=True)
        texts = []
        for some in given:
            answers = {prompt: iter(found[prompt]) for prompt in some}
            texts.append([next(answers[prompt]) for prompt in some])
        return texts

    def scores(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        """Asks for scores as `Answers.scores`, after the thought that all continuations share."""
        thoughts = self.thoughts(prompts, 1)
        return self._answers.scores(
            [self._after(p, t) for p, (t,) in zip(prompts, thoughts, strict=True)], continuations
        )

    def begin_generations(self, prompts: Sequence[str], n: int, sampling: Sampling) -> None:
        """Begins with the thoughts; what follows them cannot be asked before they are there."""
        self._answers.begin_generations(prompts, n if self._each else 1, self._sampling)

    def begin_scores(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> None:
        self._answers.begin_generations(prompts, 1, self._sampling)

    def _after(self, prompt: str, thought: str) -> str:
        if isinstance(prompt, Conversation):
            return prompt.and_then(thought, self._then)
        return f"{prompt}{thought}{self._then}"


Asked = Answers | Thinking  # what priors ask

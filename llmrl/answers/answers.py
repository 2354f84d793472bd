"""The kept answers: a language model is asked once, and what it said stands for every later run."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, KeysView, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, NamedTuple

from llmrl.answers.cache_file import AnswerCacheError
from llmrl.answers.store import (
    AnswerCache,
    Questions,
    canonical,
    now,
    record_key,
    row_key,
    with_version,
    without_garbage_collection,
)
from llmrl.lm.language_model import (
    PROBES,
    ByPaths,
    Closing,
    Counting,
    LanguageModel,
    LanguageModelError,
    ModelIdentity,
    Outage,
    Overlapping,
    Sampling,
    Score,
    Served,
    Speaking,
    another_model,
    distance,
)

__all__ = [
    "AnswerCache",
    "AnswerCacheError",
    "AnswerCounts",
    "Answers",
    "KeptRows",
    "Questions",
    "canonical",
    "now",
    "record_key",
    "row_key",
    "with_version",
]

COMMIT_EVERY = 64  # prompts: what a kill can lose of one call; a commit costs little beside asking for as many


@dataclass
class AnswerCounts:
    """The counts of one `Answers`. An answer is one continuation's score or one generation."""

    calls: int = 0  # of the model, each for up to COMMIT_EVERY prompts
    computed: int = 0  # answers the model gave
    hits: int = 0  # answers that were kept already
    scored_tokens: int = 0  # tokens of the continuations that the model scored


class _Begun(NamedTuple):
    """Questions that are under way."""

    sampling: Sampling | None
    missing: dict[str, list[str]]  # prompt -> the names of the answers asked for
    answers: Callable[[], Sequence[Sequence[Any]]]  # waits for them


class Answers:
    """Answers for priors: from the cache where it has them, else from the model.

    New answers are cached before they are used. identity, engine: of the model, known without it. `load` is called at
    the first question that needs the model, and must give that very model. Equal prompts in a call are asked once.
    `cached_only`: a missing answer is an error.
    """

    def __init__(
        self,
        cache: AnswerCache,
        identity: ModelIdentity,
        engine: str,
        load: Callable[[], LanguageModel],
        cached_only: bool = False,
    ) -> None:
        self.counts = AnswerCounts()
        self._cache, self._identity, self._engine, self._load = cache, identity, engine, load
        self._cached_only = cached_only
        self._questions: dict[Sampling | None, Questions] = {}
        self._say: Callable[[str], None] = lambda _: None
        self._asking: Callable[[int, int], None] = lambda done, total: None
        self._model: LanguageModel | None = None
        self._begun: list[_Begun] = []
        self._unread: dict[tuple[Sampling | None, str], set[str]] = {}  # asked for ahead
        self._vouched = False  # whether what answers is the model that answered before

    def tell(self, say: Callable[[str], None], doing: Callable[[str, int, int], None], name: str) -> None:
        """`say` is told of what is waited for, from any thread; `doing` how many prompts of how many `name` was asked.

        As in `llmrl.report.progress.Speaker`.
        """
        self._say = say
        self._asking = lambda done, total: doing(f"prompts asked of {name}", done, total)

    @property
    def note(self) -> str | None:
        """The note for a person about the opening of the cache, or None."""
        return self._cache.note

    def scores(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> list[list[Score]]:
        """log p(continuation | prompt) for every continuation of every prompt, in the caller's order.

        Raises LanguageModelError where the model gives none, AnswerCacheError where it cannot be kept.
        """
        known = self._answers("score", None, _by_prompt(prompts, continuations))
        with without_garbage_collection():
            return [
                list(map(Score._make, map(known[prompt].__getitem__, texts)))
                for prompt, texts in zip(prompts, continuations, strict=True)
            ]

    def generations(self, prompts: Sequence[str], n: int, sampling: Sampling) -> list[list[str]]:
        """Generations 0 … n-1 of each prompt.

        Generation i has the seed: the first 48 bits of the record's key, plus i. Raises as `scores`.
        """
        indices = [str(i) for i in range(n)]
        names = dict.fromkeys(indices).keys()
        known = self._answers("generate", sampling, dict.fromkeys(prompts, names))
        return [[known[prompt][i] for i in indices] for prompt in prompts]

    def begin_scores(self, prompts: Sequence[str], continuations: Sequence[Sequence[str]]) -> None:
        """Begins to ask for those scores that are not kept, and does not wait; `scores` will.

        A model that cannot be asked so is not asked before. Raises as `scores` where the model is out of reach.
        """
        self._begin("score", None, _by_prompt(prompts, continuations))

    def begin_generations(self, prompts: Sequence[str], n: int, sampling: Sampling) -> None:
        """Begins to ask for generations, as `begin_scores` does for scores."""
        self._begin("generate", sampling, dict.fromkeys(prompts, dict.fromkeys(map(str, range(n))).keys()))

    def counters(self) -> Mapping[str, float]:
        """The costs of asking besides `counts`, for a model behind a server."""
        return self._model.counters() if isinstance(self._model, Counting) else {}

    def server(self) -> dict[str, str]:
        """The facts found about the server that was asked; empty where none was."""
        model = self._model
        return dict(model.provenance) if model is not None and isinstance(model, Served) else {}

    def close(self) -> None:
        self._cache.close()
        if isinstance(self._model, Closing):
            self._model.close()

    def _answers(
        self, mode: str, sampling: Sampling | None, wanted: Mapping[str, KeysView[str]]
    ) -> dict[str, dict[str, Any]]:
        """prompt -> name of an answer -> the answer, for all `wanted` names (of each prompt) at least."""
        self._finish(sampling, wanted)
        questions = self._questions_of(mode, sampling)
        known, missing = self._missing(questions, wanted)
        left = sum(map(len, missing.values()))
        asked = sum(map(len, wanted.values()))
        self.counts.hits += asked - left - self._read_first(sampling, wanted)
        if missing and self._cached_only:
            raise AnswerCacheError(
                f"only cached answers may be used, and {len(missing):,} of {len(wanted):,} prompts ({left:,} of "
                f"{asked:,} answers, mode {mode}) of {self._identity.model}, revision {self._identity.revision[:12]}, "
                f"are not kept in {self._cache.path}; the first begins {_beginning(next(iter(missing)))}: {_HOW_TO_GET}"
            )
        for start in range(0, len(missing), COMMIT_EVERY):
            some = dict(islice(missing.items(), start, start + COMMIT_EVERY))
            model = self._get_model()
            self._asking(start, len(missing))
            self._keep(sampling, some, self._ask(model, questions, sampling, some))
            # What was stored is the answer, also where another process stored its own first.
            known.update(zip(some, self._cache.read(questions.keys(some)), strict=True))
            self._asking(start + len(some), len(missing))
        return known

    def _begin(self, mode: str, sampling: Sampling | None, wanted: Mapping[str, KeysView[str]]) -> None:
        under_way = {prompt for begun in self._begun if begun.sampling == sampling for prompt in begun.missing}
        questions = self._questions_of(mode, sampling)
        _, missing = self._missing(questions, {prompt: n for prompt, n in wanted.items() if prompt not in under_way})
        if not missing or self._cached_only:
            return
        model = self._get_model()
        if isinstance(model, Overlapping):
            for start in range(0, len(missing), COMMIT_EVERY):
                some = dict(islice(missing.items(), start, start + COMMIT_EVERY))
                answers: Callable[[], Sequence[Sequence[Any]]] = (
                    model.start_score(list(some), list(some.values()))
                    if sampling is None
                    else model.start_sample(list(some), questions.seeds(some), sampling)
                )
                self._begun.append(_Begun(sampling, some, answers))

    def _finish(self, sampling: Sampling | None, wanted: Collection[str]) -> None:
        """Waits for what was begun of these prompts, and keeps it."""
        due = [b for b in self._begun if b.sampling == sampling and not b.missing.keys().isdisjoint(wanted)]
        for begun in due:
            self._begun.remove(begun)
            self._keep(sampling, begun.missing, begun.answers())
            for prompt, names in begun.missing.items():
                self._unread.setdefault((sampling, prompt), set()).update(names)

    def _read_first(self, sampling: Sampling | None, wanted: Mapping[str, KeysView[str]]) -> int:
        """The number of these answers that are read for the first time after the model gave them ahead."""
        count = 0
        for prompt, names in wanted.items() if self._unread else ():
            unread = self._unread.get((sampling, prompt), set())
            count += len(unread & names)
            unread -= names
            if not unread:
                self._unread.pop((sampling, prompt), None)
        return count

    def _ask(
        self, model: LanguageModel, questions: Questions, sampling: Sampling | None, missing: Mapping[str, list[str]]
    ) -> Sequence[Sequence[Any]]:
        if sampling is None:
            return model.score(list(missing), list(missing.values()))
        return model.sample(list(missing), questions.seeds(missing), sampling)

    def _keep(
        self, sampling: Sampling | None, missing: Mapping[str, list[str]], found: Sequence[Sequence[Any]]
    ) -> None:
        """Commits what the model said: `found` of each prompt in `missing`, one for each name."""
        scores = [] if sampling is not None else [score for answers in found for score in answers]
        if not all(math.isfinite(score.logprob) for score in scores):
            raise LanguageModelError(f"{self._identity.model} gave a log-probability that is not a number")
        named = [dict(zip(names, answers, strict=True)) for names, answers in zip(missing.values(), found, strict=True)]
        self.counts.scored_tokens += sum(score.tokens for score in scores)
        self.counts.calls += 1
        self.counts.computed += sum(map(len, named))
        model = self._get_model()
        paths = model.paths if isinstance(model, ByPaths) else [""] * len(named)
        for path in dict.fromkeys(paths):
            provenance = {**model.provenance, "path": path} if path else model.provenance
            some = [(prompt, found) for prompt, found, its in zip(missing, named, paths, strict=True) if its == path]
            records = {self._questions[sampling].text(prompt): answers for prompt, answers in some}
            self._cache.add(records, with_version(provenance))

    def _missing(
        self, questions: Questions, wanted: Mapping[str, KeysView[str]]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
        """The known answers of each prompt, and the names of the missing ones."""
        known = dict(zip(wanted, self._cache.read(questions.keys(wanted)), strict=True))
        return known, {
            prompt: [name for name in names if name not in record]
            for (prompt, names), record in zip(wanted.items(), known.values(), strict=True)
            if not names <= record.keys()
        }

    def _questions_of(self, mode: str, sampling: Sampling | None) -> Questions:
        if sampling not in self._questions:
            self._questions[sampling] = Questions(self._fields(mode, sampling))
        return self._questions[sampling]

    def _get_model(self) -> LanguageModel:
        if self._model is None:
            if self._engine == "transformers":
                self._say(f"loading {self._identity.model}")
            model = self._load()
            if (model.identity, model.engine) != (self._identity, self._engine):
                raise LanguageModelError(
                    f"the model that was loaded, {model.identity} by {model.engine}, is not the one that was declared, "
                    f"{self._identity} by {self._engine}: its answers would be kept under a wrong name"
                )
            self._model = model
            if isinstance(model, Speaking):
                model.hear(lambda text: self._say(text))
        if not self._vouched:
            self._hold_to_kept(self._model)
            self._vouched = True
        return self._model

    def _hold_to_kept(self, model: LanguageModel) -> None:
        """A served model answers the probes as it did when its first answers were kept. Raises Outage."""
        if not isinstance(model, Served) or not (found := model.probe()):
            return
        questions = Questions(self._fields("score", None))
        prompts = [prompt for prompt, _ in PROBES]
        named = [dict(zip(texts, scores, strict=True)) for (_, texts), scores in zip(PROBES, found, strict=True)]
        self._cache.add(dict(zip(map(questions.text, prompts), named, strict=True)), with_version(model.provenance))
        kept = self._cache.read(questions.keys(prompts))
        before = [
            [Score._make(record[text]) for text in texts] for (_, texts), record in zip(PROBES, kept, strict=True)
        ]
        apart, allowed = distance(found, before), model.probe_tolerance
        if apart > allowed:
            raise Outage(another_model(self._identity.model, "what is served", apart, allowed))

    def _fields(self, mode: str, sampling: Sampling | None) -> dict[str, Any]:
        parameters = None if sampling is None else asdict(sampling)
        return {"engine": self._engine, "mode": mode, "model": asdict(self._identity), "parameters": parameters}


class KeptRows:
    """Feature rows for encoders with a model: from the cache where it has them, else computed.

    A row is the bytes of little-endian float32. It depends on `encoder`, which names all the encoder's settings, and on
    one text.
    """

    def __init__(self, cache: AnswerCache, cached_only: bool = False) -> None:
        self._cache, self._cached_only = cache, cached_only

    def dim(self, encoder: Mapping[str, Any]) -> int | None:
        """The length of this encoder's rows; None where none was ever kept.

        Raises AnswerCacheError where none was, and none may be computed.
        """
        dim = self._cache.row_length(canonical(encoder))
        if dim is None and self._cached_only:
            raise AnswerCacheError(
                f"only cached rows may be used, and no feature row of {_encoder_name(encoder)} is kept in "
                f"{self._cache.path}: {_HOW_TO_GET}"
            )
        return dim

    def rows(
        self,
        encoder: Mapping[str, Any],
        texts: Sequence[str],
        compute: Callable[[list[str]], Sequence[bytes]],
        provenance: Callable[[], Mapping[str, str]],
    ) -> list[bytes]:
        """The row of each text. Those that are missing are computed once each, and kept before they are used."""
        body = canonical(encoder)
        keys = {text: row_key(body, text) for text in texts}
        known = self._cache.read_rows(list(keys.values()))
        missing = [text for text, key in keys.items() if key not in known]
        if missing and self._cached_only:
            raise AnswerCacheError(
                f"only cached answers may be used, and {len(missing):,} of {len(keys):,} feature rows of "
                f"{_encoder_name(encoder)} are not kept in {self._cache.path}, the first of the text "
                f"{_beginning(missing[0])}: {_HOW_TO_GET}"
            )
        for start in range(0, len(missing), COMMIT_EVERY):
            some = missing[start : start + COMMIT_EVERY]
            found = dict(zip(some, compute(some), strict=True))
            self._cache.add_rows(body, found, with_version(provenance()))
            known |= self._cache.read_rows([keys[text] for text in some])
        return [known[keys[text]] for text in texts]


def _by_prompt(prompts: Sequence[str], names: Sequence[Sequence[str]]) -> dict[str, KeysView[str]]:
    wanted: dict[str, dict[str, None]] = {}
    for prompt, some in zip(prompts, names, strict=True):
        wanted.setdefault(prompt, {}).update(dict.fromkeys(some))
    return {prompt: some.keys() for prompt, some in wanted.items()}


_HOW_TO_GET = (
    "leave --cached-only (cached_only=true) out to compute the missing ones, or bring them in from an export with "
    "`llmrl cache import FILE`"
)


def _beginning(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def _encoder_name(encoder: Mapping[str, Any]) -> str:
    return f"{encoder.get('model')}, revision {str(encoder.get('revision'))[:12]}, pooling {encoder.get('pooling')}"

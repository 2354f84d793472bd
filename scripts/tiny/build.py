"""Builds the embedded model: corpus, tokenizer, training, and a folder that transformers loads.

    python -m scripts.tiny.build --out llmrl/lm/tiny/tiny-1
    python -m scripts.tiny.build --games 1800 --kitchens 200 ... --out llmrl/lm/tiny/tiny-2
    (all options: docs/explanation/embedded-models.md)

The model is a llama of about 1.4 million parameters (tiny-1) or half as many, with a byte-level BPE tokenizer of its
own. Every text is one row; loss is taken on the answer in full and on the prompt at a tenth, so that the capacity goes
into what to do.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from llmrl.config.compose import compose
from llmrl.prompts.prompt import Prompt
from scripts.tiny.corpus import CorpusConfig, Example, examples
from scripts.tiny.homes import HomesConfig
from scripts.tiny.quality import Exam, exam, homes_exam, measure

END = "<|end|>"
PROMPT_WEIGHT = 0.1
VOCAB = 512  # at most: a corpus may not give so many pairs to merge


@dataclass(frozen=True)
class Training:
    width: int = 192
    layers: int = 3
    steps: int = 1200  # 0: weights as they were drawn
    batch_tokens: int = 4096  # with padding
    lr: float = 3e-3
    seed: int = 1
    threads: int = 1


class Row(NamedTuple):
    tokens: np.ndarray  # int32 [T]: end, prompt, answer
    prompt: int  # how many of them come before the answer


@dataclass(frozen=True)
class Corpus:
    """The texts of a model, in its own tokens."""

    tokenizer: PreTrainedTokenizerFast
    rows: list[Row]


def build(out: Path, corpus: CorpusConfig, vocab: int, training: Training, held_out: Exam) -> dict[str, Any]:
    """Trains a model, writes it to `out` in the way of save_pretrained, and returns its card.

    The card, written last as card.json, has the settings (`corpus`, `vocab`, `training`), the size of the corpus
    (`corpus_texts`, `corpus_tokens`), what the model was trained on (`worlds`: kitchens and games in homes,
    `episodes`: walkthroughs, `tokens_trained`: tokens that a loss was taken on, repeats counted, `seconds`: of
    training, by the clock), its `parameters`, the hash of its weights, and `expert_mass` and `log_likelihood` as
    `quality.measure` has them.
    """
    torch.set_num_threads(training.threads)
    read_in = read(corpus, vocab)
    start = time.monotonic()
    model, tokens_trained = train(read_in.rows, len(read_in.tokenizer), training)
    seconds = time.monotonic() - start

    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    read_in.tokenizer.save_pretrained(out)
    _check_tokenizer(out, read_in)
    card = {
        "corpus": asdict(corpus),
        "corpus_texts": len(read_in.rows),
        "corpus_tokens": sum(len(row.tokens) for row in read_in.rows),
        "worlds": corpus.worlds if training.steps else 0,
        "episodes": corpus.episodes if training.steps else 0,
        "tokens_trained": tokens_trained,
        "seconds": round(seconds, 1),
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocab": vocab,
        "training": asdict(training),
        **measure(out, held_out),
        "sha256": hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest(),
    }
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    return card


@cache
def read(cfg: CorpusConfig, vocab: int) -> Corpus:
    """The texts of `cfg` and a tokenizer of (at most) `vocab` tokens learned from them; made once per process."""
    start = time.monotonic()
    texts = list(examples(cfg, Prompt(compose([]).prompt)))
    tokenizer = build_tokenizer(texts, vocab)
    rows = encode(texts, tokenizer)
    print(f"{len(rows)} texts by {cfg.author} authors in {time.monotonic() - start:.0f} s", flush=True)
    return Corpus(tokenizer, rows)


def build_tokenizer(corpus: list[Example], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE that never merges across a newline, so that an answer always ends in the same token."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("\n"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator((e.prompt + e.answer for e in corpus), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=END, eos_token=END, pad_token=END, clean_up_tokenization_spaces=False
    )


def encode(corpus: list[Example], tokenizer: PreTrainedTokenizerFast) -> list[Row]:
    """Prompt and answer are tokenised apart, as in use."""
    backend = tokenizer.backend_tokenizer
    prompts = backend.encode_batch([e.prompt for e in corpus])
    answers = backend.encode_batch([e.answer for e in corpus])
    end = tokenizer.eos_token_id
    return [
        Row(np.array([end, *p.ids, *a.ids], dtype=np.int32), len(p.ids) + 1)
        for p, a in zip(prompts, answers, strict=True)
    ]


def train(rows: Sequence[Row], vocab_size: int, cfg: Training) -> tuple[LlamaForCausalLM, int]:
    """The trained model, and how many tokens a loss was taken on."""
    torch.manual_seed(cfg.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=cfg.width,
            intermediate_size=cfg.width * 8 // 3,
            num_hidden_layers=cfg.layers,
            num_attention_heads=cfg.width // 32,
            num_key_value_heads=cfg.width // 32,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
        )
    )
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=cfg.lr,
        betas=(0.9, 0.95),
    )
    rng = np.random.Generator(np.random.PCG64(cfg.seed))
    batches = _batches(rows, cfg.batch_tokens, rng)
    start, step, seen, running = time.monotonic(), 0, 0, math.nan
    model.train()
    while step < cfg.steps:
        for batch in batches:
            if step >= cfg.steps:
                break
            rate = cfg.lr * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / cfg.steps))
            for group in optimiser.param_groups:
                group["lr"] = max(rate, cfg.lr * 0.02)
            length = max(len(rows[i].tokens) for i in batch)
            ids = torch.zeros(len(batch), length, dtype=torch.long)
            weight = torch.zeros(len(batch), length)
            for r, i in enumerate(batch):
                tokens, prompt = rows[i]
                ids[r, : len(tokens)] = torch.from_numpy(tokens)
                weight[r, 1:prompt] = PROMPT_WEIGHT
                weight[r, prompt : len(tokens)] = 1.0
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1]  # right padding: no real token sees it
            losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
            w = weight[:, 1:].flatten()
            loss = (losses * w).sum() / w.sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            step, seen = step + 1, seen + int((weight > 0).sum())
            running = loss.item() if math.isnan(running) else 0.98 * running + 0.02 * loss.item()
            if step % 100 == 0:
                rate_s = seen / (time.monotonic() - start)
                print(
                    f"step {step}/{cfg.steps}  loss {running:.4f}  {seen / 1e6:.2f}M tokens  {rate_s:.0f}/s",
                    flush=True,
                )
        batches = _batches(rows, cfg.batch_tokens, rng)
    return model.eval(), seen


def _batches(rows: Sequence[Row], tokens: int, rng: np.random.Generator) -> list[list[int]]:
    """Rows of similar length together, each batch at most `tokens` with padding; batches in random order."""
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i].tokens), rng.random()))
    batches: list[list[int]] = [[]]
    for i in order:
        if batches[-1] and (len(batches[-1]) + 1) * len(rows[i].tokens) > tokens:
            batches.append([])
        batches[-1].append(i)
    return [batches[i] for i in rng.permutation(len(batches))]


def _check_tokenizer(out: Path, corpus: Corpus) -> None:
    """Checks that AutoTokenizer reads from the folder the tokenizer that the model was trained with."""
    again, backend = AutoTokenizer.from_pretrained(out), corpus.tokenizer.backend_tokenizer
    for row in corpus.rows[:: max(1, len(corpus.rows) // 500)]:
        text = backend.decode(row.tokens.tolist())  # without the end token in front
        assert again(text)["input_ids"] == backend.encode(text).ids, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--author", choices=["cook", "random"], default=CorpusConfig.author)
    parser.add_argument("--kitchens", type=int, default=CorpusConfig.kitchens)
    parser.add_argument("--howtos", type=int, default=CorpusConfig.howtos)
    parser.add_argument("--games", type=int, default=0, help="in homes; 0: kitchens alone are read about")
    parser.add_argument("--mistakes", type=float, nargs=2, default=CorpusConfig.mistakes)
    parser.add_argument("--vocab", type=int, default=VOCAB)
    parser.add_argument("--width", type=int, default=Training.width)
    parser.add_argument("--layers", type=int, default=Training.layers)
    parser.add_argument("--steps", type=int, default=Training.steps)
    parser.add_argument("--batch-tokens", type=int, default=Training.batch_tokens)
    parser.add_argument("--lr", type=float, default=Training.lr)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    corpus = CorpusConfig(
        kitchens=args.kitchens,
        mistakes=tuple(args.mistakes),
        author=args.author,
        howtos=args.howtos if args.author == "cook" else 0,  # who knows nothing gives no advice
        seed=args.seed,
        homes=HomesConfig(games=args.games, seed=args.seed) if args.games else None,
    )
    training = Training(args.width, args.layers, args.steps, args.batch_tokens, args.lr, args.seed, args.threads)
    held_out = exam() | (homes_exam() if args.games else {})
    card = build(args.out, corpus, args.vocab, training, held_out)
    print(f"{args.out}: {card['parameters']} parameters, {card['seconds']:.0f} s of training")


if __name__ == "__main__":
    main()

"""Builds the embedded model: corpus, tokenizer, training, and a folder that transformers loads.

    python -m scripts.tiny.build --out llmrl/lm/tiny/tiny-1

The model is a llama of about 1.4 million parameters with a byte-level BPE tokenizer of its own. Every text is one
row; loss is taken on the answer in full and on the prompt at a tenth, so that the capacity goes into what to do.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from llmrl.config import compose
from llmrl.priors.prompt import Prompt
from scripts.tiny.corpus import CorpusConfig, Example, examples

END = "<|end|>"
PROMPT_WEIGHT = 0.1


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


def encode(corpus: list[Example], tokenizer: PreTrainedTokenizerFast) -> list[tuple[list[int], int]]:
    """(token ids, length of the prompt among them) of every text. Prompt and answer are tokenised apart, as in use."""
    backend = tokenizer.backend_tokenizer
    prompts = backend.encode_batch([e.prompt for e in corpus])
    answers = backend.encode_batch([e.answer for e in corpus])
    end = tokenizer.eos_token_id
    return [([end, *p.ids, *a.ids], len(p.ids) + 1) for p, a in zip(prompts, answers, strict=True)]


def train(rows: list[tuple[list[int], int]], vocab_size: int, args: argparse.Namespace) -> LlamaForCausalLM:
    torch.manual_seed(args.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=args.width,
            intermediate_size=args.width * 8 // 3,
            num_hidden_layers=args.layers,
            num_attention_heads=args.width // 32,
            num_key_value_heads=args.width // 32,
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
        lr=args.lr,
        betas=(0.9, 0.95),
    )
    rng = np.random.Generator(np.random.PCG64(args.seed))
    batches = _batches(rows, args.batch_tokens, rng)
    start, step, seen, running = time.monotonic(), 0, 0, math.nan
    model.train()
    while step < args.steps:
        for batch in batches:
            if step >= args.steps:
                break
            rate = args.lr * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / args.steps))
            for group in optimiser.param_groups:
                group["lr"] = max(rate, args.lr * 0.02)
            length = max(len(rows[i][0]) for i in batch)
            ids = torch.zeros(len(batch), length, dtype=torch.long)
            weight = torch.zeros(len(batch), length)
            for r, i in enumerate(batch):
                tokens, prompt = rows[i]
                ids[r, : len(tokens)] = torch.tensor(tokens)
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
                    f"step {step}/{args.steps}  loss {running:.4f}  {seen / 1e6:.2f}M tokens  {rate_s:.0f}/s",
                    flush=True,
                )
        batches = _batches(rows, args.batch_tokens, rng)
    return model.eval()


def _batches(rows: list[tuple[list[int], int]], tokens: int, rng: np.random.Generator) -> list[list[int]]:
    """Rows of similar length together, each batch at most `tokens` with padding; batches in random order."""
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i][0]), rng.random()))
    batches: list[list[int]] = [[]]
    for i in order:
        if batches[-1] and (len(batches[-1]) + 1) * len(rows[i][0]) > tokens:
            batches.append([])
        batches[-1].append(i)
    return [batches[i] for i in rng.permutation(len(batches))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--author", choices=["cook", "random"], default="cook")
    parser.add_argument("--kitchens", type=int, default=CorpusConfig.kitchens)
    parser.add_argument("--mistakes", type=float, nargs=2, default=CorpusConfig.mistakes)
    parser.add_argument("--vocab", type=int, default=512)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    start = time.monotonic()
    cfg = CorpusConfig(kitchens=args.kitchens, mistakes=tuple(args.mistakes), author=args.author, seed=args.seed)
    corpus = list(examples(cfg, Prompt(compose([]).prompt)))
    print(f"{len(corpus)} texts in {time.monotonic() - start:.0f} s", flush=True)
    tokenizer = build_tokenizer(corpus, args.vocab)
    rows = encode(corpus, tokenizer)
    tokens = sum(len(ids) for ids, _ in rows)
    model = train(rows, len(tokenizer), args)

    args.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    again = AutoTokenizer.from_pretrained(args.out)
    for example in corpus[:: max(1, len(corpus) // 500)]:
        text = example.prompt + example.answer
        assert again(text)["input_ids"] == tokenizer.backend_tokenizer.encode(text).ids, text
    weights = args.out / "model.safetensors"
    card = {
        "corpus": asdict(cfg),
        "corpus_texts": len(corpus),
        "corpus_tokens": tokens,
        "parameters": sum(p.numel() for p in model.parameters()),
        "training": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k != "out"},
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    (args.out / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    print(
        f"{args.out}: {card['parameters']} parameters, {weights.stat().st_size / 1e6:.1f} MB, "
        f"{time.monotonic() - start:.0f} s"
    )


if __name__ == "__main__":
    main()

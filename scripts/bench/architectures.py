"""Which fast ways are proven for which architecture that transformers knows: a table, each with its default config.

    python -m scripts.bench.architectures [NAME …]

No weights are needed: the proof makes a small random copy (`llmrl.lm.fast_path_proof`). All names take ten minutes
or more.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from llmrl.lm.fast_path_proof import prove_anew


def main() -> None:
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    counts: Counter[str] = Counter()
    for name in sys.argv[1:] or MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        began = time.perf_counter()
        try:
            config = CONFIG_MAPPING[name]()
            if hasattr(config, "is_decoder"):
                config.is_decoder = True
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config)
        except Exception as error:  # its default config makes no model
            print(f"{name:24} no model from its default config ({type(error).__name__})", flush=True)
            counts["no model"] += 1
            continue
        proof = prove_anew(model, "cpu")
        seconds = time.perf_counter() - began
        print(
            f"{name:24} tree {proof.tree:6} cache {proof.cache:6} attention {proof.attention:5} "
            f"limit {proof.limit or '-':>8} {seconds:5.1f} s  {proof.reason}",
            flush=True,
        )
        counts[f"tree {proof.tree}"] += 1
        counts[f"cache {proof.cache}"] += 1
    print(", ".join(f"{kind}: {count}" for kind, count in sorted(counts.items())))


if __name__ == "__main__":
    main()

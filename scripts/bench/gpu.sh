#!/usr/bin/env bash
# What serving is worth on one NVIDIA GPU, with 7B shapes and no weights (--load-format dummy):
#   scripts/bench/gpu.sh VLLM_ENV [OUT]      VLLM_ENV: the environment that has vLLM; OUT: a folder, by default bench-gpu
# 1. llmrl train against vLLM: decisions/s with nothing kept, 64 environments, generated (k=5) and sampled; beside what it
#    asks per second, what vLLM's own benchmark client asks of the same kind, with the prompts of that very run, as fast as
#    it can: generated: distinct prompts, five answers of 16 tokens each; sampled: rows, a prompt and one token each
# 2. the trie against prompt_logprobs
# 3. the model in this process, scored by the tree mask, in bfloat16, at 0.5B and at 7B shapes (needs torch with CUDA)
# STEPS="1 2" leaves out the third. Nothing is downloaded: scripts/bench/shapes.py writes a config and a tokenizer.
# llmrl's own python is $PYTHON.
set -euo pipefail

VLLM_ENV=${1:?"usage: scripts/bench/gpu.sh VLLM_ENV [OUT]"}
OUT=${2:-bench-gpu}
PYTHON=${PYTHON:-.venv/bin/python}
PORT=${PORT:-8123}
STEPS=${STEPS:-1 2 3}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-4} HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
mkdir -p "$OUT"

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv | tee "$OUT/gpu.txt"
"$VLLM_ENV/bin/python" -c 'import torch, vllm; print("vllm", vllm.__version__, "torch", torch.__version__)' | tee -a "$OUT/gpu.txt"
git rev-parse HEAD 2>/dev/null | tee -a "$OUT/gpu.txt" || true

"$PYTHON" -m scripts.bench.shapes 7B "$OUT/shapes-7B"

if [[ $STEPS == *3* ]]; then
    echo "== 3. in this process, tree mask"
    for shapes in "0.5B 1024 38" "7B 4096 32"; do
        read -r size width layers <<< "$shapes"
        "$PYTHON" -m scripts.bench.scoring --width "$width" --layers "$layers" --device cuda --dtype bfloat16 --threads 4 \
            | tee "$OUT/in-process-$size.txt" || echo "in process, $size: not run" | tee "$OUT/in-process-$size.txt"
    done
fi
[[ $STEPS == *[12]* ]] || { echo "== done: $OUT"; exit 0; }

echo "== vLLM starts"
"$VLLM_ENV/bin/python" -m vllm.entrypoints.openai.api_server --model "$OUT/shapes-7B" --served-model-name shapes-7B \
    --load-format dummy --dtype bfloat16 --host 127.0.0.1 --port "$PORT" --generation-config vllm \
    --max-model-len 2048 --max-num-seqs 512 --enable-prefix-caching --disable-uvicorn-access-log > "$OUT/vllm.log" 2>&1 &
SERVER=$!
trap 'kill $SERVER 2>/dev/null; wait $SERVER 2>/dev/null || true' EXIT
until "$PYTHON" -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$PORT/v1/models', timeout=5)" 2> /dev/null; do
    kill -0 $SERVER 2>/dev/null || { tail -40 "$OUT/vllm.log"; exit 1; }
    sleep 2
done

URL="http://127.0.0.1:$PORT/v1"
if [[ $STEPS == *1* ]]; then
    echo "== 1. llmrl train: decisions/s, as a share of vLLM's own client"
    for prior in generated sampled; do
        "$PYTHON" -m scripts.bench.decisions --url "$URL" --model shapes-7B --prior "$prior" --envs 64 --ticks 40 \
            --prompts "$OUT/prompts-$prior.jsonl" | tee "$OUT/decisions-$prior.txt"
        if [ "$prior" = generated ]; then tokens=16 extra='{"n": 5, "temperature": 1.0}'; else tokens=1 extra='{"logprobs": 1}'; fi
        "$VLLM_ENV/bin/python" -m vllm.entrypoints.cli.main bench serve --backend openai --base-url "http://127.0.0.1:$PORT" \
            --model shapes-7B --tokenizer "$OUT/shapes-7B" --dataset-name custom --dataset-path "$OUT/prompts-$prior.jsonl" \
            --custom-output-len "$tokens" --skip-chat-template --num-prompts "$(wc -l < "$OUT/prompts-$prior.jsonl")" \
            --max-concurrency 256 --extra-body "$extra" \
            2>&1 | tee "$OUT/vllm-client-$prior.txt" || echo "vLLM's client: not run"
        awk -v prior="$prior" 'FNR == NR { if (match($0, /asked [0-9.]+ [a-z]+\/s/)) { split(substr($0, RSTART, RLENGTH), w, " "); ours = w[2] }
                if (match($0, /[0-9.]+ decisions\/s/)) { decisions = substr($0, RSTART, RLENGTH) } next }
            /Request throughput/ { theirs = $NF }
            END { what = prior == "generated" ? "distinct prompts/s" : "rows/s"
                  if (theirs > 0 && ours > 0) printf "%s: %s; %.1f %s, vLLM'"'"'s client %.1f requests/s: %.0f%%\n", prior, decisions, ours, what, theirs, 100 * ours / theirs
                  else print prior ": share not run" }' "$OUT/decisions-$prior.txt" "$OUT/vllm-client-$prior.txt" | tee -a "$OUT/share.txt"
    done
fi

if [[ $STEPS == *2* ]]; then
    echo "== 2. the trie against prompt_logprobs"
    "$PYTHON" -m scripts.bench.serving trie --url "$URL" --model shapes-7B --dtype bfloat16 --declared \
        | tee "$OUT/trie.txt" || echo "the trie: not run" | tee "$OUT/trie.txt"
fi
echo "== done: $OUT"

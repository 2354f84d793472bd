"""vLLM and what llmrl needs, for a GPU machine without network: torch 2.11 (CUDA 13), transformers 5.17, Python 3.12.

    python -m scripts.gpu_kit gather KIT          where there is a network: KIT/part-000, ... of at most 50 MB
    python scripts/gpu_kit.py unpack KIT          on the GPU machine, with its Python 3.12: makes KIT/bin/python
    PYTHON=KIT/bin/python scripts/bench/gpu.sh KIT

vllm 0.25.0 is the newest release built for that torch. It is gathered with what it and llmrl require and the target has
not; kernels for other machines and inputs are left out. `unpack` needs the standard library alone: KIT/bin/python is
the machine's own, with KIT/site before its packages. vLLM 0.25 computes the log-probabilities of named tokens, but its
completions API has no field for them, as that of 0.32 has; `named_tokens`, a plugin of vLLM's, hands it through.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

VLLM = "0.25.0"
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_31_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
PART = 50 * 10**6  # bytes
MANIFEST = "kit.json"
# What the target has: these, all that begins with nvidia, and pandas, with which vLLM's own client reads prompts. Its
# numpy is newer than vLLM's numba allows.
THERE = {
    "certifi", "filelock", "fsspec", "hf-xet", "huggingface-hub", "jinja2", "markupsafe", "matplotlib", "mpmath",
    "networkx", "packaging", "pip", "pyarrow", "pyyaml", "regex", "safetensors", "setuptools", "sympy", "tokenizers",
    "torch", "tqdm", "transformers", "triton", "typing-extensions",
}  # fmt: skip
# Kernels for other machines, and what reads pictures, sound and films. vLLM looks whether they are there.
LEFT_OUT = {
    "fastsafetensors", "flashinfer-cubin", "flashinfer-python", "humming-kernels", "opencv-python-headless",
    "pynvvideocodec", "quack-kernels", "tilelang", "tokenspeed-mla", "torchaudio", "torchcodec", "torchvision",
}  # fmt: skip
# These require torch, which cannot be resolved for another machine: which ones, and what else they require, besides.
ALONE = {
    "compressed-tensors": ("==0.17.0", ("loguru",)),
    "xgrammar": ("==0.2.1", ()),
}  # later ones want a newer tvm-ffi
FROM_SOURCE = ("antlr4-python3-runtime==4.9.3",)  # what Hydra requires; there is no wheel of it
# On Hopper FlashAttention 3 is used; 2 is a third of the wheel.
UNUSED_FILES = ("vllm/vllm_flash_attn/_vllm_fa2_C.abi3.so",)


def gather(kit: Path, every_gpu: bool) -> None:
    kit.mkdir(parents=True, exist_ok=True)
    if any(kit.iterdir()):
        raise SystemExit(f"{kit} is not empty: name another folder")
    with tempfile.TemporaryDirectory() as scratch:
        wheels, site = Path(scratch, "wheels"), Path(scratch, "site")
        _pip("wheel", "--no-deps", "--wheel-dir", str(wheels), *FROM_SOURCE)
        _pip("download", *_target(wheels), "--no-deps", "--dest", str(wheels), f"vllm=={VLLM}")
        (vllm,) = wheels.glob("vllm-*.whl")
        wanted = needed(vllm, wheels)
        print(f"vllm {VLLM} and llmrl need {len(wanted)} packages more: {', '.join(wanted)}")
        _pip("download", *_target(wheels), "--no-deps", "--dest", str(wheels), *wanted)
        for wheel in sorted(wheels.glob("*.whl")):
            with zipfile.ZipFile(wheel) as packed:
                packed.extractall(site)
        for name in () if every_gpu else UNUSED_FILES:
            (site / name).unlink()
        parts = pack(site, kit)
    about = {"vllm": VLLM, "python": PYTHON, "parts": parts}
    (kit / MANIFEST).write_text(json.dumps(about, indent=2) + "\n")
    size = sum(file.stat().st_size for file in kit.iterdir())
    print(f"{kit}: {len(parts)} parts, {size / 1e6:.0f} MB; copy all of it, and this repository, to the GPU machine")


def needed(vllm: Path, wheels: Path) -> list[str]:
    """name==version of all that vLLM and llmrl require, beside what is there and what is left out."""
    with zipfile.ZipFile(vllm) as wheel:
        (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        lines = wheel.read(name).decode().splitlines()
    required = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    direct = {_name(r): r for r in required if "extra ==" not in r}
    alone = [name + version for name, (version, _) in ALONE.items() if direct.pop(name)]
    direct |= {name: name for _, others in ALONE.values() for name in others}
    wanted = [r.partition(";")[0] for name, r in direct.items() if not _unwanted(name)]
    about = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    wanted += [r for r in about["project"]["dependencies"] if not _unwanted(_name(r))]
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        resolve = ["install", *_target(wheels), "--dry-run", "--ignore-installed", "--target", "nowhere"]
        _pip(*resolve, "--report", report.name, *wanted)
        found = json.loads(Path(report.name).read_text())["install"]
    names = [(item["metadata"]["name"], item["metadata"]["version"]) for item in found]
    return sorted([*alone, *(f"{name}=={version}" for name, version in names if not _unwanted(name))])


def pack(site: Path, kit: Path, size: int = PART) -> dict[str, str]:
    """Writes a folder as parts of one compressed archive; name -> SHA-256."""
    with tempfile.TemporaryFile() as archive:
        with tarfile.open(fileobj=archive, mode="w:xz", preset=3) as tar:
            tar.add(site, ".")
        archive.seek(0)
        parts: dict[str, str] = {}
        for block in iter(lambda: archive.read(size), b""):
            name = f"part-{len(parts):03}"
            (kit / name).write_bytes(block)
            parts[name] = hashlib.sha256(block).hexdigest()
    return parts


def unpack(kit: Path) -> Path:
    """The folder with all packages, made once. Raises SystemExit for a part that is missing or damaged."""
    site = kit / "site"
    if not (site / ".whole").exists():
        parts: dict[str, str] = json.loads((kit / MANIFEST).read_text())["parts"]
        with tempfile.TemporaryFile() as archive:
            for block in _blocks(kit, parts):
                archive.write(block)
            archive.seek(0)
            with tarfile.open(fileobj=archive, mode="r:xz") as tar:
                tar.extractall(site, filter="data")
        _plugin(site)
        (site / ".whole").touch()
    python = kit / "bin" / "python"  # which knows where the kit lies, so that it is written anew where that has changed
    python.parent.mkdir(exist_ok=True)
    python.write_text(f"""#!/bin/sh
export PYTHONPATH="{site.absolute()}${{PYTHONPATH:+:$PYTHONPATH}}" VLLM_USE_FLASHINFER_SAMPLER=0
exec "{sys.executable}" "$@"
""")
    python.chmod(0o755)
    return site


def named_tokens() -> None:
    """vLLM 0.25: `logprob_token_ids` of a completion is given to the engine, and all its log-probabilities are
    answered.

    vLLM keeps an unknown field of a request beside the known ones. vLLM calls this function in each of its processes.
    """
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest  # type: ignore[import-not-found]
    from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion  # type: ignore[import-not-found]

    asked, answered = CompletionRequest.to_sampling_params, OpenAIServingCompletion._create_completion_logprobs
    if asked.__name__ == "with_named_tokens":
        return

    def with_named_tokens(self: Any, *args: Any, **kwargs: Any) -> Any:
        params = asked(self, *args, **kwargs)
        ids = (self.model_extra or {}).get("logprob_token_ids")
        if ids:
            params.logprob_token_ids, params.logprobs = ids, None  # whose limit is for the likeliest ones
        return params

    def all_of_them(
        self: Any, token_ids: Any, top_logprobs: Any, num_output_top_logprobs: int, *rest: Any, **more: Any
    ) -> Any:
        count = max((len(step or ()) for step in top_logprobs), default=0)
        return answered(self, token_ids, top_logprobs, max(count, num_output_top_logprobs), *rest, **more)

    CompletionRequest.to_sampling_params = with_named_tokens
    OpenAIServingCompletion._create_completion_logprobs = all_of_them


def _plugin(site: Path) -> None:
    """This file, as a package that vLLM asks for plugins."""
    shutil.copy(__file__, site / "gpu_kit.py")
    about = site / "gpu_kit-1.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: gpu-kit\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[vllm.general_plugins]\nnamed_tokens = gpu_kit:named_tokens\n")


def _blocks(kit: Path, parts: dict[str, str]) -> Iterator[bytes]:
    for name, expected in parts.items():
        try:
            block = (kit / name).read_bytes()
        except OSError as error:
            raise SystemExit(f"{kit / name} is missing ({error.strerror}): copy it once more") from None
        if hashlib.sha256(block).hexdigest() != expected:
            raise SystemExit(f"{kit / name} is damaged: copy it once more")
        yield block


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0]


def _unwanted(name: str) -> bool:
    name = re.sub(r"[-_.]+", "-", name).lower()
    return name in THERE | LEFT_OUT or name.startswith("nvidia") or name.startswith("cuda-")


def _target(wheels: Path) -> Sequence[str]:
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    return ["--python-version", PYTHON, "--only-binary", ":all:", "--find-links", str(wheels), *platforms]


def _pip(command: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", command, "--quiet", *arguments], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    here = commands.add_parser("gather", help="where there is a network")
    here.add_argument("kit", type=Path)
    here.add_argument("--every-gpu", action="store_true", help="with the kernels of GPUs before and after Hopper")
    there = commands.add_parser("unpack", help="on the GPU machine")
    there.add_argument("kit", type=Path)
    args = parser.parse_args()
    if args.command == "gather":
        gather(args.kit, args.every_gpu)
    else:
        print(unpack(args.kit))


if __name__ == "__main__":
    main()

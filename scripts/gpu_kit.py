"""vLLM for a GPU machine without network that has torch 2.11 (CUDA 13), transformers 5.17 and Python 3.12.

    python -m scripts.gpu_kit gather KIT          where there is a network: KIT/part-000, ... of at most 60 MB
    python scripts/gpu_kit.py start KIT [ARGS]    on the GPU machine, with its Python 3.12: unpacks, starts the server

vllm 0.25.0 is the newest release built for that torch. Its wheel and the small packages that it needs are gathered;
what the target has, and kernels for other machines and inputs, are left out. `start` needs no pip: wheels are unpacked
beside each other into KIT/site, which goes before the machine's own packages. ARGS are vLLM's, as in
`--model FOLDER --load-format dummy`. Only the standard library is used, so that this file can be copied there alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

VLLM = "0.25.0"
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_31_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
PART = 60 * 10**6  # bytes
MANIFEST = "kit.json"
# What the target has: these, and all that begins with nvidia.
THERE = {
    "filelock", "fsspec", "hf-xet", "huggingface-hub", "jinja2", "markupsafe", "mpmath", "networkx", "numpy",
    "packaging", "pip", "pyyaml", "regex", "requests", "safetensors", "setuptools", "sympy", "tokenizers", "torch",
    "tqdm", "transformers", "triton", "typing-extensions", "certifi", "charset-normalizer", "idna", "urllib3",
}  # fmt: skip
# Kernels for other machines, and what reads pictures, sound and films. vLLM looks whether they are there.
LEFT_OUT = {
    "fastsafetensors", "flashinfer-cubin", "flashinfer-python", "humming-kernels", "opencv-python-headless",
    "pynvvideocodec", "quack-kernels", "tilelang", "tokenspeed-mla", "torchaudio", "torchcodec", "torchvision",
}  # fmt: skip
# These require torch, which cannot be resolved for another machine: what else they require, besides.
ALONE = {"compressed-tensors": ("loguru",), "xgrammar": ()}
# On Hopper FlashAttention 3 is used; 2 is a third of the wheel.
UNUSED_FILES = ("vllm/vllm_flash_attn/_vllm_fa2_C.abi3.so",)


def gather(kit: Path, every_gpu: bool) -> None:
    kit.mkdir(parents=True, exist_ok=True)
    if any(kit.iterdir()):
        raise SystemExit(f"{kit} is not empty: name another folder")
    with tempfile.TemporaryDirectory() as scratch:
        wheels = Path(scratch)
        _pip("download", "--no-deps", "--dest", scratch, f"vllm=={VLLM}")
        (vllm,) = wheels.glob("vllm-*.whl")
        wanted = needed(vllm)
        print(f"vllm {VLLM} needs {len(wanted)} packages more: {', '.join(wanted)}")
        _pip("download", "--no-deps", "--dest", scratch, *wanted)
        if not every_gpu:
            _without(vllm, UNUSED_FILES)
        archive = wheels / "wheels.tar"
        with tarfile.open(archive, "w") as tar:
            for wheel in sorted(wheels.glob("*.whl")):
                tar.add(wheel, wheel.name)
        parts = split(archive, kit)
    about = {"vllm": VLLM, "python": PYTHON, "parts": parts}
    (kit / MANIFEST).write_text(json.dumps(about, indent=2) + "\n")
    size = sum(file.stat().st_size for file in kit.iterdir())
    print(f"{kit}: {len(parts)} parts, {size / 1e6:.0f} MB; copy all of it, and this file, to the GPU machine")


def start(kit: Path, arguments: Sequence[str]) -> None:
    site = unpack(kit)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH")))),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
    }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1"]
    command += ["--generation-config", "vllm", "--enable-prefix-caching", *arguments]
    print(" ".join(command), flush=True)
    os.execve(sys.executable, command, environment)


def needed(vllm: Path) -> list[str]:
    """name==version of what this wheel and its requirements require, beside what is there and what is left out."""
    with zipfile.ZipFile(vllm) as wheel:
        (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        lines = wheel.read(name).decode().splitlines()
    required = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    direct = {re.split(r"[^\w.-]", r)[0]: r for r in required if "extra ==" not in r}
    alone = [direct.pop(name).partition(";")[0] for name in ALONE]
    direct |= {name: name for others in ALONE.values() for name in others}
    wanted = [r.partition(";")[0] for name, r in direct.items() if not _unwanted(name)]
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        _pip("install", "--dry-run", "--ignore-installed", "--target", "nowhere", "--report", report.name, *wanted)
        found = json.loads(Path(report.name).read_text())["install"]
    names = [(item["metadata"]["name"], item["metadata"]["version"]) for item in found]
    return sorted([*alone, *(f"{name}=={version}" for name, version in names if not _unwanted(name))])


def split(archive: Path, kit: Path, size: int = PART) -> dict[str, str]:
    """Writes the parts of a file; name -> SHA-256."""
    parts: dict[str, str] = {}
    with archive.open("rb") as file:
        for block in iter(lambda: file.read(size), b""):
            name = f"part-{len(parts):03}"
            (kit / name).write_bytes(block)
            parts[name] = hashlib.sha256(block).hexdigest()
    return parts


def unpack(kit: Path) -> Path:
    """The folder with all packages, made once. Raises SystemExit for a part that is missing or damaged."""
    site = kit / "site"
    if (site / ".whole").exists():
        return site
    parts: dict[str, str] = json.loads((kit / MANIFEST).read_text())["parts"]
    with tempfile.TemporaryDirectory(dir=kit) as scratch:
        archive = Path(scratch) / "wheels.tar"
        with archive.open("wb") as whole:
            for block in _blocks(kit, parts):
                whole.write(block)
        with tarfile.open(archive) as tar:
            tar.extractall(scratch, filter="data")
        for wheel in sorted(Path(scratch).glob("*.whl")):
            with zipfile.ZipFile(wheel) as packed:
                packed.extractall(site)
    (site / ".whole").touch()
    return site


def _blocks(kit: Path, parts: dict[str, str]) -> Iterator[bytes]:
    for name, expected in parts.items():
        try:
            block = (kit / name).read_bytes()
        except OSError as error:
            raise SystemExit(f"{kit / name} is missing ({error.strerror}): copy it once more") from None
        if hashlib.sha256(block).hexdigest() != expected:
            raise SystemExit(f"{kit / name} is damaged: copy it once more")
        yield block


def _unwanted(name: str) -> bool:
    name = re.sub(r"[-_.]+", "-", name).lower()
    return name in THERE | LEFT_OUT or name.startswith("nvidia") or name.startswith("cuda-")


def _without(wheel: Path, files: Sequence[str]) -> None:
    slim = wheel.with_suffix(".slim")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(slim, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            if item.filename not in files:
                new.writestr(item, old.read(item), zipfile.ZIP_DEFLATED)
    slim.replace(wheel)


def _pip(command: str, *arguments: str) -> None:
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    target = ["--python-version", PYTHON, "--only-binary", ":all:", *platforms]
    subprocess.run([sys.executable, "-m", "pip", command, "--quiet", *target, *arguments], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    here = commands.add_parser("gather", help="where there is a network")
    here.add_argument("kit", type=Path)
    here.add_argument("--every-gpu", action="store_true", help="with the kernels of GPUs before and after Hopper")
    there = commands.add_parser("start", help="on the GPU machine")
    there.add_argument("kit", type=Path)
    args, rest = parser.parse_known_args()
    if args.command == "gather":
        if rest:
            parser.error(f"{' '.join(rest)}: there is no such option")
        gather(args.kit, args.every_gpu)
    else:
        start(args.kit, rest)


if __name__ == "__main__":
    main()

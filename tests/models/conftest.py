from __future__ import annotations

import base64
import hashlib
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

Publish = Callable[..., Path]


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMRL_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pip's only index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(index: Path, package: str, files: Mapping[str, bytes]) -> Path:
    name, version = package.split("==")
    stem = f"{name.replace('-', '_')}-{version}"
    about = f"{stem}.dist-info"
    content = dict(files) | {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, data in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(data)}\n"
    wheel = index / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in (content | {f"{about}/RECORD": f"{record}{about}/RECORD,,\n".encode()}).items():
            archive.writestr(path, data)
    return wheel


def zipped(folder: str, file: Path) -> bytes:
    return Path(shutil.make_archive(str(file.with_suffix("")), "zip", folder)).read_bytes()


def write_entry(config_dir: Path, name: str, data: bytes, **change: Any) -> Path:
    plain = {
        "about": "a test",
        "kind": "lm",
        "file": "m.zip",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "convert": "zip",
        "sources": [{"wheels": {"some-model==1.0": "some_model/m.zip"}}],
        "licence": "MIT",
        "licence_url": "https://example.org/licence",
    }
    (config_dir / "models").mkdir(parents=True, exist_ok=True)
    (config_dir / "models" / f"{name}.yaml").write_text(yaml.safe_dump(plain | change))
    return config_dir

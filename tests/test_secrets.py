"""What is taken for a secret, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from llmrl.config.compose import ConfigError, compose
from llmrl.core.secrets import found_in, names_secret, names_variable_of_secret, without_secrets
from llmrl.run.folder import RunFolder
from tests.schemas import schemas

LONG = "x9x9" * 12
PROVIDERS = f"sk-proj-{LONG}"


@pytest.mark.parametrize(
    "key",
    [
        "api_key", "apiKey", "API_KEY", "apikey", "api-key", "lm.openai_api_key", "accessKey", "private_key",
        "authToken", "hf_token", "TOKEN", "password", "passwd", "secretValue", "client_secret", "credentials",
        "Authorization",
    ],
)  # fmt: skip
def test_names_of_secrets(key: str) -> None:
    assert names_secret(key)
    assert not names_secret(f"{key}_env")
    assert names_variable_of_secret(f"{key}_env")


def test_no_setting_of_ours_is_called_like_a_secret() -> None:
    variables = set()
    for schema in schemas():
        for key in OmegaConf.structured(schema):
            assert not names_secret(str(key))
            variables |= {key} if names_variable_of_secret(str(key)) else set()
    assert variables == {"api_key_env"}  # whose value has to be the name of an environment variable


def test_a_servers_key_is_only_named() -> None:
    with pytest.raises(ConfigError, match="has to be the name of an environment variable"):
        compose(["lm=vllm", "lm.model=tiny-1", "lm.api_key_env='not a name'"])


@pytest.mark.parametrize(
    "text",
    [
        PROVIDERS,
        f"hf_{LONG}",
        f"ghp_{LONG}",
        f"github_pat_{LONG}",
        "AKIA0123456789ABCDEF",
        f"AIza{LONG}",
        f"Bearer {LONG}",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "http://me:x9x9@host:8000/v1",
        "https://x9x9@host/v1",
        "https://host/v1?a=b&api_key=x9x9",
        "${oc.env:MY_API_KEY}",
        "${oc.env: MY_API_KEY, none}",
    ],
)
def test_values_that_are_secrets(text: str) -> None:
    for around in (text, f"see {text} there", f"[{text}]"):
        kind = found_in(around)
        assert kind is not None
        assert "x9" not in kind


@pytest.mark.parametrize(
    "text",
    [
        "Qwen/Qwen2.5-7B", "sk-learn", "./models/risk-averse-agent-of-2026-with-a-long-name", "http://localhost:8000/v1",
        "https://host/v1?version=2", "git@github.com:me/it.git", "${oc.env:HOME}", "hf_hub", "me@host", "max_tokens=16",
    ],
)  # fmt: skip
def test_values_that_are_none(text: str) -> None:
    assert found_in(text) is None


@pytest.mark.parametrize(
    "typed",
    [
        f"lm.model={PROVIDERS}",
        f"lm.modle={PROVIDERS}",
        f"+lm.note={PROVIDERS}",
        f"++lm.note={PROVIDERS}",
        f"lm.model=tiny-1,{PROVIDERS}",
        f"lm={{model:{PROVIDERS}}}",
        f"{PROVIDERS}=1",
        PROVIDERS,
        f"api_key:{LONG}",
        f"lm.api_key {LONG}",
        f"+lm.headers=[{{name:a,apiKey:{LONG}}}]",
        f"++lm.secretKey={LONG}",
        f"~lm.token={LONG}",
        f"lm.model=http://me:{LONG}@host/v1",
        f"lm.model=https://host/v1?key=1&token={LONG}",
        "lm.model='${oc.env:THE_TOKEN}'",
        f"lm.model={LONG[::-1]}",
        f"+lm.api_key_env={LONG}-1",
    ],
)
def test_what_is_typed_is_refused_and_never_shown(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_TOKEN", LONG[::-1])
    for overrides in ([typed], ["learner=dqn", typed], ["nonsense", typed]):
        with pytest.raises(ConfigError, match="environment variable") as caught:
            compose(overrides)
        assert "x9x9" not in str(caught.value)
        assert "9x9x" not in str(caught.value)


def test_the_name_of_a_variable_may_be_said(tmp_path: Path) -> None:
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "mine.yaml").write_text("_target_: mine.Model\nname: mine\napi_key_env: MY_API_KEY\n")
    assert compose(["lm=mine", "lm.api_key_env=OTHER_KEY"], tmp_path).lm.api_key_env == "OTHER_KEY"


def test_values_of_variables_are_replaced_by_their_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("A_TOKEN", "abcdefgh")
    monkeypatch.setenv("B_API_KEY", "abcdefgh-and-more")
    monkeypatch.setenv("C_TOKEN", "short")
    monkeypatch.setenv("D_TOKEN_PATH", "/some/where/else")
    text = "abcdefgh abcdefgh-and-more short /some/where/else"
    assert without_secrets(text) == "$A_TOKEN $B_API_KEY short /some/where/else"
    with RunFolder.open(tmp_path, "a-b-c-s0-0123abcd", "0123abcd" * 8) as folder:
        folder.log(text)
    assert "abcdefgh" not in (folder.path / "log.txt").read_text()


@given(st.text(max_size=40))
def test_any_text_is_looked_through(text: str) -> None:
    assert found_in(text) is None or found_in(f"{text} ") is not None
    names_secret(text)

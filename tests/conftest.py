from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# fixture_lm is imported where it is used: it loads torch and transformers, which most tests do without.


def pytest_configure() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would the commands that are sent one here."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    from fixture_lm import build_llama

    return build_llama(tmp_path_factory.mktemp("lm") / "small-llama")


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    from fixture_lm import build_gpt2

    return build_gpt2(tmp_path_factory.mktemp("lm") / "small-gpt2")


@pytest.fixture(scope="session")
def windowed_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A window of 40 tokens: longer than the probe of a new model, shorter than some prompts."""
    from fixture_lm import build_windowed

    return build_windowed(tmp_path_factory.mktemp("lm") / "small-mistral", window=40)

"""What every test begins with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.decoders import PROMPTS, tiny_llama
from trainer.decoder.make import make_decoder


@pytest.fixture(autouse=True)
def _logs_as_nobody_has_set_them_up() -> Iterator[None]:
    """A server that ran in this process has sent the log to a stderr that is gone."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama as a folder of Transformers."""
    return tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def tiny_decoder(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, exported, proved and sealed as a version of "writer"; tests copy it before they change it."""
    out = tmp_path_factory.mktemp("decoder") / "version"
    return make_decoder(tiny_base, out, model="writer", prompts=PROMPTS, now=1.7e9, threads=1)

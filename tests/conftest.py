"""What several tests need: a tiny model on disk, and a response cache of each test's own."""

from __future__ import annotations

import pytest

from opportune.models import response_cache
from tests.inference.tiny import CHATML, plain_network_of, tokenizer_of


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a tiny chat model."""
    folder = tmp_path_factory.mktemp("tiny")
    plain_network_of("llama").save_pretrained(folder)
    tokenizer_of(template=CHATML).save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def response_folder(tmp_path_factory, monkeypatch):
    """The folder of this test's response cache: never the user's own."""
    folder = tmp_path_factory.mktemp("responses")
    monkeypatch.setattr(response_cache, "cache_folder", lambda: folder)
    return folder

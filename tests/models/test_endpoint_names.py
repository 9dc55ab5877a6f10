"""Which model, which server, which key: what names them, and what is said where they do not fit."""

from __future__ import annotations

import pytest

from opportune.errors import ModelError, RecipeError
from opportune.models.endpoint import Endpoint, Remote
from opportune.models.endpoint_calls import Patience
from opportune.models.endpoint_wire import alike
from opportune.spec import parse
from tests.models.hostile import HASTY, Reply, StandIn, ask, endpoint, error, prompt, shout


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.mark.parametrize(
    ("status", "said"),
    [(401, "refuses the key"), (403, "refuses the key"), (404, "has no model 'm'"), (402, "no money or quota")],
)
def test_what_no_call_escapes_is_one_line_that_names_the_server_and_never_the_key(monkeypatch, status, said):
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret")
    with StandIn(reply=lambda path, body: Reply(status, error("wrong: very-secret sk-12ab"))) as server:
        for attempt in (lambda m: m.greet(choices=True), lambda m: ask(m, [prompt("a")] * 3)):
            with pytest.raises(ModelError, match=said) as caught:
                attempt(endpoint(server))
            assert server.url in str(caught.value)
            assert "very-secret" not in str(caught.value)
            assert "12ab" not in str(caught.value)


def test_no_server_no_key_no_address(monkeypatch):
    with StandIn() as server:
        url = server.url
    with pytest.raises(ModelError, match=r"does not answer as openai:m: .* cannot be reached"):
        Endpoint("m", url, patience=HASTY).greet(choices=False)
    with pytest.raises(ModelError, match="set OPENAI_API_KEY"):
        Endpoint("m").greet(choices=False)
    for address in (
        "localhost:8000",
        "ftp://x/v1",
        "http://",
        "http://me:word@host/v1",
        "http://host/v1?key=1",
        "http://me:word@host:99999/v1",
    ):
        with pytest.raises(ModelError, match="--base-url") as caught:
            Endpoint("m", address)
        assert "word" not in str(caught.value)


@pytest.mark.parametrize("ending", ["\r", "\n", " \r\n"])
def test_what_a_file_adds_to_a_key_is_not_sent(monkeypatch, ending):
    monkeypatch.setenv("OPENAI_API_KEY", f"very-secret{ending}")
    with StandIn(shout) as server:
        assert ask(endpoint(server), [prompt("a")])[0].texts == ("A",)
        assert server.headers["Authorization"] == "Bearer very-secret"


@pytest.mark.parametrize("key", ["very\rsecret", "sécret-très"])
def test_a_key_that_cannot_be_sent_is_one_line_without_it(monkeypatch, key):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with StandIn(shout) as server, pytest.raises(ModelError, match="OPENAI_API_KEY holds a character") as caught:
        endpoint(server).greet(choices=False)
    assert not any(part in str(caught.value) for part in ("very", "secret", "sécret"))


def test_names_of_models_that_are_the_same():
    assert alike("gpt-4o", "gpt-4o-2024-08-06")
    assert alike("gpt-3.5-turbo", "gpt-3.5-turbo-0125")
    assert alike("llama3", "llama3:latest")
    assert not alike("gpt-4o", "gpt-4o-mini")
    assert not alike("o", "gpt-4o")
    assert alike("meta/llama-3", "llama-3")
    assert alike("llama-3", "/models/llama-3.gguf")
    assert not alike("gpt-4o", "gpt-3.5-turbo")


def test_a_server_may_call_the_model_otherwise_if_it_keeps_to_it():
    with StandIn(shout, name="served") as server:
        model = endpoint(server)
        assert ask(model, [prompt("a")])[0].texts == ("A",)
        assert "the server calls it served" in model.describe()
        server.name = "third"
        model._caller.patience = Patience(1, 5, retries=1, backoff=0.01)
        assert "another model ('third')" in ask(model, [prompt("a")])[0].error


def ref(text):
    return parse(f"zero-shot@{text}").model


def test_each_server_gets_its_own_key_and_no_other(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "the-usual")
    monkeypatch.setenv("OTHER_KEY", "the-other")
    expected = {
        "": "Bearer none",
        ",key_env=OTHER_KEY": "Bearer the-other",
        ",key_env=OPENAI_API_KEY": "Bearer the-usual",
    }
    with StandIn(shout) as server:
        for option, sent in expected.items():
            ask(Endpoint.of(ref(f'openai:m[base_url="{server.url}"{option}]'), Remote()), [prompt("a")])
            assert server.headers["Authorization"] == sent
        ask(Endpoint.of(ref("openai:m"), Remote(server.url)), [prompt("a")])
        assert server.headers["Authorization"] == "Bearer the-usual"
    with StandIn(reply=lambda path, body: Reply(401, error("no"))) as server:
        for option, said in (("", "wants a key .*key_env"), (",key_env=OTHER_KEY", "set OTHER_KEY to a valid one")):
            with pytest.raises(ModelError, match=said):
                Endpoint.of(ref(f'openai:m[base_url="{server.url}"{option}]'), Remote()).greet(choices=False)


def test_a_recipe_names_a_model_and_its_server():
    remote = Remote("http://flag:1/v1")
    first = Endpoint.of(ref("openai:org/name-1"), remote)
    own = Endpoint.of(ref('openai:org/name-1[base_url="http://own:2/v1/",api=completions,timeout=5]'), remote)
    assert (first.info.name, first.info.path, first.info.device) == (
        "openai:org/name-1",
        "http://flag:1/v1",
        "endpoint",
    )
    assert (own.base_url, own.api) == ("http://own:2/v1", "completions")
    assert first.info.digest != own.info.digest
    assert Endpoint.of(ref("openai:gpt-4o-mini-2024-07-18"), Remote()).price.input == 0.15
    assert first.price is None


@pytest.mark.parametrize("text", ["openai:m[colour=red]", "openai:m[api=soap]", "openai:m[timeout=0]", "openai:"])
def test_options_that_an_endpoint_does_not_have_are_refused(text):
    with pytest.raises(RecipeError):
        Endpoint.of(ref(text), Remote("http://x/v1"))

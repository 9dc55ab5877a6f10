"""Training within the memory there is: predicted, cut up to fit, the same gradients, refused in one line."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from opportune.api import _Unwatched, compare
from opportune.cost import Amount, Meter
from opportune.errors import TrainingError
from opportune.inference.attention import fast_norms, use_own_attention
from opportune.methods.full import Full
from opportune.methods.lora import Lora
from opportune.methods.prefix_tuning import PrefixTuning
from opportune.methods.prompt_tuning import PromptTuning
from opportune.report.table import markdown
from opportune.training import memory
from opportune.training.loop import Settings, train
from opportune.training.loss import summed_loss
from opportune.training.memory import Budget, Layout, layouts, need_of
from opportune.training.packing import TokenLesson, packs
from opportune.training.recomputing import recomputing
from tests.models.tiny import save_folder
from tests.toy import toy_task
from tests.training.tiny import VOCABULARY, gradients, lessons, llama, moving

METHODS = {
    "full": Full(),
    "lora": Lora(rank=4),
    "lora with dropout": Lora(rank=4, dropout=0.3),
    "prompt-tuning": PromptTuning(tokens=3, init="vocabulary"),
    "prefix-tuning": PrefixTuning(tokens=3, init="random", reparametrise=True),
}


def taught(network: Any, count: int = 12) -> list[TokenLesson]:
    virtual = tuple(range(VOCABULARY, VOCABULARY + getattr(network, "virtual_tokens", 0)))
    return [TokenLesson((*virtual, *each.ids), each.start + len(virtual)) for each in lessons(count)]


def computed(method: Any, row: int, checkpointed: bool) -> dict[str, torch.Tensor]:
    network = method.attach(llama(), 0)
    torch.manual_seed(7)
    for weight in network.parameters():
        if weight.requires_grad:
            weight.data.add_(0.05 * torch.randn_like(weight))
    torch.manual_seed(8)  # of dropout
    with recomputing(network, checkpointed):
        for pack in packs(taught(network), row):
            summed_loss(network, pack).backward()
    return gradients(network)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("row", [0, 40, 1000])
def test_layers_computed_again_give_the_same_gradients(method: Any, row: int) -> None:
    kept, again = computed(method, row, False), computed(method, row, True)
    assert kept.keys() == again.keys()
    torch.testing.assert_close(again, kept, atol=0, rtol=0)


def test_smaller_packs_add_up_to_the_same_gradients() -> None:
    torch.testing.assert_close(computed(Full(), 20, True), computed(Full(), 1000, False), atol=1e-5, rtol=1e-5)


def test_layers_are_left_as_they_were() -> None:
    network = Lora(rank=4).attach(llama(), 0)
    before = [module.forward for module in network.modules()]
    with recomputing(network, True):
        assert [module.forward for module in network.modules()] != before
    assert [module.forward for module in network.modules()] == before


def kept_bytes(network: Any, made: list[TokenLesson], checkpointed: bool) -> int:
    """What autograd really holds on to between the two passes, beside the weights."""
    own = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    seen: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    (pack,) = packs(made, 100_000)
    with recomputing(network, checkpointed), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = summed_loss(network, pack)
    del loss
    return sum(seen.values())


@pytest.mark.parametrize("name", ["full", "lora", "prompt-tuning"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_prediction_is_what_the_backward_pass_needs(name: str, dtype: torch.dtype) -> None:
    network = METHODS[name].attach(llama(dtype=dtype), 0)
    made = taught(network, 40)
    need = need_of(network, made, 40)
    (pack,) = packs(made, 100_000)
    predicted = need.kept * len(pack.ids)
    assert 0.75 * predicted < kept_bytes(network, made, False) < 1.25 * predicted
    # Computed again, a layer keeps its input; what all layers share (masks, angles, the loss) is there in any case.
    assert kept_bytes(network, made, True) < 0.5 * predicted


@pytest.mark.parametrize("method", [Full(), Lora(rank=4)], ids=["full", "lora"])
@pytest.mark.parametrize("family", ["olmoe", "qwen3_moe"])
def test_every_expert_that_a_token_goes_to_is_counted(family: str, method: Any) -> None:
    experts = {"num_experts": 8, "num_experts_per_tok": 4, "intermediate_size": 64, "moe_intermediate_size": 64}
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "vocab_size": VOCABULARY}
    config = AutoConfig.for_model(family, **experts, **sizes, **ends, head_dim=16)
    network = AutoModelForCausalLM.from_config(config).eval()
    use_own_attention(network)
    fast_norms(network)
    network = method.attach(network, 0)
    made = taught(network, 40)
    need = need_of(network, made, 40)
    (pack,) = packs(made, 100_000)
    predicted = need.kept * len(pack.ids) + need.corrected
    assert 0.75 * predicted < kept_bytes(network, made, False) < 1.25 * predicted
    assert (need.corrected > 0) == isinstance(method, Lora)


def test_the_state_is_predicted_by_the_byte() -> None:
    for dtype, each in ((torch.float32, 4 + 4 + 4), (torch.bfloat16, 4 + 4 + 4 + 4 + 2)):
        network = Lora(rank=4).attach(llama(dtype=dtype), 0)
        numbers = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
        assert need_of(network, lessons(4), 4).state == numbers * each
        whole = sum(weight.nbytes for weight in network.parameters())  # of which each process keeps its part
        assert need_of(network, lessons(4), 4, shards=2).state == (numbers * each + whole) // 2


SETTINGS = Settings(rate=1e-2, epochs=2, batch=8)


def free(monkeypatch: pytest.MonkeyPatch, amount: float) -> None:
    """So much, of which a process of hundreds of megabytes does not use more than it should."""
    monkeypatch.setattr(memory, "free_bytes", lambda device: int(amount))
    monkeypatch.setattr(memory, "resident_bytes", lambda device: 2**50)


def enough_for(network: Any, made: list[TokenLesson], layout: Layout) -> float:
    return need_of(network, made, SETTINGS.batch).of(layout) / memory.SHARE + 1


def long_lessons() -> list[TokenLesson]:
    return [TokenLesson((*range(3, 50), *each.ids * 3), 47 + len(each.ids)) for each in lessons(16, common=2)]


def test_the_fastest_layout_that_fits_is_taken_and_trains_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = long_lessons()
    weights = {}
    for layout in (Layout(512), Layout(128), Layout(512, True), Layout(0, True)):
        network = Full().attach(llama(), 0)
        free(monkeypatch, enough_for(network, made, layout))
        done = train(network, made, SETTINGS, tmp_path / f"{layout.row}{layout.checkpointed}")
        need = need_of(network, made, SETTINGS.batch)
        first = next(each for each in layouts(network) if need.of(each) <= need.of(layout))
        assert done.layout == (None if first == Layout(512) else first.describe())
        weights[layout] = moving(network)
    assert "computed again" in str(done.layout)
    for found in weights.values():
        torch.testing.assert_close(found, weights[Layout(512)], atol=2e-4, rtol=1e-3)


def test_what_cannot_fit_says_so_before_the_first_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    network = Full().attach(llama(), 0)
    before = moving(network)
    free(monkeypatch, 1000)
    with pytest.raises(TrainingError, match=r"cannot fit: it needs about .* GiB beside the model .* are free on cpu"):
        train(network, lessons(8), SETTINGS, tmp_path)
    assert all(torch.equal(weight, before[name]) for name, weight in moving(network).items())


def test_a_first_step_that_took_more_than_predicted_cuts_up_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    network, made = Full().attach(llama(), 0), long_lessons()
    free(monkeypatch, 1.2 * enough_for(network, made, Layout(512)))
    budget = Budget(network, made, SETTINGS.batch)
    assert budget.compromise is None
    budget.computed(len(next(iter(packs(made[:8], 512))).ids))
    budget.correct(1)
    assert budget.compromise is None
    budget.correct(2 * budget.need.of(Layout(512)))
    assert budget.compromise is not None
    assert "for the memory that was free" in budget.compromise


def test_running_out_of_memory_takes_the_step_again_in_smaller_pieces(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made, calls = long_lessons(), []

    def scarce(network: Any, pack: Any) -> torch.Tensor:
        calls.append(len(pack.ids))
        if len(pack.ids) > 300:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return summed_loss(network, pack)

    plenty = Full().attach(llama(), 0)
    train(plenty, made, SETTINGS, tmp_path / "plenty")
    monkeypatch.setattr("opportune.training.replica.summed_loss", scarce)
    network = Full().attach(llama(), 0)
    done = train(network, made, SETTINGS, tmp_path / "scarce")
    assert max(calls) > 300
    assert done.layout is not None
    assert len(done.steps) == 4
    torch.testing.assert_close(moving(network), moving(plenty), atol=2e-4, rtol=1e-3)


def test_a_resumed_training_keeps_its_layout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = long_lessons()

    def trained(folder: str, stop: int | None) -> dict[str, torch.Tensor]:
        network = Full().attach(llama(), 0)
        settings = Settings(rate=1e-2, epochs=2, batch=8, stop_after=stop)
        train(network, made, settings, tmp_path / folder)
        return moving(network)

    free(monkeypatch, enough_for(Full().attach(llama(), 0), made, Layout(128)))
    whole = trained("whole", None)
    trained("resumed", 2)
    free(monkeypatch, 1e12)
    resumed = trained("resumed", None)
    assert all(torch.equal(weight, resumed[name]) for name, weight in whole.items())


def test_the_free_memory_of_this_machine_is_plausible() -> None:
    assert 2**20 < memory.free_bytes(torch.device("cpu")) < 2**50
    assert 2**20 < memory.resident_bytes(torch.device("cpu")) < 2**50


def test_a_compromise_for_the_memory_is_told(model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    free(monkeypatch, 2.2e6)  # the state and one lesson, not a row
    found = compare(toy_task(), recipes=["lora:rate=1e-3,epochs=1"], models=[model], dtype="float32", runs=tmp_path)
    assert found.rows[0].status == "done"
    assert "trained in packs of" in markdown(found)


def test_an_arm_that_cannot_fit_fails_with_one_line(
    model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    free(monkeypatch, 1e5)
    found = compare(toy_task(), recipes=["lora:rate=1e-3", "majority"], models=[model], runs=tmp_path)
    assert [row.status for row in found.rows] == ["done", "failed"]
    assert "cannot fit" in str(found.rows[1].reason)
    free(monkeypatch, 1e5)
    found = compare(toy_task(), recipes=["lora"], models=[model], runs=tmp_path / "search")  # no matter of the rate
    assert "cannot fit" in str(found.rows[0].reason)


class Listening(_Unwatched):
    """Notes what is said before the first arm begins."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.begun = False

    def note(self, text: str) -> None:
        assert not self.begun
        self.told.append(text)

    def stage(self, arm: Any, stage: Any) -> None:
        self.begun = True


def test_what_cannot_fit_for_certain_is_told_before_the_run_begins(
    model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    watcher = Listening()
    monkeypatch.setattr("opportune.fits.free_bytes", lambda device: 500_000)
    recipes = ["zero-shot", "full:rate=1e-4,epochs=1", "prompt-tuning:tokens=2,rate=1e-3,epochs=1"]
    compare(toy_task(), recipes=recipes, models=[model], dtype="float32", runs=tmp_path, watcher=watcher)
    (told,) = watcher.told
    assert told.startswith("full:rate=1e-4,epochs=1: the training cannot fit")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_folder(tmp_path_factory.mktemp("model")))


def test_a_container_s_files_are_no_memory_that_is_taken_and_processes_share_what_is_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, text in {
        "memory.max": "4000000",
        "memory.current": "3900000",
        "memory.stat": "anon 900000\ninactive_file 2900000\nactive_file 100000\n",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    cpu = torch.device("cpu")
    assert memory.free_bytes(cpu) == 3_000_000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert memory.free_bytes(cpu) == 1_500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_bytes(cpu) > 3_000_000


class Passing(Sequence[TokenLesson]):
    """Very many lessons, made when they are asked for."""

    def __len__(self) -> int:
        return 5000

    def __getitem__(self, index: Any) -> Any:
        if index >= len(self):
            raise IndexError(index)
        return TokenLesson((1, 2, 3, *range(index % 50, index % 50 + 50)), 3)


def test_a_corpus_is_never_in_memory_as_a_whole() -> None:
    network = Full().attach(llama(), 0)
    tracemalloc.start()
    need = need_of(network, Passing(), 8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000
    assert (need.longest, need.most) == (53, 8 * 53 - 7 * 3)


def test_a_meter_within_another_does_not_hide_its_peak() -> None:
    size = 200 * 2**20
    with Meter() as outer:
        before = memory.resident_bytes(torch.device("cpu"))
        held = torch.ones(size // 4)
        del held
        with Meter() as inner:
            pass
        with Meter() as second:
            held = torch.ones(size // 8)
            del held
    assert (outer.amount.peak_bytes or 0) > before + 0.9 * size
    assert (inner.amount.peak_bytes or 0) < before + 0.5 * size
    assert (second.amount.peak_bytes or 0) < before + 0.9 * size


def test_what_a_step_took_is_counted_from_after_freed_memory_was_handed_back(monkeypatch: pytest.MonkeyPatch) -> None:
    network, made = Full().attach(llama(), 0), long_lessons()
    budget = Budget(network, made, SETTINGS.batch)
    held, used = [1000], list[int]()

    class Trimming:
        amount = Amount(peak_bytes=5000)

        def __enter__(self) -> Any:
            held[0] = 100
            return self

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(memory, "Meter", Trimming)
    monkeypatch.setattr(memory, "resident_bytes", lambda device: held[0])
    monkeypatch.setattr(Budget, "correct", lambda self, taken: used.append(taken))
    with budget.watched():
        pass
    assert used == [4900]

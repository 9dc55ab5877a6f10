"""The products of linear layers against torch's own, forward and backward, wherever they are computed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from opportune import products
from opportune.products import OwnLinear, Product, linear, packable, packed, use_own_products

SHAPES = [(1, 192, 256), (4, 192, 256), (9, 640, 192), (9, 192, 640), (33, 256, 256), (9, 8, 8), (0, 192, 256)]


@pytest.fixture(params=[True, False], ids=["favoured", "not favoured"])
def _machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(products, "favoured", lambda: request.param)


@pytest.mark.usefixtures("_machine")
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_products_are_those_of_torch(rows: int, inputs: int, outputs: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    x, w, b = (torch.randn(*shape, generator=generator) for shape in ((rows, inputs), (outputs, inputs), (outputs,)))
    torch.testing.assert_close(linear(x, w, b), nn.functional.linear(x, w, b), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(linear(x, w), nn.functional.linear(x, w), rtol=1e-5, atol=1e-4)


@pytest.mark.usefixtures("_machine")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_switched_layer_gives_the_same_outputs_and_gradients(bias: bool, frozen: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(192, 256, bias=bias), nn.Tanh(), nn.Linear(256, 192, bias=bias))
    plain.requires_grad_(not frozen)
    own = copy.deepcopy(plain)
    use_own_products(own)
    x = torch.randn(2, 7, 192)
    outputs = []
    for network in (plain, own):
        start = x.clone().requires_grad_()
        output = network(start)
        output.square().sum().backward()
        outputs.append([output, start.grad, *(each.grad for each in network.parameters() if not frozen)])
    for expected, actual in zip(*outputs, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-4)
    assert plain.state_dict().keys() == own.state_dict().keys()


@pytest.mark.skipif(not products.favoured(), reason="nothing is packed on this processor")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_weights_give_the_same_products_and_are_put_away(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(192, 256), nn.SiLU(), nn.Linear(256, 64, bias=False)).to(dtype)
    use_own_products(network)
    x = torch.randn(2, 5, 192).to(dtype)
    expected = network(x)
    close = 1e-5 if dtype == torch.float32 else 2e-2
    with packed(packable(network), 10):
        with torch.no_grad():
            torch.testing.assert_close(network(x), expected, rtol=close, atol=close)
        network(x).sum().backward()  # a gradient is of the weights themselves
    assert all(layer.packed is None for layer in network if isinstance(layer, OwnLinear))
    assert all(weight.grad is not None for weight in network.parameters())
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.zero_()
        assert not network(x).any()


@torch.no_grad()
@pytest.mark.skipif(not products.favoured(), reason="nothing is packed on this processor")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biases", [(True, True), (True, False), (False, False)])
def test_a_product_of_several_layers_is_theirs_and_does_more_in_one(
    dtype: torch.dtype, biases: tuple[bool, bool]
) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(192, 64, bias=bias).to(dtype) for bias in biases]
    product, x, other = Product(layers, 5), torch.randn(5, 192).to(dtype), torch.randn(5, 128).to(dtype)
    plain = torch.cat([layer(x) for layer in layers], -1)
    close = 1e-5 if dtype == torch.float32 else 2e-2
    for found, expected in (
        (product(x), plain),
        (product.silu(x), nn.functional.silu(plain)),
        (product.times(x, other), plain * other),
        (product.plus(x, other), plain + other),
    ):
        torch.testing.assert_close(found, expected, rtol=close, atol=close)


@pytest.mark.skipif(not products.favoured(), reason="nothing is packed on this processor")
def test_bfloat16_is_not_packed_where_onednn_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Linear(192, 256)).to(torch.bfloat16)
    use_own_products(network)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", None)  # it would raise
    with packed(packable(network), 10), torch.no_grad():
        assert network(torch.ones(8, 192, dtype=torch.bfloat16)).shape == (8, 256)
    assert products.packed_bytes(network) == 0


@pytest.mark.usefixtures("_machine")
def test_other_dtypes_and_kinds_of_layers_are_left_to_torch() -> None:
    class Special(nn.Linear):
        pass

    network = nn.Sequential(nn.Linear(192, 256), Special(256, 192)).to(torch.bfloat16)
    expected = network(torch.ones(8, 192, dtype=torch.bfloat16))
    use_own_products(network)
    assert type(network[1]) is Special
    assert torch.equal(network(torch.ones(8, 192, dtype=torch.bfloat16)), expected)
    assert isinstance(network[0], OwnLinear) == products.favoured()

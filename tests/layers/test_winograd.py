"""Convolutions with fewer multiplications: torch's in float64 is the referee."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from public.detectors import towers
from public.detectors.fcos.network import ClassificationHead
from public.detectors.pyramid import FeaturePyramid
from public.geometry.fixed_shapes import fixed_shapes
from public.layers import residual, winograd
from public.layers.recompute import recomputing, stage
from public.layers.residual import BasicBlock, Bottleneck
from public.layers.winograd import Convolutions, Fewest, convolve, convolve_backward, run_convolution
from tests.layers.test_recompute import Kept


@pytest.fixture(autouse=True, params=["AVX2", "wider vectors"])
def _small_maps_too(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "has_x86_kernels", lambda: True)
    monkeypatch.setattr(winograd, "has_avx2_alone", lambda: request.param == "AVX2")
    need_at_least(1, monkeypatch)


def need_at_least(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all else however small."""
    for name in ("_FEWEST", "_FEWEST_OF_AVX2"):
        monkeypatch.setattr(winograd, name, Fewest(channels, 1, 1))
    for name in ("_FEWEST_OF_PRODUCTS", "_FEWEST_OF_POINTS"):
        monkeypatch.setattr(winograd, name, channels)
    monkeypatch.setattr(winograd, "_LEAST_WORK", 1)


def nhwc(x: Tensor) -> Tensor:
    """The layout that is computed so."""
    return x.contiguous(memory_format=torch.channels_last)


def numbers(*shape: int) -> Tensor:
    """Whole ones between -4 and 4."""
    return nhwc(torch.randint(-4, 5, shape).float())


def exactly(x: Tensor, weight: Tensor, bias: Tensor, grad: Tensor) -> list[Tensor]:
    """What torch's convolution gives in float64: outputs, and the gradients of x, weight and bias."""
    return with_gradients(x.double(), weight.double(), bias.double(), grad.double())


def with_gradients(x: Tensor, weight: Tensor, bias: Tensor, grad: Tensor) -> list[Tensor]:
    """What torch's convolution gives."""
    x, weight, bias = leaves = [one.clone().requires_grad_() for one in (x, weight, bias)]
    out = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def ours_of(x: Tensor, weight: Tensor, bias: Tensor, grad: Tensor) -> list[Any]:
    """What ours gives."""
    return [convolve(x, weight, bias), *convolve_backward(grad, x, weight, (True, True, True))]


@pytest.mark.parametrize("height", range(1, 10))
@pytest.mark.parametrize("batch", [1, 3])
def test_whole_numbers_come_out_whole(height: int, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces of one image and of two."""
    monkeypatch.setattr(winograd, "_TRANSFORMED", height * 5 * 3)
    monkeypatch.setattr(winograd, "_MULTIPLIED", 2 * height * 5 * 3)
    torch.manual_seed(height)
    x, weight, bias = numbers(batch, 3, height, 5), numbers(2, 3, 3, 3), torch.tensor([3.0, -7.0])
    grad = numbers(batch, 2, height, 5)
    arguments = x, weight, bias, grad
    for ours, theirs in zip(ours_of(*arguments), exactly(*arguments), strict=True):
        assert torch.equal(ours.double().round(), theirs)
        assert (ours - theirs).abs().max() < 1e-3
        assert ours.ndim < 4 or ours.is_contiguous(memory_format=torch.channels_last)


def test_rounding_is_at_most_three_times_that_of_torch() -> None:
    torch.manual_seed(0)
    shapes = (2, 96, 22, 17), (64, 96, 3, 3), (2, 64, 22, 17)
    x, weight, grad = (nhwc(torch.randn(shape)) for shape in shapes)
    arguments = x, weight, torch.randn(64), grad
    for ours, theirs, right in zip(ours_of(*arguments), with_gradients(*arguments), exactly(*arguments), strict=True):
        deviation, usual = ((one - right).norm() / right.norm() for one in (ours, theirs))
        assert 0 < deviation < max(3 * usual.item(), 1e-6)


def test_only_what_is_asked_for() -> None:
    x, weight, grad = numbers(1, 2, 8, 4), numbers(3, 2, 3, 3), numbers(1, 3, 8, 4)
    for number in range(3):
        needs = [i == number for i in range(3)]
        assert [one is not None for one in convolve_backward(grad, x, weight, needs)] == needs


def test_other_kernels_are_torchs() -> None:
    arguments = torch.randn(2, 3, 6, 5), torch.randn(4, 3, 1, 1), torch.randn(4), torch.randn(2, 4, 6, 5)
    assert all(map(torch.equal, ours_of(*arguments), with_gradients(*arguments)))


# ---- where it is taken ----------------------------------------------------------------------------------------------


def layer_and_map(stride: int = 1) -> tuple[nn.Sequential, Tensor]:
    """A pyramid's smoothing, and what it takes."""
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(8, 8, 3, stride, padding=1)).to(memory_format=torch.channels_last)  # pyright: ignore
    return layer, nhwc(torch.randn(2, 8, 12, 10)).requires_grad_()


def is_ours(out: Tensor) -> bool:
    """Whether the gradient will be."""
    return out.grad_fn is not None and "_Trained" in out.grad_fn.name()


def test_a_layer_that_trains_has_torchs_gradients() -> None:
    layer, x = layer_and_map()
    out, expected = run_convolution(layer, x), layer(x)
    assert is_ours(out)
    torch.testing.assert_close(out, expected)
    leaves = [x, *layer.parameters()]
    found, wanted = (torch.autograd.grad(one.square().sum(), leaves) for one in (out, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-4)
    assert [one.stride() for one in found] == [one.stride() for one in wanted]


def test_the_weights_gradient_alone_may_be_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where vectors are AVX2's, from fewer channels on; outputs and all else are torch's then, bit for bit."""
    for name in ("_FEWEST", "_FEWEST_OF_AVX2"):
        monkeypatch.setattr(winograd, name, Fewest(9, 1, 1))
    layer, x = layer_and_map()
    out, expected = run_convolution(layer, x), layer(x)
    assert is_ours(out) == winograd.has_avx2_alone()
    leaves = [x, *layer.parameters()]
    found, wanted = (torch.autograd.grad(one.square().sum(), leaves) for one in (out, expected))
    assert torch.equal(out, expected)
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1]) != winograd.has_avx2_alone()
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("sides", [(1, 1), (4, 6), (5, 4), (8, 7), (9, 9)])
def test_a_strided_layer_has_torchs_gradients(sides: tuple[int, int]) -> None:
    """Whole numbers come out exactly; outputs and the input's gradient are torch's."""
    check_products(nn.Conv2d(3, 2, 3, 2, padding=1), sides)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sides", [(1, 1), (5, 4), (8, 7)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_layer_of_1x1_kernels_has_torchs_gradients(stride: int, sides: tuple[int, int], has_bias: bool) -> None:
    """Likewise."""
    check_products(nn.Conv2d(3, 2, 1, stride, bias=has_bias), sides)


def check_products(layer: nn.Conv2d, sides: tuple[int, int]) -> None:
    """The layer's weight has the gradient of products where vectors are AVX2's, and all else is torch's."""
    torch.manual_seed(0)
    layer = layer.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    x = numbers(3, 3, *sides).requires_grad_()
    out, expected = run_convolution(layer, x), layer(x)
    assert is_ours(out) == winograd.has_avx2_alone()
    assert torch.equal(out, expected)
    leaves, grad = [x, *layer.parameters()], numbers(*out.shape)
    found, wanted = (torch.autograd.grad(one, leaves, grad) for one in (out, expected))
    assert all(map(torch.equal, found, wanted))
    assert [one.stride() for one in found] == [one.stride() for one in wanted]
    for number, leaf in enumerate(leaves):
        (alone,) = torch.autograd.grad(run_convolution(layer, x), leaf, grad)
        assert torch.equal(alone, wanted[number])


@pytest.mark.parametrize("stride", [1, 2])
def test_a_backward_pass_within_autocast_is_torchs(stride: int) -> None:
    layer, x = layer_and_map(stride)
    leaves, slopes = [x, *layer.parameters()], nhwc(torch.randn_like(layer(x)))
    found, wanted = [], []
    for grads, out in ((found, run_convolution(layer, x)), (wanted, layer(x))):
        with torch.autocast("cpu", torch.bfloat16):
            grads += torch.autograd.grad(out, leaves, slopes)
    assert all(map(torch.equal, found, wanted))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_second_derivative_is_torchs(stride: int) -> None:
    layer, x = layer_and_map(stride)
    found, expected = [], []
    for grads, run in ((found, run_convolution), (expected, lambda layer, x: layer(x))):
        out = run(layer, x)
        (slope,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        grads += torch.autograd.grad(out.sum() + slope.square().sum(), [x, *layer.parameters()])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("stride", [1, 2])
def test_many_gradients_at_once_are_torchs(stride: int) -> None:
    layer, x = layer_and_map(stride)
    many = torch.randn(3, *layer(x).shape)
    asked = [x, *layer.parameters()]
    found, expected = (
        torch.autograd.grad(out, asked, many, is_grads_batched=True) for out in (run_convolution(layer, x), layer(x))
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def seen(layer: nn.Sequential, x: Tensor) -> Tensor:
    """By a hook."""
    handle = layer[0].register_forward_hook(lambda *_: None)
    out = run_convolution(layer, x)
    handle.remove()
    return out


def in_autocast(layer: nn.Sequential, x: Tensor) -> Tensor:
    """In bf16."""
    with torch.autocast("cpu", torch.bfloat16):
        return run_convolution(layer, x)


def counted(layer: nn.Sequential, x: Tensor) -> Tensor:
    """As a GPU has it."""
    with fixed_shapes():
        return run_convolution(layer, x)


def with_a_layer(*kernel: int, **options: Any) -> Callable[[nn.Sequential, Tensor], Tensor]:
    """Another convolution."""
    conv = nn.Conv2d(8, 8, *kernel, **options).to(memory_format=torch.channels_last)  # pyright: ignore
    return lambda _, x: run_convolution(conv, x)


ELSEWHERE: dict[str, Callable[[nn.Sequential, Tensor], Tensor]] = {
    "a hook": seen,
    "autocast": in_autocast,
    "counts": counted,
    "NCHW": lambda layer, x: run_convolution(layer, x.contiguous()),
    "float64": lambda layer, x: run_convolution(layer.double(), x.double()),
    "a stride of 3": with_a_layer(3, 3, padding=1),
    "two strides": with_a_layer(3, stride=(1, 2), padding=1),
    "no padding": with_a_layer(3),
    "reflected padding": with_a_layer(3, padding=1, padding_mode="reflect"),
    "dilation": with_a_layer(3, padding=1, dilation=2),
    "groups": with_a_layer(3, padding=1, groups=2),
    "another kernel": with_a_layer(5, padding=2),
    "padded points": with_a_layer(1, padding=1),
    "two layers": lambda layer, x: run_convolution(nn.Sequential(layer[0], nn.Identity()), x),
    "few channels": run_convolution,
    "one image without a batch": lambda layer, x: run_convolution(layer, x[0]),
    "a graph": torch.compile(run_convolution, backend="eager", fullgraph=True),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_elsewhere_the_layer_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "few channels":
        need_at_least(9, monkeypatch)
    layer, x = layer_and_map()
    assert not is_ours(ELSEWHERE[name](layer, x))


@pytest.fixture
def convolved(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes of what `convolve` takes from here on."""
    shapes: list[torch.Size] = []
    for module in (winograd, towers):
        monkeypatch.setattr(module, "convolve", lambda x, *rest: shapes.append(x.shape) or convolve(x, *rest))
    return shapes


@torch.no_grad()
def test_a_layer_that_evaluates_has_torchs_outputs(convolved: list[torch.Size]) -> None:
    layer, x = layer_and_map()
    torch.testing.assert_close(run_convolution(layer, x), layer(x))
    assert convolved == [x.shape]


@pytest.mark.parametrize("name", [*ELSEWHERE, "a stride of 2", "small images"])
@torch.no_grad()
def test_elsewhere_the_layer_evaluates(name: str, convolved: list[torch.Size], monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "few channels":
        need_at_least(9, monkeypatch)
    layer, x = layer_and_map(2 if name == "a stride of 2" else 1)
    if name == "small images":
        monkeypatch.setattr(winograd, "_LEAST_WORK", x.numel() * 8 - 1)
    ELSEWHERE.get(name, run_convolution)(layer, x)
    assert not convolved


@torch.no_grad()
def test_an_image_has_the_same_bits_alone(convolved: list[torch.Size], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether an image is large enough does not depend on others; nor do its sums, whatever the pieces of a batch."""
    for name in ("_FEWEST", "_FEWEST_OF_AVX2"):
        monkeypatch.setattr(winograd, name, Fewest(1, 1, 1500))
    layer = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)  # pyright: ignore
    for side, is_large in ((40, True), (30, False)):
        x = nhwc(torch.randn(5, 64, side, side))
        monkeypatch.setattr(winograd, "_MULTIPLIED", 2 * x[0].numel())
        together = run_convolution(layer, x)
        assert bool(convolved) == is_large
        assert torch.equal(torch.cat([run_convolution(layer, one[None]) for one in x]), together)
        convolved.clear()


@pytest.mark.parametrize("is_seen", [False, True])
@torch.no_grad()
def test_heads_evaluate_so(is_seen: bool, convolved: list[torch.Size]) -> None:
    """Two layers of a tower and its output; a hook finds modules."""
    torch.manual_seed(0)
    head = ClassificationHead(8, 2, 3).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    maps = [nhwc(torch.randn(2, 8, 18, 20)), nhwc(torch.randn(2, 8, 9, 10))]
    with fixed_shapes():
        expected = head(maps)
    seen: list[Any] = []
    if is_seen:
        next(one for one in head.modules() if isinstance(one, nn.Conv2d)).register_forward_hook(
            lambda *_: seen.append(0)
        )
    convolved.clear()
    torch.testing.assert_close(head(maps), expected)
    assert len(seen) == (2 if is_seen else 0)
    assert len(convolved) >= (2 if is_seen else 6)


@pytest.mark.parametrize(("block", "channels"), [(BasicBlock, 8), (Bottleneck, 32)])
def test_residual_blocks_compute_so(block: Any, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(residual, "run_convolution", lambda layer, x: seen.append(x.shape) or run_convolution(layer, x))
    made = block(channels, 8).to(memory_format=torch.channels_last)
    x = nhwc(torch.randn(2, channels, 8, 8))
    out = made(x)
    assert seen == ([] if block is BasicBlock else [(2, 32, 8, 8)]) + [(2, 8, 8, 8)] * 2
    made.conv2.register_forward_hook(lambda *_: None)
    torch.testing.assert_close(made(x), out)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("height", [8, 9])
def test_what_follows_may_write_into_it(batch: int, height: int) -> None:
    """A ReLU in place, which is no norm's, is how heads go on."""
    torch.manual_seed(0)
    layer, relu = nn.Conv2d(8, 8, 3, padding=1).to(memory_format=torch.channels_last), nn.ReLU(inplace=True)  # pyright: ignore[reportCallIssue]
    x = nhwc(torch.randn(batch, 8, height, 10)).requires_grad_()
    out, expected = Convolutions(layer, relu)(x), layer(x).relu()
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(expected)
    found, wanted = (torch.autograd.grad(one, (x, layer.weight), grad) for one in (out, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("what", ["norms", "stages"])
def test_its_input_can_be_made_again(what: Any) -> None:
    """Two maps [2, 8, 16, 16]: what the sum was made of. The sum is forgotten, and gradients have the same bits."""
    layer, _ = layer_and_map()
    x, y = (nhwc(torch.randn(2, 8, 16, 16)).requires_grad_() for _ in range(2))

    def outputs() -> Tensor:
        return stage(lambda one: run_convolution(layer, one + y), x, keep=())

    expected = torch.autograd.grad(outputs().sum(), [x, *layer.parameters()])
    with Kept() as kept:
        with recomputing(what):
            out = outputs()
        assert is_ours(out)
        loss = out.sum()
        del out
        assert kept.num_maps() == 0
    found = torch.autograd.grad(loss, [x, *layer.parameters()])
    assert all(map(torch.equal, found, expected))


def test_towers_and_pyramids_compute_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch's convolutions to rounding, with the same bits each time and within `recomputing`."""
    torch.manual_seed(0)
    pyramid, head = FeaturePyramid({"c3": 4, "c4": 6}, 8, None), ClassificationHead(8, 2, 3)
    for one in (pyramid, head):
        one.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    features = {"c3": nhwc(torch.randn(2, 4, 18, 20)), "c4": nhwc(torch.randn(2, 6, 9, 10))}
    parameters = [*pyramid.parameters(), *head.parameters()]

    def gradients(what: Any) -> tuple[Tensor, ...]:
        with recomputing(what):
            loss = torch.stack([one.square().sum() for one in head(pyramid(features))]).sum()
        return torch.autograd.grad(loss, parameters)

    ours = [gradients(what) for what in ("off", "off", "norms")]
    assert all(torch.equal(a, b) for other in ours[1:] for a, b in zip(ours[0], other, strict=True))
    need_at_least(9, monkeypatch)
    theirs = gradients("off")
    assert not all(map(torch.equal, ours[0], theirs))
    torch.testing.assert_close(ours[0], theirs, rtol=1e-4, atol=1e-4)

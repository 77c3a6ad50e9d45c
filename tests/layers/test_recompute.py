"""Recomputation changes what is kept, and no bit of a result."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from public.backbones.catalog import build_features
from public.backbones.classifier import ImageClassifier
from public.backbones.features import Backbone, Level
from public.layers.conv_norm_act import ConvNormAct
from public.layers.frozen_batch_norm import freeze_batch_norm
from public.layers.recompute import check_stages, recomputing
from public.layers.relu6 import ReLU6
from public.layers.residual import Bottleneck
from public.layers.squeeze_excite import SqueezeExcite

MAP = 2 * 8 * 16 * 16 * 4
"""Bytes of a map [2, 8, 16, 16] in float32."""


class Kept(TorchDispatchMode):
    """Knows the storages that were made as long as it was entered."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}
        self.most_maps = 0
        """That were there at once, behind an operator."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple) else (out,):
            if isinstance(one, Tensor):
                storage = one.untyped_storage()
                self._made.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        self.most_maps = max(self.most_maps, self.num_maps())
        return out

    def num_maps(self) -> int:
        """How many maps, or as much as that, are still there; statistics and weights are too small to count."""
        alive = [size for storage, size in self._made.values() if not storage.expired() and size >= MAP // 4]
        return sum(alive) // MAP


class Small(Backbone):
    """Two levels of what networks are made of: norms with three activations, sums, a gate, what is drawn."""

    classifier_prefix = "fc."

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvNormAct(3, 8, 3, 2), nn.MaxPool2d(2))
        blocks = [Bottleneck(8, 4), Bottleneck(16, 4)]
        blocks[1].drop_path.p = 0.5
        gate = SqueezeExcite(16, 4)
        self.layer1 = nn.Sequential(*blocks, gate, ConvNormAct(16, 8, 1, activation=nn.SiLU))
        self.layer2 = nn.Sequential(ConvNormAct(8, 8, 3, 2, activation=ReLU6), nn.GELU())
        self.levels = {
            "c2": Level(2, 8, ("stem",)),
            "c3": Level(4, 8, ("layer1",)),
            "c4": Level(8, 8, ("layer2",)),
        }
        self.fc = nn.Linear(8, 4)

    def forward_head(self, x: Tensor) -> Tensor:
        """[B, 8, h, w] -> [B, 4]."""
        return self.fc(x.mean((2, 3)))


def trained(network: nn.Module, what: Any, dtype: torch.dtype, layout: torch.memory_format) -> dict[str, Tensor]:
    """Losses, gradients, weights and statistics of three steps."""
    network = copy.deepcopy(network).to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    torch.manual_seed(1)
    found = {}
    for step in range(3):
        images = torch.randn(4, 3, 32, 32).contiguous(memory_format=layout)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32), recomputing(what):
            logits = network(images)
        loss = F.cross_entropy(logits.float(), torch.arange(4))
        loss.backward()
        found |= {f"loss {step}": loss.detach()}
        found |= {f"{step} {name}": p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
        optimizer.step()
        optimizer.zero_grad()
    return found | network.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_three_steps_have_the_same_bits(dtype: torch.dtype, layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    network = Small()
    expected = trained(network, "off", dtype, layout)
    assert int(expected["layer2.0.1.num_batches_tracked"]) == 3
    for what in ("norms", "stages"):
        found = trained(network, what, dtype, layout)
        assert found.keys() == expected.keys()
        assert [name for name, one in found.items() if not torch.equal(one, expected[name])] == []


@pytest.mark.slow
def test_frozen_norms_have_the_same_bits() -> None:
    network = Small()
    freeze_batch_norm(network.layer1)
    expected, found = (trained(network, way, torch.float32, torch.contiguous_format) for way in ("off", "norms"))
    assert [name for name, one in found.items() if not torch.equal(one, expected[name])] == []


def kept_maps(run: Callable[[Tensor], Tensor], what: Any) -> tuple[int, int]:
    """Maps that a forward pass leaves for the backward pass beside its result, and those left when it is done."""
    x = torch.randn(2, 8, 16, 16)
    with Kept() as kept:
        with recomputing(what):
            out = run(x).sum()
        forward = kept.num_maps()
        out.backward()
        return forward, kept.num_maps()


@pytest.mark.parametrize(
    ("activation", "off"), [(lambda: nn.ReLU(inplace=True), 6), (nn.ReLU, 6), (ReLU6, 6), (nn.SiLU, 9)]
)
def test_what_the_convolutions_gave_is_kept_alone(activation: Callable[[], nn.Module], off: int) -> None:
    # Kept without: of each of three units its convolution's output and its activation's, for SiLU the norm's as well.
    network = nn.Sequential(*(ConvNormAct(8, 8, 3, activation=activation) for _ in range(3)), nn.Conv2d(8, 1, 1))
    assert kept_maps(network, "off") == (off, 0)
    assert kept_maps(network, "norms") == (3, 0)


def test_sums_at_the_ends_of_blocks_are_not_kept() -> None:
    # Three blocks with 2, 2 and 8 channels inside: half a map a convolution and as much again for its activation, the
    # third convolution's map and the sum.
    network = nn.Sequential(*(Bottleneck(8, 2) for _ in range(3)), nn.Conv2d(8, 1, 1))
    assert kept_maps(network, "off") == (3 * 3, 0)
    assert kept_maps(network, "norms") == (3 * 3 // 2, 0)


class Strided(Small):
    """A level of three blocks [2, 8, 16, 16], from which the next goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, 8, 1)
        self.layer1 = nn.Sequential(*(Bottleneck(8, 2) for _ in range(3)))
        self.levels = {name: level._replace(stride=4 * level.stride) for name, level in self.levels.items()}


def test_a_neck_does_not_bring_back_the_sums_of_a_stage_long_before_it_is_reached() -> None:
    body, lateral, x = Strided().to_features(["c3", "c4"]), nn.Conv2d(8, 1, 1), torch.randn(2, 3, 16, 16)
    with Kept() as kept:
        with recomputing("norms"):
            maps = body(x)
            loss = lateral(maps["c3"]).sum() + maps["c4"].sum()
        forward = kept.num_maps()
        torch.autograd.grad(loss, lateral.weight, retain_graph=True)
        assert kept.num_maps() == forward
        loss.backward()


def test_of_whole_stages_only_the_results_are_kept() -> None:
    network, x = Small(), torch.randn(2, 3, 64, 64)
    sizes = {}
    for what in ("off", "norms", "stages"):
        with Kept() as kept:
            with recomputing(what):
                out = network(x).sum()
            sizes[what] = kept.num_maps()
            out.backward()
            assert kept.num_maps() == 0
    assert sizes["stages"] < sizes["norms"] / 2 < sizes["off"] / 2


def test_a_retained_graph_gives_the_same_gradients_again() -> None:
    network, x = Small(), torch.randn(2, 3, 32, 32)
    with recomputing("stages"):
        loss = network(x).square().sum()
    parameters = list(network.parameters())
    first = torch.autograd.grad(loss, parameters, retain_graph=True)
    again = torch.autograd.grad(loss, parameters)
    assert all(map(torch.equal, first, again))


def test_what_a_relu_gave_becomes_its_gradient() -> None:
    network = nn.Sequential(ConvNormAct(8, 8, 3), nn.Conv2d(8, 1, 1))
    with recomputing("norms"):
        loss = network(torch.randn(2, 8, 16, 16)).sum()
    with Kept() as kept:
        loss.backward()
    assert kept.most_maps == 2  # what is made again, and the gradient of it or of what the norm took


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 0, 1), (0, 1, 0, 1)])
def test_what_a_relu_gave_stays_as_it_is_for_those_who_ask_later(order: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    unit, heads, x = ConvNormAct(8, 8, 3), (nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 3)), torch.randn(2, 8, 8, 8)
    parameters = [one for module in (unit, *heads) for one in module.parameters()]
    found: list[list[Tensor | None]] = []
    for what in ("off", "norms"):
        with recomputing(what):
            y = unit(x)
            losses = [head(y).square().sum() for head in heads]
        found.append([])
        for which in order:
            found[-1] += torch.autograd.grad(losses[which], parameters, retain_graph=True, allow_unused=True)
    assert all(one is same or torch.equal(one, same) for one, same in zip(*found, strict=True))  # pyright: ignore


def test_nothing_is_left_of_a_forward_pass_alone() -> None:
    norm = nn.BatchNorm2d(8)
    with Kept() as kept:
        for _ in range(2):
            with recomputing("norms"):
                out = norm(torch.randn(2, 8, 16, 16)).exp()  # which saves its own result
            assert kept.num_maps() > 0
            del out
            assert kept.num_maps() == 0


def test_an_overwritten_tensor_that_is_needed_is_still_refused() -> None:
    conv, norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
    with recomputing("norms"):
        y = norm(torch.randn(2, 8, 4, 4))
        out = conv(y)
        with torch.no_grad():
            conv.weight.mul_(2)
    with pytest.raises(RuntimeError, match=r"\[8, 8, 1, 1\].* is at version"):
        out.sum().backward()


@pytest.mark.parametrize("which", ["bias", "small", "image"])
def test_what_a_value_is_made_from_is_not_mistaken_either(which: str) -> None:
    """Torch saves none of these three, and does not look at them."""
    conv, norm, image = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), torch.randn(2, 8, 4, 4)
    small = torch.rand(2, 8, 1, 1)
    with recomputing("norms"):
        out = conv(norm(image) + small + image)
    with torch.no_grad():
        {"bias": norm.bias, "small": small, "image": image}[which].add_(1)
    with pytest.raises(RuntimeError, match=r"changed by an inplace operation; with .*='off' it needs fewer"):
        out.sum().backward()


def test_what_norms_count_is_counted_together_and_before_it_is_asked_for() -> None:
    norms = [nn.BatchNorm2d(2), nn.BatchNorm2d(2, momentum=None), nn.BatchNorm2d(2)]
    with recomputing("norms"):
        norms[0](norms[2](norms[1](norms[0](torch.arange(8.0).view(2, 2, 2, 1)))))  # the second asks at once
    assert [int(norm.get_buffer("num_batches_tracked")) for norm in norms] == [2, 1, 1]
    # Of a first batch it has the variance: of four values of variance 1, 4 / 3.
    torch.testing.assert_close(norms[1].get_buffer("running_var"), torch.full((2,), 4 / 3), rtol=1e-4, atol=0)


def test_what_came_from_inference_mode_is_taken() -> None:
    conv, norm = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
    with torch.inference_mode():
        fixed = torch.rand(2, 8, 1, 1)
    with recomputing("norms"):
        out = conv(norm(torch.randn(2, 8, 4, 4)) + fixed)
    out.sum().backward()
    assert conv.weight.grad is not None


def test_a_value_changed_in_place_is_not_mistaken_for_what_it_was() -> None:
    norm, conv = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)
    x = torch.randn(2, 8, 4, 4)
    gradients = []
    for what in ("off", "norms"):
        conv.zero_grad()
        with recomputing(what):
            y = norm(x)
            y.clamp_(min=0.5)  # none of the functions that are made again
            conv(y).square().sum().backward()
        assert conv.weight.grad is not None
        gradients.append(conv.weight.grad.clone())
    assert torch.equal(*gradients)


class Synchronized(torch.autograd.Function):
    """What torch.nn.SyncBatchNorm does with the statistics that it was given."""

    num_calls = 0

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """[B, C, H, W], [C], [C] -> [B, C, H, W]."""
        Synchronized.num_calls += 1
        ctx.save_for_backward(x, weight)
        return torch.batch_norm_elemt(x, weight, bias, x.mean((0, 2, 3)), 1 / x.std((0, 2, 3)), 1e-5)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Of x alone, with constant statistics."""
        x, weight = ctx.saved_tensors
        return grads[0] * (weight / x.std((0, 2, 3)))[:, None, None], None, None


def test_synchronized_statistics_are_exchanged_once() -> None:
    def elemt(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, invstd: Tensor, eps: float) -> Tensor:
        shape = (-1, 1, 1)
        return (x - mean.view(shape)) * (weight * invstd).view(shape) + bias.view(shape)

    library = torch.library.Library("aten", "IMPL")
    library.impl("batch_norm_elemt", elemt, "CPU")  # torch has it for GPUs alone
    first, last = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 1, 1)
    weight, bias = torch.rand(8), torch.rand(8)

    def run(x: Tensor) -> Tensor:
        return last(F.relu(Synchronized.apply(first(x), weight, bias), inplace=True))  # pyright: ignore

    torch.manual_seed(0)
    assert kept_maps(run, "off") == (2, 0)
    expected = [p.grad for p in (*first.parameters(), *last.parameters())]
    first.zero_grad()
    last.zero_grad()
    torch.manual_seed(0)
    Synchronized.num_calls = 0
    assert kept_maps(run, "norms") == (1, 0)
    assert Synchronized.num_calls == 1
    for one, p in zip(expected, (*first.parameters(), *last.parameters()), strict=True):
        assert one is not None
        assert p.grad is not None
        assert torch.equal(one, p.grad)
    library._destroy()


def test_transformed_functions_are_left_alone() -> None:
    """Gradients of each image by itself, of an evaluating norm: those of all together add up to the whole's."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1)).eval()
    parameters: dict[str, Tensor] = dict(network.named_parameters())
    images = torch.randn(2, 3, 4, 4)

    def loss(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        with recomputing("norms"):
            return torch.func.functional_call(network, parameters, (image[None],)).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, images)
    network(images).square().sum().backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(found[name].sum(0), parameter.grad)


def test_stages_that_are_not_known_are_said() -> None:
    message = "activation_checkpointing='stages' knows the stages of our own networks"
    with pytest.raises(ValueError, match=message), recomputing("stages"):
        nn.Conv2d(3, 3, 1)(torch.rand(1, 3, 4, 4))
    with pytest.raises(ValueError, match=message):
        check_stages(nn.Sequential(nn.Conv2d(3, 3, 1)), "stages")
    check_stages(nn.Conv2d(3, 3, 1), "norms")
    check_stages(nn.Sequential(build_features("resnet18", ["c3"])), "stages")


@pytest.mark.parametrize("chosen", ["when it is made", "later"])
def test_a_classifier_keeps_everything_by_default(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`step_memory` lets one model take turns in all ways, auto among them."""
    seen: list[str] = []
    monkeypatch.setattr("public.backbones.classifier.recomputing", lambda what: seen.append(what) or recomputing(what))
    made = "norms" if chosen == "later" else "auto"
    model = ImageClassifier(nn.Flatten(), mean=(0.5,) * 3, std=(0.5,) * 3, activation_checkpointing=made)
    model.activation_checkpointing = "auto"
    model(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    assert seen == ["off"]

"""Parameters and multiply-adds by hand and in another way; what counting costs, and what it leaves alone."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights
from torchvision.ops import DeformConv2d

from public.backbones.catalog import build_backbone
from public.detectors.catalog import build_detector, list_detectors
from public.evaluation.complexity import Complexity, count
from public.layers.drop_block import add_drop_block
from public.layers.switch_norm import replace_batch_norms

ONE_OF_EACH = (
    "resnet18",
    "resnet18_v2",
    "resnext50_32x4d",
    "resnest50",
    "oct_resnet50_alpha0250",
    "detnet59",
    "evonorm_resnet50",
    "lambda_resnet50",
    "lip_resnet50",
    "resnet18cifar",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_200mf",
    "regnet_y_200mf",
    "efficientnet_b0",
    "darknet_tiny",
    "vovnet19_slim_dw_se",
    "ghostnet_100",
    "proxylessnas_mobile",
)
"""Kinds of networks in the catalog."""


def small() -> nn.Module:
    """A convolution 3 -> 4 of 3x3 and a linear layer on 8x8 maps."""
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 64, 10, bias=False))


class Products(TorchFunctionMode):
    """The other way: adds up, as torch's functions are called with numbers, the products that outputs are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs it as it is."""
        out = func(*args, **(kwargs or {}))
        if func in (F.conv2d, F.linear):  # every output: as many as there are weights for its channel
            self.total += out.numel() * args[1][0].numel()
        elif func is F.conv_transpose2d:  # every input: likewise
            self.total += args[0].numel() * args[1][0].numel()
        elif func in (torch.matmul, Tensor.matmul, Tensor.__matmul__):
            self.total += out.numel() * args[0].shape[-1]
        return out


def macs_by_calls(network: nn.Module, image: Tensor) -> int:
    """What `Products` sees in one pass."""
    with torch.inference_mode(), Products() as products:
        network(image)
    return products.total


# ---- numbers --------------------------------------------------------------------------------------------------------


def test_by_hand() -> None:
    """3 x 9 x 4 + 4 = 112 and 256 x 10 = 2560 parameters; 64 places x 4 x 27 = 6912 and 2560 multiply-adds."""
    assert count(small(), 8) == Complexity(num_parameters=112 + 2560, macs=6912 + 2560)


def test_what_follows_is_added() -> None:
    assert count(small(), 8, macs_behind=100).macs == 6912 + 2560 + 100


def test_strides_and_groups() -> None:
    """Stride 2 on 8x8 leaves 16 places; 2 groups halve the inputs: 16 x 4 x (2 / 2 x 9) = 576; no bias."""
    network = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.Conv2d(2, 4, 3, 2, 1, groups=2, bias=False))
    assert count(network, 8) == Complexity(6 + 36, 64 * 2 * 3 + 576)


def test_height_and_width() -> None:
    """Height first: a kernel of 3x1 without padding leaves 4 rows of 6 and 5 columns of 5."""
    assert count(nn.Conv2d(3, 1, (3, 1)), (6, 5)).macs == 4 * 5 * 9


def test_norms_activations_and_pooling_count_nothing() -> None:
    network = nn.Sequential(
        nn.BatchNorm2d(3), nn.PReLU(), nn.Upsample(scale_factor=2, mode="bilinear"), nn.AdaptiveAvgPool2d(1)
    )
    assert count(network, 8) == Complexity(6 + 1, 0)


class WithoutLayers(nn.Module):
    """Written without layers: a matrix product, a batch of them, and a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.spread = nn.Parameter(torch.zeros(3, 5, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        """[1, 3, 4, 4] -> [1, 5, 8, 8]."""
        rows = x.flatten(2)  # [1, 3, 16]
        gram = torch.einsum("bip,bjp->bij", rows, rows)  # 3 x 3 x 16
        mixed = gram[0] @ rows[0]  # 3 x 3 x 16
        return F.conv_transpose2d(mixed.view(1, 3, 4, 4), self.spread, stride=2)  # 16 x 3 x 5 x 4


def test_functions_count_as_layers_do() -> None:
    assert count(WithoutLayers(), 4).macs == 144 + 144 + 960


@pytest.mark.parametrize("groups", [1, 2])
def test_torchvisions_deformable_convolution(groups: int) -> None:
    """As a plain convolution, which the reading between pixels before it is not: torch counts nothing for it at all."""

    class Deformed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.offsets = nn.Conv2d(3, 18, 3, padding=1)
            self.widen = nn.Conv2d(3, 4, 1)
            self.conv = DeformConv2d(4, 6, 3, padding=1, groups=groups)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.widen(x), self.offsets(x))

    assert count(Deformed(), (8, 6)).macs == 48 * (18 * 27 + 4 * 3 + 6 * 4 // groups * 9)


def test_a_shared_layer_counts_once_as_size_and_twice_as_work() -> None:
    layer = nn.Conv2d(3, 3, 1, bias=False)
    assert count(nn.Sequential(layer, layer), 8) == Complexity(9, 2 * 64 * 9)
    tied = nn.Sequential(layer, nn.Conv2d(3, 3, 1, bias=False))
    tied[1].weight = layer.weight
    assert count(tied, 8) == Complexity(9, 2 * 64 * 9)


def test_frozen_parameters_count_too() -> None:
    """The size of a network does not depend on what is trained."""
    assert count(small().requires_grad_(False), 8).num_parameters == 2672


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("name", list_detectors())
def test_detectors_by_another_way(name: str, backbone: str) -> None:
    """Run for real, on an odd canvas, in either mode; of two stages only the first."""
    torch.manual_seed(0)
    detector = build_detector(name, 3, backbone=backbone)
    size = count(detector, (97, 65))
    assert size == count(detector.eval(), (97, 65))
    assert size.num_parameters == sum(p.numel() for p in detector.parameters())
    assert size.macs == macs_by_calls(detector, torch.randn(1, 3, 97, 65)) > 1e6


@pytest.mark.slow
def test_faster_rcnn_of_torchvisions_table() -> None:
    """134.38 G at 800x800, of which 14.36 G lie behind `forward`."""
    with torch.device("meta"):
        detector = build_detector("faster_rcnn", 90)
    stated: Any = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta
    assert round(count(detector, 800, macs_behind=detector.decode_macs).macs / 1e9, 2) == stated["_ops"] == 134.38


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_networks_by_another_way(name: str) -> None:
    """One of each family, run for real on an odd canvas; the catalog's test has all, with their cards."""
    torch.manual_seed(0)
    network = build_backbone(name, 7)
    size = count(network, (65, 97))
    assert size.macs == macs_by_calls(network.eval(), torch.randn(1, 3, 65, 97)) > 1e6


# ---- what counting costs --------------------------------------------------------------------------------------------


class Devices(TorchDispatchMode):
    """Sees every tensor that an operator makes while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.largest = 0
        """Number of elements."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs it as it is."""
        out = func(*args, **(kwargs or {}))
        for tensor in (leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)):
            self.seen.add(tensor.device.type)
            self.largest = max(self.largest, tensor.numel())
        return out


@pytest.mark.slow
@pytest.mark.parametrize("name", list_detectors())
def test_nothing_is_computed_or_copied(name: str) -> None:
    """An image 8192 pixels wide, whose first maps alone would fill 4 GB: every tensor is one without numbers."""
    with torch.device("meta"):
        blueprint = build_detector(name, 3, backbone="resnet18")
    detector = blueprint.to_empty(device="cpu")
    with Devices() as devices:
        size = count(detector, 8192)
    assert devices.seen == {"meta"}
    assert devices.largest >= 64 * 4096**2
    assert size.macs > 1e12


# ---- what it leaves alone -------------------------------------------------------------------------------------------


def with_drop_path() -> nn.Module:
    return build_backbone("resnet18", 2, drop_path=0.5)


def with_drop_block() -> nn.Module:
    network = build_backbone("resnet18", 2)
    add_drop_block(network.get_submodule("layer4"), 3)
    return network


def with_switch_norm() -> nn.Module:
    network = build_backbone("resnet18", 2)
    replace_batch_norms(network)
    return network


class AlwaysDrops(nn.Module):
    """Draws in either mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.conv(x), 0.5, training=True) * torch.rand(1, device=x.device)


@pytest.mark.slow
@pytest.mark.parametrize("build", [small, with_drop_path, with_drop_block, with_switch_norm, AlwaysDrops])
@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(build: Callable[[], nn.Module], training: bool) -> None:
    """Mode, layout, values, gradients, hooks, and what the next draw from the generator is."""
    network = build().train(training).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    network(torch.randn(2, 3, 8, 8)).sum().backward()
    modes = [module.training for module in network.modules()]
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules()]
    tensors = [*network.parameters(), *network.buffers()]
    gradients = [tensor.grad for tensor in tensors]
    before, generator = copy.deepcopy([tensors, gradients]), torch.get_rng_state()

    first = count(network, 8)

    assert first == count(network.train(not training), 8)  # in either mode
    network.train(training)
    assert first.macs > 0
    assert torch.equal(torch.get_rng_state(), generator)
    assert [module.training for module in network.modules()] == modes
    after = [*network.parameters(), *network.buffers()]
    assert all(a is b for a, b in zip(after, tensors, strict=True))
    assert all(tensor.grad is gradient for tensor, gradient in zip(after, gradients, strict=True))
    for tensor, old in zip([*tensors, *gradients], [*before[0], *before[1]], strict=True):
        assert (tensor is None) == (old is None)
        if tensor is not None:
            assert torch.equal(tensor, old)
            assert (tensor.device, tensor.stride()) == (old.device, old.stride())
            assert tensor.requires_grad == old.requires_grad
    assert hooks == [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules()]


@pytest.mark.slow
def test_variants_cost_what_the_plain_network_does() -> None:
    plain = count(build_backbone("resnet18", 2), 33).macs
    assert {count(build(), 33).macs for build in (with_drop_path, with_drop_block, with_switch_norm)} == {plain}


def test_as_text() -> None:
    """Millions of parameters, billions of multiply-adds, the unit of the tables."""
    assert str(Complexity(25_557_032, 4_089_184_256)) == "25.557 M parameters, 4.089 G MACs"

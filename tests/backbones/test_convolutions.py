"""Every network computes its convolutions by `run_convolution`, which is faster on a CPU wherever it can be."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from public.backbones.catalog import build_backbone
from public.detectors.catalog import build_detector, list_detectors
from public.layers import winograd
from public.layers.winograd import Fewest
from tests.detectors.test_interface import SMALL

NETWORKS = (
    *("darknet19", "darknet53", "darknet_tiny", "detnet59", "efficientnet_b0", "evonorm_resnet50", "ghostnet_100"),
    *("lambda_resnet50", "lip_resnet50", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large"),
    *("oct_resnet50_alpha0125", "proxylessnas_cpu", "regnet_y_400mf", "resnest50", "resnet18_v2", "resnet50_v2"),
    *("resnet18cifar", "resnext50_32x4d", "vovnet19_dw_se", "vovnet19_se"),
)
"""Each kind of block."""


def built(name: str) -> nn.Module:
    """A network, or a small detector."""
    kind: dict[str, Any] = {"backbone": "resnet18"}
    return build_detector(name, 2, **kind, **SMALL[name]) if name in list_detectors() else build_backbone(name)


@pytest.mark.parametrize("name", [*NETWORKS, *list_detectors()])
def test_wide_convolutions_of_maps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All 3x3s and 1x1s of 64 channels and more, in and out, without groups; one of a single pixel may be torch's."""
    network = built(name)
    asked: set[nn.Module] = set()
    monkeypatch.setattr(winograd, "_is_plain", asked.add)
    run, ran = nn.Conv2d._conv_forward, dict[nn.Conv2d, int]()

    def noted(layer: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ran[layer] = x.shape[-1]
        return run(layer, x, weight, bias)

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", noted)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, 128, 128))
    expected = {
        one
        for one, width in ran.items()
        if type(one) is nn.Conv2d and one.kernel_size in ((1, 1), (3, 3)) and one.groups == 1 and width > 1
        if min(one.in_channels, one.out_channels) >= 64 and one.dilation == (1, 1)
    }
    assert len(expected) > 1
    assert not [names for names, one in network.named_modules() if one in expected - asked]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NETWORKS, *list_detectors()])
def test_a_step_in_which_all_of_them_go_the_faster_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs and gradients, however narrow a convolution is and whatever follows it, are those of torch's."""
    small = Fewest(1, 1, 1)
    values = {"_FEWEST": small, "_FEWEST_OF_AVX2": small, "_FEWEST_OF_PRODUCTS": 1, "_FEWEST_OF_POINTS": 1}
    for key, value in (values | {"_LEAST_WORK": 1, "has_avx2_alone": lambda: True}).items():
        monkeypatch.setattr(winograd, key, value)
    torch.manual_seed(0)
    network = built(name)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    x = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    found = []
    for is_known in (lambda: True, lambda: False):
        monkeypatch.setattr(winograd, "has_x86_kernels", is_known)
        torch.manual_seed(1)
        outputs = [one for one in tree_leaves(network.train()(x)) if isinstance(one, Tensor) and one.requires_grad]
        torch.stack([one.square().mean() for one in outputs]).sum().backward()
        norm = nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
        found.append(torch.stack([norm, *(one.detach().norm() for one in outputs)]))
        network.zero_grad()
    torch.testing.assert_close(*found, rtol=1e-2, atol=1e-3)

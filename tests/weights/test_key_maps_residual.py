"""Two authors' names for the layers of their residual networks."""

import pytest
import torch

from public.backbones.catalog import build_backbone
from public.weights.loading import load_weights

RENAMED = {  # ours -> theirs, the rest is alike
    "detnet59": {f"layer{n}.0.downsample.": f"layer{n}.0.extra_conv." for n in (4, 5)},
    "lip_resnet50": {
        "layer1.0.downsample.0.": "layer1.0.downsample.conv.",
        "layer1.0.downsample.1.": "layer1.0.downsample.bn.",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RENAMED)
def test_the_authors_files_fit(name: str) -> None:
    """12 tensors of DetNet's two projections, 6 of LIP's first; the values arrive."""
    torch.manual_seed(0)
    weights = {}
    for key, tensor in build_backbone(name, 3).state_dict().items():
        beginnings = [ours for ours in RENAMED[name] if key.startswith(ours)]
        weights[key.replace(beginnings[0], RENAMED[name][beginnings[0]]) if beginnings else key] = tensor
    network = build_backbone(name, 3)
    own = network.state_dict().keys()
    assert len(weights.keys() - own) == {"detnet59": 12, "lip_resnet50": 6}[name]
    report = load_weights(network, weights)
    assert len(report.loaded) == len(own)
    (ours, theirs), *_ = RENAMED[name].items()
    first = next(key for key in network.state_dict() if key.startswith(ours))
    assert torch.equal(network.state_dict()[first], weights[first.replace(ours, theirs)])

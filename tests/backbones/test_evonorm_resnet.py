"""EvoNorm-B0 by hand and against timm's layer; the network against timm's ResNetV2 made of those."""

from functools import partial

import pytest
import torch
from torch import nn

from public.backbones.evonorm_resnet import evonorm_resnet50
from public.layers.evo_norm import EvoNormB0
from tests.backbones.reference import largest_difference

timm_layers = pytest.importorskip("timm.layers")


def _randomize(network: nn.Module) -> None:
    """Every norm's weight, bias, v and running variance, so that no two could be swapped."""
    generator = torch.Generator().manual_seed(3)
    for key, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.ndim == 1 and not key.startswith("head."):
            center = 0.0 if key.endswith("bias") else 1.0
            nn.init.uniform_(tensor, center - 0.4, center + 0.4, generator=generator)


@pytest.mark.slow
def test_logits_are_timms() -> None:
    """timm adds 1e-3 to variances by default, the paper 1e-5."""
    from timm.models.resnetv2 import ResNetV2

    norm = partial(timm_layers.EvoNorm2dB0, eps=1e-5)
    reference = ResNetV2([3, 4, 6, 3], norm_layer=norm, conv_layer=timm_layers.create_conv2d)
    _randomize(reference)
    assert largest_difference(evonorm_resnet50(), reference, [(64, 64), (49, 75)]) < 1e-5


def test_the_formula_by_hand() -> None:
    """One channel, images (0, 2) and (4, 4): variances 1 and 0, of all four (mean 2.5) 2.75.

    x / max(sqrt(2.75), v x + sqrt(1 or 0)) with v = 1: 0; 2 / 3; 4 / 4; 4 / 4. Then * 2 + 1.
    The running variance moves a tenth of the way from 1 to the unbiased 2.75 * 4 / 3.
    """
    norm = EvoNormB0(1, eps=0.0)
    nn.init.constant_(norm.weight, 2.0)
    nn.init.constant_(norm.bias, 1.0)
    x = torch.tensor([[0.0, 2.0], [4.0, 4.0]]).view(2, 1, 1, 2)
    expected = torch.tensor([1.0, 1 + 4 / 3, 3.0, 3.0])
    torch.testing.assert_close(norm(x).flatten(), expected)
    assert norm.running_var.item() == pytest.approx(0.9 + 0.1 * 2.75 * 4 / 3)

    norm.eval().running_var.fill_(25.0)  # 4 / max(5, 4) = 0.8
    torch.testing.assert_close(norm(x).flatten(), torch.tensor([1.0, 1 + 2 * 2 / 5, 2.6, 2.6]))


def test_running_variance_is_timms() -> None:
    ours, reference = EvoNormB0(3), timm_layers.EvoNorm2dB0(3, eps=1e-5)
    x = torch.randn(4, 3, 5, 7) * 2
    torch.testing.assert_close(ours(x), reference(x))
    torch.testing.assert_close(ours.running_var, reference.running_var)


def test_half_precision_keeps_its_type_and_varies_in_float32() -> None:
    """Numbers around 1000 that differ by 4, the step of bf16 there: the variance of 996 and 1004 is 16."""
    norm = EvoNormB0(1, eps=0.0)
    x = torch.tensor([996.0, 1004.0], dtype=torch.bfloat16).view(2, 1, 1, 1).expand(2, 1, 1, 2)
    assert norm(x).dtype == torch.bfloat16
    assert norm.running_var.item() == pytest.approx(0.9 + 0.1 * 16 * 4 / 3)


@pytest.mark.slow
def test_frozen_stages_stand_still() -> None:
    """Their running variances too, in training mode."""
    features = evonorm_resnet50().to_features(["c3"]).train()
    features.freeze(2)
    before = {key: value.clone() for key, value in features.state_dict().items()}
    features(torch.randn(2, 3, 64, 64))
    moved = {
        key.rsplit(".", 4)[0] for key, value in features.state_dict().items() if not torch.equal(before[key], value)
    }
    assert moved == {"stages.1"}

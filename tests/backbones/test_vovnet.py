"""VoVNet against timm's, and against counts worked out by hand."""

import pytest
import timm
import torch
from torch import nn

from public.backbones import vovnet
from public.backbones.vovnet import VoVNetOptions
from public.layers.squeeze_excite import EffectiveSqueezeExcite
from public.weights.key_maps_mobile import vovnet_2020
from public.weights.loading import load_weights
from tests.backbones.reference import largest_difference

SIZES = [(64, 64), (96, 32)]  # every map that is pooled has even sides, see the deviations
LAST = VoVNetOptions(ese_blocks="last")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "timms"),
    [
        ("vovnet19_slim_dw_se", "ese_vovnet19b_slim_dw"),
        ("vovnet19_dw_se", "ese_vovnet19b_dw"),
        ("vovnet19_slim_se", "ese_vovnet19b_slim"),
    ],
)
def test_logits_are_timms(name: str, timms: str) -> None:
    assert largest_difference(getattr(vovnet, name)(), timm.create_model(timms), SIZES) < 1e-6


@pytest.mark.slow
def test_logits_are_timms_with_attention_in_the_last_blocks() -> None:
    ours, reference = vovnet.vovnet39_se(options=LAST), timm.create_model("ese_vovnet39b")
    assert largest_difference(ours, reference, SIZES) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("depth", [57, 99])
def test_timms_files_fit(depth: int) -> None:
    with torch.device("meta"):
        ours, reference = getattr(vovnet, f"vovnet{depth}_se")(options=LAST), timm.create_model(f"ese_vovnet{depth}b")
    assert not load_weights(ours, reference.state_dict()).missing


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_blocks"), [("vovnet39_se", 6), ("vovnet57_se", 9), ("vovnet99_se", 16)])
def test_attention_is_in_every_block(name: str, num_blocks: int) -> None:
    """Blocks by stage: 1 + 1 + 2 + 2, 1 + 1 + 4 + 3, 1 + 3 + 9 + 3."""
    with torch.device("meta"):
        network, as_in_timm = getattr(vovnet, name)(), getattr(vovnet, name)(options=LAST)
    assert sum(isinstance(module, EffectiveSqueezeExcite) for module in network.modules()) == num_blocks
    assert sum(isinstance(module, EffectiveSqueezeExcite) for module in as_in_timm.modules()) == 4


def test_parameters_of_vovnet19_se_by_hand() -> None:
    """Stem, then per stage three 3x3s, the 1x1 behind all four maps, and a layer of attention. 2020 had 11.205 M."""

    def conv(i: int, o: int, k: int) -> int:
        return i * o * k * k + 2 * o

    count, channels = conv(3, 64, 3) + conv(64, 64, 3) + conv(64, 128, 3), 128
    for width, out in ((128, 256), (160, 512), (192, 768), (224, 1024)):
        count += conv(channels, width, 3) + 2 * conv(width, width, 3)
        count += conv(channels + 3 * width, out, 1) + out * out + out
        channels = out
    count += 1024 * 1000 + 1000
    with torch.device("meta"):
        network = vovnet.vovnet19_se()
    assert sum(parameter.numel() for parameter in network.parameters()) == count == 11_205_416


def test_pooling_is_timms_where_the_sides_are_even() -> None:
    maps = torch.rand(2, 3, 8, 6)
    assert torch.equal(vovnet._pool()(maps), nn.functional.max_pool2d(maps, 3, 2, ceil_mode=True))


def test_pooling_keeps_the_last_row_of_an_odd_side() -> None:
    """Windows of 3 begin at 0, 2 and 4: 1 2 3, 3 4 5, and 5 alone."""
    maps = torch.tensor([1.0, 2, 3, 4, 5]).expand(1, 1, 5, 5)
    assert vovnet._pool()(maps)[0, 0, 0].tolist() == [3, 5, 5]


def test_unknown_places_of_attention_are_refused() -> None:
    with pytest.raises(ValueError, match=r"network_options\.ese_blocks='first' must be one of all, last\."):
        VoVNetOptions(ese_blocks="first")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("stem.0.conv.weight", "stem.0.conv.weight"),
        ("stem.1.conv.0.weight", "stem.1.conv_dw.weight"),
        ("stages.1.OSAStageblocks.0.reduce_conv.bn.bias", "stages.1.blocks.0.conv_reduction.bn.bias"),
        ("stages.3.OSAStageblocks.2.OSABlocklayers.4.conv.weight", "stages.3.blocks.2.conv_mid.4.conv.weight"),
        ("stages.0.OSAStageblocks.0.OSABlocklayers.1.conv.1.weight", "stages.0.blocks.0.conv_mid.1.conv_pw.weight"),
        ("stages.0.OSAStageblocks.0.concat_conv.conv.weight", "stages.0.blocks.0.conv_concat.conv.weight"),
        ("stages.0.OSAStageblocks.0.ese.conv.bias", "stages.0.blocks.0.attn.fc.bias"),
        ("fc.weight", "head.fc.weight"),
    ],
)
def test_keys_of_2020(theirs: str, ours: str) -> None:
    assert vovnet_2020(theirs) == ours

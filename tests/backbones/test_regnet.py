"""RegNet against torchvision's and timm's, and its stages against the paper's."""

import pytest
import timm
import torch
import torchvision
from torchvision.ops import StochasticDepth

from public.backbones import regnet
from public.backbones.catalog import list_backbones
from public.backbones.regnet import RegNetOptions, Stage, design
from public.weights.loading import load_weights
from tests.backbones.reference import largest_difference

# our name -> depths and widths of the stages and the group width: figures 15 and 16 of the paper
PUBLISHED = {
    "x_200mf": ((1, 1, 4, 7), (24, 56, 152, 368), 8),
    "x_400mf": ((1, 2, 7, 12), (32, 64, 160, 384), 16),
    "x_600mf": ((1, 3, 5, 7), (48, 96, 240, 528), 24),
    "x_800mf": ((1, 3, 7, 5), (64, 128, 288, 672), 16),
    "x_1_6gf": ((2, 4, 10, 2), (72, 168, 408, 912), 24),
    "x_3_2gf": ((2, 6, 15, 2), (96, 192, 432, 1008), 48),
    "x_4gf": ((2, 5, 14, 2), (80, 240, 560, 1360), 40),
    "x_6_4gf": ((2, 4, 10, 1), (168, 392, 784, 1624), 56),
    "x_8gf": ((2, 5, 15, 1), (80, 240, 720, 1920), 120),
    "x_12gf": ((2, 5, 11, 1), (224, 448, 896, 2240), 112),
    "x_16gf": ((2, 6, 13, 1), (256, 512, 896, 2048), 128),
    "x_32gf": ((2, 7, 13, 1), (336, 672, 1344, 2520), 168),
    "y_200mf": ((1, 1, 4, 7), (24, 56, 152, 368), 8),
    "y_400mf": ((1, 3, 6, 6), (48, 104, 208, 440), 8),
    "y_600mf": ((1, 3, 7, 4), (48, 112, 256, 608), 16),
    "y_800mf": ((1, 3, 8, 2), (64, 128, 320, 768), 16),
    "y_1_6gf": ((2, 6, 17, 2), (48, 120, 336, 888), 24),
    "y_3_2gf": ((2, 5, 13, 1), (72, 216, 576, 1512), 24),
    "y_4gf": ((2, 6, 12, 2), (128, 192, 512, 1088), 64),
    "y_6_4gf": ((2, 7, 14, 2), (144, 288, 576, 1296), 72),
    "y_8gf": ((2, 4, 10, 1), (168, 448, 896, 2016), 56),
    "y_12gf": ((2, 5, 11, 1), (224, 448, 896, 2240), 112),
    "y_16gf": ((2, 4, 11, 1), (224, 448, 1232, 3024), 112),
    "y_32gf": ((2, 5, 12, 1), (232, 696, 1392, 3712), 232),
}
FROM_TORCHVISION = ("x_400mf_tv", "y_800mf_tv", "y_8gf_tv")
SIZES = [(64, 64), (49, 75)]


def _timms(name: str) -> str:
    """`x_6_4gf` -> `regnetx_064`, `y_800mf_tv` -> `regnety_008_tv`: the size in units of 100 MF."""
    letter, *number = name.removesuffix("_tv").split("_")
    unit = 1 / 100 if number[-1].endswith("mf") else 10
    size = round(float(".".join(number)[:-2]) * unit)
    return f"regnet{letter}_{size:03d}{'_tv' if name.endswith('_tv') else ''}"


def test_the_sweeps_cover_the_family() -> None:
    names = {f"regnet_{name}" for name in (*PUBLISHED, *FROM_TORCHVISION)}
    assert names == {name for name in list_backbones() if name.startswith("regnet_")}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_stages_are_the_papers(name: str) -> None:
    """Depths by blocks, widths by the last layer of each, group widths by the weights of the 3x3."""
    depths, widths, group_width = PUBLISHED[name]
    with torch.device("meta"):
        stages = list(getattr(regnet, f"regnet_{name}")().trunk_output)
    assert tuple(len(stage) for stage in stages) == depths
    assert tuple(stage[-1].f.c[0].out_channels for stage in stages) == widths
    seen = tuple(stage[0].f.b[0].weight.shape[1] for stage in stages)
    assert seen == tuple(min(group_width, width) for width in widths)


def test_design_by_hand() -> None:
    """w_0 = 16, w_a = 8, w_m = 2: 16, 24, 32, 40 grow linearly.

    Powers log2(1), log2(1.5) = 0.58, log2(2), log2(2.5) = 1.32 round to 0, 1, 1, 1: widths 16, 32, 32, 32. Groups of
    24 make of 32 the nearest multiple, 24; 16 is one group.
    """
    assert design(4, 16, 8, 2, 24) == [Stage(1, 16, 16), Stage(3, 24, 24)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x_400mf_tv", "x_800mf", "y_400mf", "y_800mf_tv"])
def test_logits_are_torchvisions(name: str) -> None:
    reference = torchvision.models.get_model(f"regnet_{name.removesuffix('_tv')}")
    assert largest_difference(getattr(regnet, f"regnet_{name}")(), reference, SIZES) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x_200mf", "x_400mf", "x_600mf", "y_200mf", "y_600mf", "y_800mf"])
def test_logits_are_timms(name: str) -> None:
    ours, reference = getattr(regnet, f"regnet_{name}")(), timm.create_model(_timms(name))
    assert largest_difference(ours, reference, SIZES) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PUBLISHED, *FROM_TORCHVISION])
def test_timms_files_fit(name: str) -> None:
    with torch.device("meta"):
        ours, reference = getattr(regnet, f"regnet_{name}")(), timm.create_model(_timms(name))
    assert not load_weights(ours, reference.state_dict()).missing


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x_8gf", "y_8gf_tv"])
def test_torchvisions_files_fit(name: str) -> None:
    """Of the larger ones; torchvision's can not be built without numbers."""
    with torch.device("meta"):
        ours = getattr(regnet, f"regnet_{name}")()
    reference = torchvision.models.get_model(f"regnet_{name.removesuffix('_tv')}").state_dict()
    assert [(key, value.shape) for key, value in ours.state_dict().items()] == [
        (key, value.shape) for key, value in reference.items()
    ]


def test_squeeze_excite_is_a_quarter_of_the_blocks_input() -> None:
    """Inputs of the first blocks: the stem's 32, then 24, 56 and 152 -> 8, 6, 14 and 38."""
    weights = regnet.regnet_y_200mf().state_dict()
    firsts = [f"trunk_output.block{stage}.block{stage}-0.f.se.fc1.weight" for stage in (1, 2, 3, 4)]
    assert [len(weights[key]) for key in firsts] == [8, 6, 14, 38]


def test_drop_path_grows_linearly() -> None:
    """13 blocks at a rate of 0.26: 0.02, 0.04, ..., 0.26."""
    network = regnet.regnet_x_200mf(options=RegNetOptions(drop_path=0.26))
    rates = [layer.p for layer in network.modules() if isinstance(layer, StochasticDepth)]
    assert rates == pytest.approx([0.02 * block for block in range(1, 14)])

"""Stages that do not train, swept over the catalog's families: what stands still, and that all else moves."""

import pytest
import torch
from torch import nn

from public.backbones.catalog import build_features
from public.backbones.features import Features
from public.layers.frozen_batch_norm import FrozenBatchNorm2d

NAMES = ("resnet18", "resnet50_half", "mobilenet_v2")


def train_step(features: Features) -> None:
    """One forward pass in training mode, a gradient from every map, and a step that moves all that trains."""
    features.train()
    trained = [p for p in features.parameters() if p.requires_grad]
    maps = features(torch.randn(2, 3, 32, 32))
    if trained:
        torch.stack([x.square().mean() for x in maps.values()]).sum().backward()
    with torch.no_grad():
        for parameter in trained:
            parameter.sub_(1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("num_levels", [0, 1, 3, 5])
@pytest.mark.parametrize("name", NAMES)
def test_the_first_levels_stand_still(name: str, num_levels: int) -> None:
    """Weights and statistics of the first levels keep their bits and get no gradient; those after them all move."""
    torch.manual_seed(0)
    features = build_features(name, ("c3", "c5"))
    assert list(features.levels) == ["c1", "c2", "c3", "c4", "c5"]
    keys = list(features.state_dict())
    features.freeze(num_levels)
    assert list(features.state_dict()) == keys
    before = {key: value.clone() for key, value in features.state_dict().items()}
    train_step(features)
    after = features.state_dict()
    moved = {key for key in keys if not torch.equal(before[key], after[key])}
    still = [path for level in list(features.levels.values())[:num_levels] for path in level.modules]
    prefixes = tuple(f"{path}." for path in still)
    frozen = {key for key in keys if prefixes and key.startswith(prefixes)}
    assert moved == set(keys) - frozen
    assert bool(frozen) == (num_levels > 0)
    for key, parameter in features.named_parameters():
        assert (parameter.grad is None) == (key in frozen), key


@pytest.mark.slow
def test_no_gradient_is_computed_for_frozen_levels() -> None:
    """The maps of frozen levels hang on no graph, so that their memory is free after the forward pass."""
    features = build_features("resnet18", ("c2", "c3"))
    features.freeze(2)
    maps = features.train()(torch.randn(1, 3, 32, 32))
    assert [x.requires_grad for x in maps.values()] == [False, True]


@pytest.mark.slow
def test_frozen_norms_use_their_own_statistics() -> None:
    """In training mode too: an image's map does not depend on the others of its batch."""
    features = build_features("resnet18", ("c2",))
    features.freeze(2)
    images = torch.randn(3, 3, 32, 32)
    alone, together = features.train()(images[:1])["c2"], features(images)["c2"][:1]
    torch.testing.assert_close(alone, together)
    norms = [m for m in features.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 5
    assert all(isinstance(norm, FrozenBatchNorm2d) and not norm.training for norm in norms)


@pytest.mark.slow
def test_freezing_again_thaws_nothing() -> None:
    """The second call adds its levels to those of the first."""
    features = build_features("resnet18", ("c5",))
    features.freeze(3)
    features.freeze(1)
    trained = {name.split(".")[0] for name, p in features.named_parameters() if p.requires_grad}
    assert trained == {"layer3", "layer4"}


@pytest.mark.parametrize("num_levels", [-1, 4])
def test_levels_that_do_not_exist(num_levels: int) -> None:
    """Of a network up to c3 there are three; the message has the config's word and the levels."""
    features = build_features("mobilenet_v2", ("c3",))
    with pytest.raises(ValueError, match=rf"^frozen_stages={num_levels} must lie within 0\.\.3, .*\(c1, c2, c3\)"):
        features.freeze(num_levels)
    assert all(p.requires_grad for p in features.parameters())

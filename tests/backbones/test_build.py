"""Networks with other activations, norms and dropout, swept over the families."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from public.backbones.build import build_from_options, build_network
from public.backbones.catalog import _FAMILIES, build_backbone, options_of
from public.backbones.mobilenet_v2 import MobileNetV2Options
from public.backbones.residual_network import ResNetOptions
from public.backbones.resnet import resnet18
from public.config.options import NetworkOptions
from public.layers.switch_norm import SwitchNorm2d

FIRST_OF_FAMILY = [names[0] for names in _FAMILIES.values()]
WITHOUT_ACTIVATION = ("evonorm_resnet50",)
"""Its norm is the activation too."""


class Recorder(TorchDispatchMode):
    """Notes every operation that is carried out."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def operations_of(network: nn.Module) -> set[str]:
    """What a forward pass of two images in training carries out."""
    with torch.device("meta"), Recorder() as recorder:
        network.train()(torch.zeros(2, 3, 64, 64))
    return recorder.names


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FIRST_OF_FAMILY if name not in WITHOUT_ACTIVATION])
def test_no_activation_of_its_own_is_left(name: str) -> None:
    """A network asked for ELUs carries out no ReLU, ReLU6, swish or leaky ReLU any more."""
    with torch.device("meta"):
        operations = operations_of(build_network(name, 2, activation="elu"))
    assert "elu" in operations
    assert operations.isdisjoint({"relu", "relu_", "hardtanh", "hardtanh_", "silu", "silu_", "leaky_relu"})
    assert operations.isdisjoint({"leaky_relu_", "hardswish", "hardswish_", "gelu", "clamp_min"})


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FIRST_OF_FAMILY if name not in WITHOUT_ACTIVATION])
def test_no_batch_norm_is_left(name: str) -> None:
    """SwitchNorm takes the place of each, and a forward pass in training carries out as many."""
    with torch.device("meta"):
        num_norms = sum(isinstance(module, nn.BatchNorm2d) for module in build_network(name, 2).modules())
        network = build_network(name, 2, norm="switch")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert sum(isinstance(module, SwitchNorm2d) for module in network.modules()) == num_norms > 0
    assert "var_mean" in operations_of(network)


@pytest.mark.slow
def test_dropout_before_the_classifier_by_hand() -> None:
    """Half of the features are zero and the others doubled; evaluation changes nothing, and no key is new."""
    network = build_network("resnet18", 512, dropout=0.5)
    assert network.state_dict().keys() == build_network("resnet18", 512).state_dict().keys()
    classifier = network.get_submodule("fc")
    assert isinstance(classifier, nn.Linear)
    nn.init.eye_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    torch.manual_seed(0)
    outputs = classifier(torch.ones(8, 512))
    assert set(outputs.unique().tolist()) == {0.0, 2.0}
    assert outputs.mean().item() == pytest.approx(1.0, abs=0.1)
    assert torch.equal(classifier.eval()(torch.ones(8, 512)), torch.ones(8, 512))


@pytest.mark.slow
def test_all_options_at_once() -> None:
    """What a config gives, on a network that takes everything: finite gradients for every parameter."""
    options = ResNetOptions(dropout=0.2, drop_path=0.2, zero_init_residual=True, activation="mish", norm="switch")
    network = build_from_options("resnet18", 3, options)
    network(torch.rand(4, 3, 64, 64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.slow
def test_what_a_family_does_not_have_is_refused() -> None:
    """By the catalog, with what there is; and EvoNorm has neither norm nor activation to replace."""
    with pytest.raises(ValueError, match="mobilenet_v2 has no option 'zero_init_residual'; it takes: "):
        build_network("mobilenet_v2", zero_init_residual=True)
    with pytest.raises(
        ValueError, match=r"resnet18 has no option 'depth'; it takes: dropout, activation, norm, drop_path"
    ):
        build_network("resnet18", depth=3)
    with pytest.raises(ValueError, match=r"activation='relu6': \w+ has no activation"):
        build_network("evonorm_resnet50", activation="relu6")


@pytest.mark.slow
@pytest.mark.parametrize("name", FIRST_OF_FAMILY)
def test_every_family_takes_its_own_options_and_those_of_all(name: str) -> None:
    """The same dropout either way, and none of another family's options."""
    own, other = options_of(name), MobileNetV2Options if name != "mobilenet_v2" else ResNetOptions
    with torch.device("meta"):
        for options in (own(dropout=0.75), NetworkOptions(dropout=0.75)):
            network = build_from_options(name, 2, options)
            hooks = [hook for module in network.modules() for hook in module._forward_pre_hooks.values()]
            rates = [module.p for module in network.modules() if isinstance(module, nn.Dropout)]
            assert rates == [0.75] if rates else len(hooks) == 1
            assert operations_of(network) & {"native_dropout", "bernoulli_"}
    message = (
        rf"^network_options={other.__name__}\(\.\.\.\) are {other.kind}'s, and network='{name}' takes {own.__name__}\.$"
    )
    with pytest.raises(ValueError, match=message):
        build_from_options(name, 2, other())


@pytest.mark.slow
def test_what_is_not_given_is_the_networks_own() -> None:
    """Rates of dropout: 0.2 in MobileNetV2; LambdaResNet's blocks start as their shortcuts unless told otherwise."""
    with torch.device("meta"):
        network = build_from_options("mobilenet_v2", 2, MobileNetV2Options())
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)] == [0.2]
    for options, expected in ((ResNetOptions(), False), (ResNetOptions(zero_init_residual=False), True)):
        weight = build_from_options("lambda_resnet50", 2, options).get_parameter("layer1.0.bn3.weight")
        assert bool(weight.any()) is expected


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("resnet18", {"drop_path": 1.0}, r"network_options\.drop_path=1\.0 must lie within \[0, 1\)\."),
        ("resnet18", {"dropout": -0.5}, r"network_options\.dropout=-0\.5 must lie within \[0, 1\)\."),
        (
            "resnet18",
            {"activation": "tanh"},
            r"network_options\.activation='tanh' must be one of relu, relu6, .*mish\.",
        ),
        ("resnet18", {"norm": "group"}, r"network_options\.norm='group' must be one of switch\."),
        ("darknet19", {"negative_slope": -0.1}, r"network_options\.negative_slope=-0\.1 must be 0 or more\."),
        ("efficientnet_b0", {"norm_eps": 0.0}, r"network_options\.norm_eps=0\.0 must be greater than 0\."),
    ],
)
def test_settings_out_of_range_are_refused(name: str, option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(name, **option)


def test_a_family_is_not_called_with_what_is_done_afterwards() -> None:
    """Its function could do nothing with it: `build_from_options` does, and the catalog's builder refuses."""
    with pytest.raises(TypeError, match="activation"):
        resnet18(options=ResNetOptions(activation="swish"))
    with pytest.raises(
        ValueError, match=r"resnet18 has no option 'activation'; it takes: drop_path, zero_init_residual\."
    ):
        build_backbone("resnet18", activation="swish")

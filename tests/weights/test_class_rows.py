"""The classes of a checkpoint of ours into a network for other classes: by their names, whatever their places."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from public.detectors.cascade_rcnn.options import CascadeRCNNOptions
from public.detectors.catalog import build_from_options
from public.detectors.centernet.options import CenterNetOptions
from public.detectors.faster_rcnn.options import FasterRCNNOptions
from public.detectors.fcos.options import FCOSOptions
from public.detectors.retinanet.options import RetinaNetOptions
from public.recipes.classification import ClassificationTask
from public.recipes.detection import DetectionTask
from public.runtime.checkpoint import FORMAT, load_checkpoint, save_checkpoint
from public.weights.class_rows import ClassLayers, ClassRows, by_class_name
from public.weights.loading import load_weights
from tests.recipes.tiny_detection import TINY as TINY_DETECTION
from tests.recipes.tiny_experiment import TINY as TINY_ROW
from tests.recipes.tiny_experiment import TinyNetwork

SMALL: dict[str, Any] = {"backbone": "resnet18", "levels": ("p5",), "channels": 8}
DETECTORS = {
    "retinanet": RetinaNetOptions(**SMALL, num_convs=1, anchor_sizes=(32.0,)),
    "fcos": FCOSOptions(**SMALL, num_convs=1),
    "centernet": CenterNetOptions(backbone="resnet18", upsample_channels=(8,), head_channels=8),
    "faster_rcnn": FasterRCNNOptions(**SMALL, head_channels=8),
    "one_box": FasterRCNNOptions(**SMALL, head_channels=8, class_agnostic=True),
    "cascade_rcnn": CascadeRCNNOptions(**SMALL, head_channels=8),
}
GIVEN, NEW = ["bird", "cat", "dog"], ["dog", "fox", "bird", "cat"]


def test_rows_by_hand() -> None:
    """Two groups of [background, cat, dog] with two rows each, for classes [dog, fox]: fox's rows stay the own 0."""
    given, own = torch.arange(12.0)[:, None], torch.zeros(12, 1)
    layers = ClassLayers(["dog", "fox"], {"fc.": ClassRows(groups=2, background=1, width=2)})
    found = by_class_name({"fc.weight": given, "x": own}, {"fc.weight": own, "x": own}, layers, ["cat", "dog"])
    assert found.keys() == {"fc.weight"}
    assert found["fc.weight"].flatten().tolist() == [0, 1, 4, 5, 0, 0, 6, 7, 10, 11, 0, 0]
    assert own.sum() == 0


@pytest.mark.parametrize(("num_given", "num_own"), [(7, 6), (6, 7)])
def test_another_layout_is_left_as_it_is(num_given: int, num_own: int) -> None:
    """What does not fit is for `load_weights` to refuse."""
    layers = ClassLayers(["dog", "cat"], {"fc.": ClassRows(groups=3)})
    own, given = {"fc.bias": torch.zeros(num_own)}, {"fc.bias": torch.zeros(num_given)}
    assert by_class_name(given, own, layers, ["cat", "dog"]) == {}


def checkpoint(network: nn.Module, names: list[str]) -> dict[str, Any]:
    """As a run leaves it."""
    return {"format": FORMAT, "class_names": names, "model": network.state_dict()}


def make_exact(layer: nn.Module) -> None:
    """Whole numbers in and whole weights: sums have the same bits in whatever order a kernel takes them."""
    layer.register_forward_pre_hook(lambda _, inputs: (inputs[0].mul(4).round(),))
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -9, 9).data.round_()


def class_outputs(network: Any, name: str) -> list[Tensor]:
    """The raw outputs of classes, which are the last dimension; background first, where that is one."""
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        if name == "retinanet":
            return list(network(images).class_logits)  # [1, h, w, A, K]
        if name in ("fcos", "centernet"):
            maps = network(images)[0]  # [1, K, h, w], of each level
            return [one.movedim(1, -1) for one in (maps if isinstance(maps, tuple) else (maps,))]
        heads = network.roi_heads if name == "cascade_rcnn" else [network.roi_heads]
        features = torch.rand(5, 8, generator=torch.Generator().manual_seed(1))
        outputs = []
        for head in heads:
            logits, deltas = (layer(features) for layer in head.box_predictor.values())
            deltas = deltas.unflatten(1, (-1, 4)).movedim(1, -1)
            outputs += [logits] if deltas.shape[-1] == 1 else [logits, deltas]
        return outputs


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_every_output_of_a_class_goes_with_its_name(name: str) -> None:
    """Bit for bit, in another order and with one more class, which keeps the new network's rows; all else is loaded."""
    options, background = DETECTORS[name], int(name in ("faster_rcnn", "one_box", "cascade_rcnn"))
    torch.manual_seed(0)
    old, new = build_from_options(3, options).eval(), build_from_options(4, options).eval()
    for detector in (old, new):
        for prefix in detector.class_rows:
            make_exact(detector.get_submodule(prefix.removesuffix(".")))
    fresh = class_outputs(new, name)
    report = load_weights(new, checkpoint(old, GIVEN), classes=ClassLayers(NEW, new.class_rows))
    assert str(report).endswith("tensors loaded from 'model'; 3 classes kept by name, 1 new (fox)")
    assert {*report.loaded} == {*new.state_dict()}
    before, after = class_outputs(old, name), class_outputs(new, name)
    places = [*range(background), *(background + GIVEN.index(one) for one in NEW if one in GIVEN)]
    kept = [*range(background), *(background + n for n, one in enumerate(NEW) if one in GIVEN)]
    assert len(before) == len(after) > 0
    for old_one, new_one, fresh_one in zip(before, after, fresh, strict=True):
        assert torch.equal(new_one[..., kept], old_one[..., places])
        assert old_one.unique().numel() > 3
        if background:  # of the same features: what is new is as it was
            assert torch.equal(new_one[..., background + 1], fresh_one[..., background + 1])


def test_a_classifier(tmp_path: Path) -> None:
    """From a file; the new class's row is the network's own. Without names, and with others, as before."""
    old, new = (nn.Sequential(nn.Linear(5, number)) for number in (3, 4))
    for network in (old, new):
        make_exact(network.get_submodule("0"))
    own = new.get_parameter("0.weight")[1].clone()
    layers = ClassLayers(NEW, {"0.": ClassRows()})
    save_checkpoint(tmp_path / "best.pth", {"class_names": GIVEN, "model": old.state_dict()})
    load_weights(new, tmp_path / "best.pth", classes=layers)
    images = torch.rand(2, 5)
    assert torch.equal(new(images)[:, [2, 3, 0]], old(images))
    assert torch.equal(new.get_parameter("0.weight")[1], own)
    with pytest.raises(ValueError, match=r"2 mismatched \(0\.weight"):
        load_weights(new, old.state_dict(), classes=layers)
    with pytest.raises(ValueError, match=r"2 mismatched \(0\.weight"):
        load_weights(new, tmp_path / "best.pth")


def test_a_classifier_to_train(tmp_path: Path) -> None:
    """initial_weights of a run with other classes: the log says what became of them."""
    save_checkpoint(tmp_path / "best.pth", checkpoint(TinyNetwork(2, 0.0), ["cat", "dog"]))
    row, network = replace(TINY_ROW, initial_weights=str(tmp_path / "best.pth")), TinyNetwork(3, 0.0)
    (report,) = ClassificationTask.load_initial_weights(network, row, ["dog", "fox", "cat"])
    assert report.endswith("6 tensors loaded from 'model'; 2 classes kept by name, 1 new (fox)")
    former = load_checkpoint(tmp_path / "best.pth")["model"]["fc.weight"]
    assert torch.equal(network.fc.weight[[2, 0]], former)


@pytest.mark.slow
@pytest.mark.parametrize("new_class_head", [False, True])
def test_a_detector_to_train(tmp_path: Path, new_class_head: bool) -> None:
    """As above; with new_class_head no class keeps anything."""
    network = build_from_options(2, DETECTORS["fcos"])
    save_checkpoint(tmp_path / "best.pth", checkpoint(network, ["cat", "dog"]))
    weights = str(tmp_path / "best.pth")
    row = replace(TINY_DETECTION, initial_weights=weights, new_class_head=new_class_head)
    (report,) = DetectionTask.load_initial_weights(network, row, ["fox", "cow"])
    expected = (
        "; 2 skipped (head.classification_head.cls_logits" if new_class_head else "; 0 classes kept by name, 2 new"
    )
    assert expected in report


def test_names_that_are_none() -> None:
    """A checkpoint that no run of ours wrote."""
    network = nn.Linear(5, 3)
    for names in ("abc", [1, 2, 3], ["a", "a", "b"]):
        with pytest.raises(ValueError, match=r"^the given dict is whole, but no run of ours wrote it: "):
            load_weights(network, {**checkpoint(network, []), "class_names": names})

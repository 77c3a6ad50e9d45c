"""FCOS against hand-worked numbers, plain loops and torchvision's FCOS."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import fcos_resnet50_fpn
from torchvision.ops import box_iou

from public.datasets.batches import DetectionBatch, ImageSizes
from public.detectors.catalog import build_detector
from public.detectors.fcos.network import FCOS, FCOSOutputs, num_groups
from public.detectors.fcos.options import Distances, FCOSOptions
from public.detectors.fcos.targets import centerness
from public.detectors.levels import join_points
from public.geometry.labels import PADDING
from public.geometry.points import map_sizes
from public.weights.loading import load_weights
from tests.detectors.reference import (
    HARD,
    ONE_A_FAMILY,
    Objects,
    assert_same_detections,
    assert_same_gradients,
    batch_of,
    counts_of,
    images_of,
    losses_of,
    noise,
    objects_of,
    perturb_heads,
    photos,
    pyramid_strides,
    random_targets,
    sizes_of,
)

CPU = torch.device("cpu")
CANVAS = (64, 64)
SMALL: dict[str, Any] = {"backbone": "mobilenet_v2", "channels": 32, "num_convs": 1, "levels": ("p3", "p4", "p5")}


def outputs_of(batch: DetectionBatch, strides: tuple[int, ...], num_classes: int, scale: float = 0.0) -> FCOSOutputs:
    """Outputs with normally distributed values, or all zero."""
    canvas_size = (batch.images.shape[2], batch.images.shape[3])
    sizes = map_sizes(canvas_size, strides)
    logits, sides = (
        tuple((torch.randn(len(batch.images), k, *s) * scale).requires_grad_() for s in sizes) for k in (num_classes, 5)
    )
    return FCOSOutputs(logits, sides, canvas_size)


# ---- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "params_m"), [("resnet50", 32.297), ("resnet101", 51.289)])
def test_parameters_of_2020(backbone: str, params_m: float) -> None:
    with torch.device("meta"):
        detector = build_detector("fcos", num_classes=80, backbone=backbone)
    assert round(sum(p.numel() for p in detector.parameters()) / 1e6, 3) == params_m
    assert detector.state_dict()["scales"].shape == (5,)


@pytest.mark.slow
def test_keys_are_torchvisions() -> None:
    with torch.device("meta"):
        ours, reference = FCOS(91, FCOSOptions.torchvision()), fcos_resnet50_fpn(weights=None, weights_backbone=None)
    shapes = {key: tensor.shape for key, tensor in reference.state_dict().items()}
    assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == shapes
    (of_classes,) = ours.class_prefixes
    assert {key for key in shapes if key.startswith(of_classes)} == {of_classes + "weight", of_classes + "bias"}


@pytest.mark.slow
def test_initial_values() -> None:
    torch.manual_seed(0)
    detector = FCOS(4, FCOSOptions(backbone="resnet18", levels=("p3", "p4", "p5")))
    head = detector.head
    assert torch.equal(detector.state_dict()["scales"], torch.ones(3))
    assert head.classification_head.cls_logits.bias is not None
    assert head.classification_head.cls_logits.bias.sigmoid().tolist() == pytest.approx([0.01] * 4)
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.std().item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(
    ("channels", "groups"), [(256, 32), (128, 32), (96, 32), (64, 32), (32, 16), (48, 16), (40, 8), (33, 1), (1, 1)]
)
def test_groups(channels: int, groups: int) -> None:
    assert num_groups(channels) == groups


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ONE_A_FAMILY)
def test_one_backbone_of_every_family(backbone: str) -> None:
    torch.manual_seed(0)
    detector = FCOS(3, FCOSOptions(backbone=backbone, channels=32, num_convs=1))
    batch = batch_of([[((10, 10, 30, 26), 2)], []], (65, 40))
    outputs = detector(images_of(batch))
    assert [tuple(x.shape) for x in outputs.class_logits] == [
        (2, 3, *size) for size in map_sizes((65, 40), pyramid_strides(backbone))
    ]
    assert all(x.shape[1] == 5 for x in outputs.box_logits)
    losses = losses_of(detector, outputs, batch)
    assert tuple(losses) == detector.loss_names
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())
    detections = detector.eval().decode(outputs, batch.sizes)
    assert detections.boxes.shape == (2, 100, 4)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("channels", 0, "channels=0"),
        ("num_convs", -1, "num_convs=-1"),
        ("focal_alpha", 1.5, "focal_alpha"),
        ("focal_gamma", -1.0, "focal_gamma"),
        ("distances", "sigmoid", "distances='sigmoid' must be one of exp, relu"),
        ("center_sampling", "star", "center_sampling"),
        ("points", "corner", "points"),
        ("box_weight", -2.0, "box_weight"),
        ("score_threshold", 1.5, "score_threshold=1.5"),
        ("iou_threshold", -0.1, "iou_threshold"),
        ("top_k", 0, "top_k"),
        ("max_detections", 0, "max_detections"),
        ("levels", ("p3", "p5"), "levels"),
        ("backbone", "resnet51", "resnet50"),
    ],
)
def test_bad_options(option: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FCOS(3, FCOSOptions(**{**SMALL, option: value}))


# ---- losses ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("distances", ["exp", "relu"])
def test_losses_by_hand(distances: Distances) -> None:
    """All outputs zero: probabilities a half, sides of 1 pixel (exp) or none (ReLU) within a box of 20 x 16."""
    batch = batch_of([[((10, 10, 30, 26), 1)]], CANVAS)
    detector = FCOS(2, FCOSOptions(**SMALL, distances=distances))
    assert counts_of(detector, batch).tolist() == [6]
    losses = losses_of(detector, outputs_of(batch, (8, 16, 32), 2), batch)
    background, positive = 0.75 * 0.25 * math.log(2), 0.25 * 0.25 * math.log(2)
    assert losses["classification"].item() == pytest.approx((162 * background + 6 * positive) / 6)
    assert losses["centerness"].item() == pytest.approx(math.log(2))
    sides = [(x - 10, y - 10, 30 - x, 26 - y) for y in (12, 20) for x in (12, 20, 28)]
    centers = centerness(torch.tensor(sides, dtype=torch.float32)).sum().item()
    giou = 4 / 320 if distances == "exp" else 0
    assert losses["box"].item() == pytest.approx(2 * centers * (1 - giou) / 6)
    unweighted = FCOS(2, FCOSOptions(**SMALL, distances=distances, box_weight=1.0, centerness_weighted=False))
    assert losses_of(unweighted, outputs_of(batch, (8, 16, 32), 2), batch)["box"].item() == pytest.approx(1 - giou)


def test_parts_of_a_batch_add_up() -> None:
    """Each divided by the positives of the whole, which the parts' own counts add up to."""
    torch.manual_seed(0)
    images: list[Objects] = [[((10, 10, 30, 26), 1)], [], [((0, 0, 60, 60), 0), ((5, 5, 25, 25), 1)]]
    detector, whole = FCOS(2, FCOSOptions(**SMALL)), batch_of(images, CANVAS)
    outputs = outputs_of(whole, (8, 16, 32), 2, scale=1.0)
    total = losses_of(detector, outputs, whole)
    sums = dict.fromkeys(total, torch.zeros(()))
    counts = torch.zeros(1)
    for i in range(3):
        part = DetectionBatch(*(x[i : i + 1] for x in whole))
        of_part = FCOSOutputs(
            tuple(x[i : i + 1] for x in outputs.class_logits),
            tuple(x[i : i + 1] for x in outputs.box_logits),
            (64, 64),
        )
        losses = losses_of(detector, of_part, part, counts_of(detector, whole))
        sums = {name: sums[name] + loss for name, loss in losses.items()}
        counts += counts_of(detector, part)
    assert torch.equal(counts, counts_of(detector, whole))
    for name, loss in total.items():
        torch.testing.assert_close(sums[name], loss)


@pytest.mark.slow
@pytest.mark.parametrize("distances", ["exp", "relu"])
@pytest.mark.parametrize("case", HARD)
def test_hard_batches_are_finite(case: str, distances: Distances) -> None:
    """Losses and every gradient, in float32 and bf16."""
    torch.manual_seed(0)
    detector, batch = FCOS(3, FCOSOptions(**SMALL, distances=distances)), batch_of(HARD[case], (96, 96))
    for dtype in (torch.float32, torch.bfloat16):
        detector.zero_grad()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            outputs = detector(images_of(batch))
        losses = losses_of(detector, outputs, batch)
        assert all(loss.isfinite() and loss >= 0 for loss in losses.values())
        torch.stack(list(losses.values())).sum().backward()
        gradients = {name: p.grad for name, p in detector.named_parameters()}
        assert not [name for name, grad in gradients.items() if grad is None or not grad.isfinite().all()]


def test_wild_outputs_are_finite() -> None:
    """An exponent far beyond what exp can take."""
    batch = batch_of([[((10, 10, 30, 26), 1)]], CANVAS)
    detector = FCOS(2, FCOSOptions(**SMALL))
    outputs = outputs_of(batch, (8, 16, 32), 2, scale=1e4)
    losses = losses_of(detector, outputs, batch)
    torch.stack(list(losses.values())).sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in (*outputs.class_logits, *outputs.box_logits))
    assert detector.decode(outputs, batch.sizes).boxes.isfinite().all()


# ---- detections -----------------------------------------------------------------------------------------------------


def slow_decode(
    outputs: FCOSOutputs, strides: tuple[int, ...], sizes: ImageSizes, options: FCOSOptions
) -> list[list[tuple[float, int, list[float]]]]:
    """(score, class, box) of each image, best first: one candidate at a time. Sides are strides x max(output, 0)."""
    found = []
    for image in range(len(outputs.class_logits[0])):
        height, width = sizes.content[image].tolist()
        pairs = []
        for stride, logits, sides in zip(strides, outputs.class_logits, outputs.box_logits, strict=True):
            of_level = []
            for label, y, x in torch.nonzero(torch.ones(logits.shape[1:])).tolist():
                left, top, right, bottom, center = sides[image, :, y, x].tolist()
                score = math.sqrt(logits[image, label, y, x].sigmoid().item() / (1 + math.exp(-center)))
                corners = [x + 0.5 - max(left, 0), y + 0.5 - max(top, 0), x + 0.5 + max(right, 0)]
                corners = [stride * side for side in (*corners, y + 0.5 + max(bottom, 0))]
                limits = (width, height, width, height)
                box = [min(max(side, 0), limit) for side, limit in zip(corners, limits, strict=True)]
                of_level.append((score, label, box))
            of_level = sorted((pair for pair in of_level if pair[0] > options.score_threshold), reverse=True)
            pairs += of_level[: options.top_k]
        kept: list[tuple[float, int, list[float]]] = []
        for pair in sorted(pairs, reverse=True):
            rivals = [box for _, label, box in kept if label == pair[1]]
            overlaps = box_iou(torch.tensor([pair[2]]), torch.tensor(rivals).view(-1, 4))
            if not (overlaps > options.iou_threshold).any():
                kept.append(pair)
        found.append(kept[: options.max_detections])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("channels_last", [False, True])
def test_decode_against_plain_loops(channels_last: bool) -> None:
    torch.manual_seed(3)
    limits: dict[str, Any] = {"score_threshold": 0.5, "iou_threshold": 0.3, "top_k": 25, "max_detections": 30}
    options = FCOSOptions(**SMALL, distances="relu", **limits)
    batch = batch_of([[], [], []], (64, 96))
    detector = FCOS(4, options)
    outputs = outputs_of(batch, (8, 16, 32), 4, scale=1.5)
    for logits in outputs.class_logits:
        logits.data[2] = -5.0  # an image without detections
    if channels_last:
        logits, sides = ([x.to(memory_format=torch.channels_last) for x in maps] for maps in outputs[:2])
        outputs = FCOSOutputs(tuple(logits), tuple(sides), outputs.canvas_size)
    content = torch.tensor([[64, 96], [50, 90], [64, 96]])
    sizes = ImageSizes(content, content * torch.tensor([2, 3]))
    detections = detector.decode(outputs, sizes)
    expected = slow_decode(outputs, (8, 16, 32), sizes, options)
    assert [len(found) for found in expected[:2]] == [30, 30]
    assert expected[2] == []
    for image, found in enumerate(expected):
        scores, labels = [pair[0] for pair in found], [pair[1] for pair in found]
        assert detections.labels[image].tolist() == labels + [PADDING] * (30 - len(found))
        assert detections.scores[image, : len(found)].tolist() == pytest.approx(scores, abs=1e-6)
        boxes = torch.tensor([pair[2] for pair in found]).view(-1, 4) * torch.tensor([3, 2, 3, 2])
        torch.testing.assert_close(detections.boxes[image, : len(found)], boxes, atol=1e-3, rtol=0)


def test_exp_distances() -> None:
    """An output of 0.5 with the scale 1 means exp(0.5 e) = 3.89 pixels, at any level."""
    batch = batch_of([[]], CANVAS)
    detector = FCOS(1, FCOSOptions(**SMALL, score_threshold=0.8))
    outputs = outputs_of(batch, (8, 16, 32), 1)
    for level, (y, x) in enumerate([(3, 2), (1, 2)]):
        outputs.class_logits[level].data[0, 0, y, x] = 9.0
        outputs.box_logits[level].data[0, :, y, x] = torch.tensor([0.5, 0.5, 0.5, 0.5, 9.0 - level])
    detections = detector.decode(outputs, batch.sizes)
    side = math.exp(0.5 * math.e)
    expected = [[x - side, y - side, x + side, y + side] for x, y in ((20, 28), (40, 24))]
    torch.testing.assert_close(detections.boxes[0, :2], torch.tensor(expected))
    assert detections.labels[0].tolist() == [0, 0] + [PADDING] * 98


# ---- torchvision ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[0, 1])
def pair(request: pytest.FixtureRequest) -> tuple[Any, FCOS]:
    """torchvision's, for canvases of 128 to 224 pixels, and ours with its state dict."""
    torch.manual_seed(request.param)
    reference, ours = (
        fcos_resnet50_fpn(weights=None, weights_backbone=None, min_size=128, max_size=224),
        FCOS(91, FCOSOptions.torchvision()),
    )
    perturb_heads(reference, request.param)
    report = load_weights(ours, reference.state_dict())
    assert not report.missing
    assert not report.unexpected
    return reference, ours


@pytest.fixture(params=["noise", "photos"])
def pictures(request: pytest.FixtureRequest) -> list[Tensor]:
    """float32 [3, H, W] in 0..1, of two sizes."""
    return noise() if request.param == "noise" else photos(request.getfixturevalue("real_data"))


@pytest.mark.slow
def test_raw_outputs_are_torchvisions(pair: tuple[Any, FCOS], pictures: list[Tensor]) -> None:
    reference, ours = pair
    reference.eval()
    ours.eval()
    with torch.inference_mode():
        images, _ = reference.transform(pictures)
        expected = reference.head(list(reference.backbone(images.tensors).values()))
        outputs = ours(images.tensors)
    sides = join_points(outputs.box_logits)
    joined = (join_points(outputs.class_logits), sides[..., :4].relu(), sides[..., 4:])
    for actual, want in zip(joined, expected.values(), strict=True):
        assert (actual - want).abs().max() <= 1e-4 * want.abs().max()


@pytest.mark.slow
def test_detections_are_torchvisions(pair: tuple[Any, FCOS], pictures: list[Tensor]) -> None:
    reference, ours = pair
    reference.eval()
    ours.eval()
    with torch.inference_mode():
        expected = reference(pictures)
        images, _ = reference.transform(pictures)
        detections = ours.decode(ours(images.tensors), sizes_of(pictures, images.image_sizes))
    assert_same_detections(detections, expected, at_least=30)


@pytest.mark.slow
def test_losses_and_gradients_are_torchvisions(pair: tuple[Any, FCOS], pictures: list[Tensor]) -> None:
    reference, ours = pair
    reference.train()
    ours.train()
    found = random_targets(pictures, 91)
    images, targets = reference.transform(pictures, [dict(x) for x in found])
    height, width = images.tensors.shape[-2:]
    batch = batch_of([objects_of(x) for x in targets], (height, width))
    expected = reference(pictures, found)
    losses = losses_of(ours, ours(images.tensors), batch)
    assert counts_of(ours, batch).item() > 20
    for loss, want in zip(losses.values(), expected.values(), strict=True):
        torch.testing.assert_close(loss, want, rtol=1e-5, atol=0)
    for model, values in ((reference, expected), (ours, losses)):
        model.zero_grad()
        torch.stack(list(values.values())).sum().backward()
    assert_same_gradients(ours, reference)

"""FCOS against hand-worked numbers, plain loops and torchvision's FCOS."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection import fcos_resnet50_fpn
from torchvision.ops import box_iou
from torchvision.transforms.functional import pil_to_tensor

from public.backbones.catalog import list_backbones
from public.datasets.batches import IGNORED, PADDING, DetectionBatch, ImageSizes
from public.detectors.catalog import build_detector
from public.detectors.detector import Detections
from public.detectors.fcos.decode import DecodeOptions, join_levels
from public.detectors.fcos.network import FCOS, TORCHVISION, FCOSOutputs, num_groups
from public.detectors.fcos.targets import CentreSampling, PointTargets, assign, centerness, size_ranges
from public.detectors.targets import flat_ignored, flat_objects
from public.geometry.points import map_sizes, point_grid
from public.weights.loading import load_weights

CPU = torch.device("cpu")
Objects = Sequence[tuple[Sequence[float], int]]
SMALL: dict[str, Any] = {"backbone": "mobilenet_v2", "channels": 32, "num_convs": 1, "levels": ("p3", "p4", "p5")}


def batch_of(images: Sequence[Objects], canvas_size: tuple[int, int] = (64, 64)) -> DetectionBatch:
    """A batch of noise with these objects; one filling row more than needed."""
    num_rows = max(len(objects) for objects in images) + 1
    boxes = torch.zeros(len(images), num_rows, 4)
    labels = torch.full((len(images), num_rows), PADDING)
    for i, objects in enumerate(images):
        for j, (box, label) in enumerate(objects):
            boxes[i, j], labels[i, j] = torch.tensor(box), label
    pixels = torch.randint(0, 256, (len(images), 3, *canvas_size), dtype=torch.uint8)
    sizes = torch.tensor(canvas_size).expand(len(images), 2)
    return DetectionBatch(pixels, boxes, labels, sizes, sizes, torch.arange(len(images)))


def targets_of(
    batch: DetectionBatch, strides: tuple[int, ...] = (8, 16, 32), centre_sampling: CentreSampling = "circle"
) -> PointTargets:
    grid = point_grid((batch.images.shape[2], batch.images.shape[3]), strides, CPU)
    objects, ignored = flat_objects(batch), flat_ignored(batch)
    return assign(grid, objects, ignored, batch_size=len(batch.images), centre_sampling=centre_sampling)


def outputs_of(batch: DetectionBatch, strides: tuple[int, ...], num_classes: int, scale: float = 0.0) -> FCOSOutputs:
    """Outputs with normally distributed values, or all zero."""
    canvas_size = (batch.images.shape[2], batch.images.shape[3])
    sizes = map_sizes(canvas_size, strides)
    logits, sides = (
        tuple((torch.randn(len(batch.images), k, *s) * scale).requires_grad_() for s in sizes) for k in (num_classes, 5)
    )
    return FCOSOutputs(logits, sides, canvas_size)


def images_of(batch: DetectionBatch) -> Tensor:
    return batch.images / 127.5 - 1


# ---- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("backbone", "params_m"), [("resnet50", 32.297), ("resnet101", 51.289)])
def test_parameters_of_2020(backbone: str, params_m: float) -> None:
    with torch.device("meta"):
        detector = build_detector("fcos", num_classes=80, backbone=backbone)
    assert round(sum(p.numel() for p in detector.parameters()) / 1e6, 3) == params_m
    assert detector.state_dict()["scales"].shape == (5,)


def test_keys_are_torchvisions() -> None:
    with torch.device("meta"):
        ours, referee = FCOS(91, **TORCHVISION), fcos_resnet50_fpn(weights=None, weights_backbone=None)
    shapes = {key: tensor.shape for key, tensor in referee.state_dict().items()}
    assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == shapes
    (of_classes,) = ours.class_prefixes
    assert {key for key in shapes if key.startswith(of_classes)} == {of_classes + "weight", of_classes + "bias"}


def test_initial_values() -> None:
    torch.manual_seed(0)
    detector = FCOS(4, backbone="resnet18", levels=("p3", "p4", "p5"))
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


@pytest.mark.parametrize("backbone", [name for name in list_backbones() if "cifar" not in name])
def test_every_backbone(backbone: str) -> None:
    torch.manual_seed(0)
    detector = FCOS(3, backbone=backbone, channels=32, num_convs=1)
    batch = batch_of([[((10, 10, 30, 26), 2)], []], (65, 40))
    outputs = detector(images_of(batch))
    assert [tuple(x.shape) for x in outputs.class_logits] == [
        (2, 3, *size) for size in map_sizes((65, 40), (8, 16, 32, 64, 128))
    ]
    assert all(x.shape[1] == 5 for x in outputs.box_logits)
    losses = detector.loss(outputs, batch)
    assert tuple(losses) == detector.loss_names
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())
    detections = detector.eval().decode(outputs, batch.sizes)
    assert detections.boxes.shape == (2, 100, 4)


def test_the_sweep_covers_the_catalogue() -> None:
    assert len([name for name in list_backbones() if "cifar" not in name]) >= 8


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("channels", 0, "channels=0"),
        ("num_convs", -1, "num_convs=-1"),
        ("focal_alpha", 1.5, "focal_alpha"),
        ("focal_gamma", -1.0, "focal_gamma"),
        ("distances", "sigmoid", "distances='sigmoid' must be one of exp, relu"),
        ("centre_sampling", "star", "centre_sampling"),
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
        FCOS(3, **{**SMALL, option: value})


# ---- targets --------------------------------------------------------------------------------------------------------


def test_targets_by_hand() -> None:
    """Points at 4, 12, 20, 28, ... The box's middle is (20, 18); 6 points lie inside and within 12 pixels of it."""
    targets = targets_of(batch_of([[((10, 10, 30, 26), 1)]]))
    first_level = targets.labels[0, :64].view(8, 8)
    assert torch.nonzero(first_level == 1).tolist() == [[y, x] for y in (1, 2) for x in (1, 2, 3)]
    assert (targets.labels == PADDING).sum() == 64 + 16 + 4 - 6
    assert targets.positives.tolist() == [9, 10, 11, 17, 18, 19]
    assert targets.boxes.tolist() == [[10, 10, 30, 26]] * 6


def test_centerness_by_hand() -> None:
    """In the middle 1; at (20, 20) of (10, 10, 30, 26): sqrt(10/10 * 6/10)."""
    sides = torch.tensor([[5.0, 3, 5, 3], [10, 10, 10, 6], [2, 2, 18, 14]])
    assert centerness(sides).tolist() == pytest.approx([1, math.sqrt(0.6), math.sqrt(2 / 18 * 2 / 14)])


def test_a_circle_leaves_out_the_corner_of_the_square() -> None:
    """From the middle (22, 22) the point (12, 12) is 14.1 pixels away, but 10 in each axis."""
    batch = batch_of([[((2, 2, 42, 42), 0)]])
    assert len(targets_of(batch, (8,)).positives) == 8
    assert len(targets_of(batch, (8,), "square").positives) == 9


def test_ranges() -> None:
    lower, upper = size_ranges(torch.tensor([8.0, 16, 32, 64, 128]))
    assert lower.tolist() == [0, 64, 128, 256, 512]
    assert upper.tolist() == [64, 128, 256, 512, math.inf]
    assert size_ranges(torch.tensor([8.0]))[1].tolist() == [math.inf]


def test_ignored_regions_spare_background_only() -> None:
    """Object inside a region: its points stay. A region of one image leaves the others alone."""
    batch = batch_of([[((0, 0, 64, 64), IGNORED), ((10, 10, 30, 26), 1)], [((0, 0, 20, 20), IGNORED)]])
    labels = targets_of(batch).labels
    assert (labels[0] == 1).sum() == 6
    assert (labels[0] == IGNORED).sum() == 84 - 6
    # 4 and 12 of the first level in each axis, 8 of the second, 16 of the third.
    assert (labels[1] == IGNORED).sum() == 4 + 1 + 1
    assert (labels[1] == PADDING).sum() == 84 - 6


def slow_targets(objects: Objects, canvas_size: tuple[int, int], strides: tuple[int, ...]) -> list[tuple[int, Any]]:
    """(label, box) of each point: one point, then one object at a time, in plain numbers."""
    limits = [0, *(8 * s for s in strides[:-1]), math.inf]
    found = []
    for level, (stride, (rows, columns)) in enumerate(zip(strides, map_sizes(canvas_size, strides), strict=True)):
        for cell in range(rows * columns):
            x, y = (cell % columns + 0.5) * stride, (cell // columns + 0.5) * stride
            best, smallest = (PADDING, None), math.inf
            for (x1, y1, x2, y2), label in objects:
                sides = (x - x1, y - y1, x2 - x, y2 - y)
                away = math.hypot(x - (x1 + x2) / 2, y - (y1 + y2) / 2)
                area = (x2 - x1) * (y2 - y1)
                on_level = limits[level] < max(sides) < limits[level + 1]
                if min(sides) > 0 and on_level and away < 1.5 * stride and area < smallest:
                    best, smallest = (label, [x1, y1, x2, y2]), area
            found.append(best)
    return found


@pytest.mark.parametrize("strides", [(8, 16, 32), (8, 16, 32, 64, 128), (16,)])
def test_targets_against_plain_loops(strides: tuple[int, ...]) -> None:
    """Boxes at quarters of pixels, of 1 pixel to the whole canvas, some equal, some of equal area."""
    generator = torch.Generator().manual_seed(1)
    canvas_size = (200, 300)
    images = []
    for count in (25, 0, 1, 40):
        middle = torch.rand(count, 2, generator=generator) * torch.tensor([300.0, 200.0])
        half = 150 ** torch.rand(count, 2, generator=generator) / 2
        corners = torch.cat([middle - half, middle + half], dim=1)
        corners = (corners.mul(4).round() / 4).clamp(min=0).minimum(torch.tensor([300.0, 200, 300, 200]))
        corners = corners[((corners[:, 2:] - corners[:, :2]) > 0.5).all(dim=1)]
        objects = [(tuple(box), i % 7) for i, box in enumerate(corners.tolist())]
        images.append([*objects, *((box, 6 - label) for box, label in objects[::5])])
    images[3].append(((0.0, 0.0, 300.0, 200.0), 3))
    targets = targets_of(batch_of(images, canvas_size), strides)
    expected = [slow_targets(objects, canvas_size, strides) for objects in images]
    assert targets.labels.tolist() == [[label for label, _ in points] for points in expected]
    boxes = [box for points in expected for _, box in points if box is not None]
    assert len(boxes) > 50
    assert targets.boxes.tolist() == boxes


# ---- losses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distances", ["exp", "relu"])
def test_losses_by_hand(distances: str) -> None:
    """All outputs zero: probabilities a half, sides of 1 pixel (exp) or none (ReLU) within a box of 20 x 16."""
    batch = batch_of([[((10, 10, 30, 26), 1)]])
    detector = FCOS(2, **SMALL, distances=distances)
    assert detector.normalisers(batch).tolist() == [6]
    losses = detector.loss(outputs_of(batch, (8, 16, 32), 2), batch)
    background, positive = 0.75 * 0.25 * math.log(2), 0.25 * 0.25 * math.log(2)
    assert losses["classification"].item() == pytest.approx((162 * background + 6 * positive) / 6)
    assert losses["centerness"].item() == pytest.approx(math.log(2))
    sides = [(x - 10, y - 10, 30 - x, 26 - y) for y in (12, 20) for x in (12, 20, 28)]
    centers = centerness(torch.tensor(sides, dtype=torch.float32)).sum().item()
    giou = 4 / 320 if distances == "exp" else 0
    assert losses["box"].item() == pytest.approx(2 * centers * (1 - giou) / 6)
    unweighted = FCOS(2, **SMALL, distances=distances, box_weight=1.0, centerness_weighted=False)
    assert unweighted.loss(outputs_of(batch, (8, 16, 32), 2), batch)["box"].item() == pytest.approx(1 - giou)


def test_parts_of_a_batch_add_up() -> None:
    """Each divided by the positives of the whole, which the parts' own counts add up to."""
    torch.manual_seed(0)
    images: list[Objects] = [[((10, 10, 30, 26), 1)], [], [((0, 0, 60, 60), 0), ((5, 5, 25, 25), 1)]]
    detector, whole = FCOS(2, **SMALL), batch_of(images)
    outputs = outputs_of(whole, (8, 16, 32), 2, scale=1.0)
    total = detector.loss(outputs, whole)
    sums = dict.fromkeys(total, torch.zeros(()))
    counts = torch.zeros(1)
    for i in range(3):
        part = DetectionBatch(*(x[i : i + 1] for x in whole))
        of_part = FCOSOutputs(
            tuple(x[i : i + 1] for x in outputs.class_logits),
            tuple(x[i : i + 1] for x in outputs.box_logits),
            (64, 64),
        )
        losses = detector.loss(of_part, part, detector.normalisers(whole))
        sums = {name: sums[name] + loss for name, loss in losses.items()}
        counts += detector.normalisers(part)
    assert torch.equal(counts, detector.normalisers(whole))
    for name, loss in total.items():
        torch.testing.assert_close(sums[name], loss)


HARD: dict[str, list[Objects]] = {
    "no objects": [[], []],
    "only ignored": [[((0, 0, 96, 96), IGNORED)], [((3, 3, 9, 9), IGNORED)]],
    "300 objects": [[((i % 20 * 4, i // 20 * 5, i % 20 * 4 + 14, i // 20 * 5 + 12), i % 3) for i in range(300)], []],
    "1 pixel": [[((20, 20, 21, 21), 0), ((11.5, 11.5, 12.5, 12.5), 1)], [((95, 95, 96, 96), 2)]],
    "whole canvas": [[((0, 0, 96, 96), 0)], [((0, 0, 96, 96), 1)]],
    "the same": [[((8, 8, 50, 50), 0), ((8, 8, 50, 50), 1)], [((8, 8, 50, 50), 0)] * 5],
}


@pytest.mark.parametrize("distances", ["exp", "relu"])
@pytest.mark.parametrize("case", HARD)
def test_hard_batches_are_finite(case: str, distances: str) -> None:
    """Losses and every gradient, in float32 and bf16."""
    torch.manual_seed(0)
    detector, batch = FCOS(3, **SMALL, distances=distances), batch_of(HARD[case], (96, 96))
    for dtype in (torch.float32, torch.bfloat16):
        detector.zero_grad()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            outputs = detector(images_of(batch))
        losses = detector.loss(outputs, batch)
        assert all(loss.isfinite() and loss >= 0 for loss in losses.values())
        torch.stack(list(losses.values())).sum().backward()
        gradients = {name: p.grad for name, p in detector.named_parameters()}
        assert not [name for name, grad in gradients.items() if grad is None or not grad.isfinite().all()]


def test_wild_outputs_are_finite() -> None:
    """An exponent far beyond what exp can take."""
    batch = batch_of([[((10, 10, 30, 26), 1)]])
    detector = FCOS(2, **SMALL)
    outputs = outputs_of(batch, (8, 16, 32), 2, scale=1e4)
    losses = detector.loss(outputs, batch)
    torch.stack(list(losses.values())).sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in (*outputs.class_logits, *outputs.box_logits))
    assert detector.decode(outputs, batch.sizes).boxes.isfinite().all()


# ---- detections -----------------------------------------------------------------------------------------------------


def slow_decode(
    outputs: FCOSOutputs, strides: tuple[int, ...], sizes: ImageSizes, options: DecodeOptions
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


@pytest.mark.parametrize("channels_last", [False, True])
def test_decode_against_plain_loops(channels_last: bool) -> None:
    torch.manual_seed(3)
    options = DecodeOptions(score_threshold=0.5, iou_threshold=0.3, top_k=25, max_detections=30)
    batch = batch_of([[], [], []], (64, 96))
    detector = FCOS(4, **SMALL, distances="relu", **options._asdict())
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
    batch = batch_of([[]])
    detector = FCOS(1, **SMALL, score_threshold=0.8)
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


def random_referee(seed: int) -> nn.Module:
    """torchvision's FCOS for canvases of 128 to 224 pixels, with heads that find something everywhere."""
    torch.manual_seed(seed)
    referee = fcos_resnet50_fpn(weights=None, weights_backbone=None, min_size=128, max_size=224)
    for name, parameter in referee.named_parameters():
        if "head" in name:
            spread = 0.5 if name.endswith("bias") else 0.05
            nn.init.normal_(parameter, mean=float("ctrness.bias" in name or ".conv.1." in name), std=spread)
    return referee


@pytest.fixture(scope="module", params=[0, 1])
def pair(request: pytest.FixtureRequest) -> tuple[nn.Module, FCOS]:
    """torchvision's, and ours with its state dict."""
    referee, ours = random_referee(request.param), FCOS(91, **TORCHVISION)
    report = load_weights(ours, referee.state_dict())
    assert not report.missing
    assert not report.unexpected
    return referee, ours


@pytest.fixture(params=["noise", "photos"])
def pictures(request: pytest.FixtureRequest) -> list[Tensor]:
    """float32 [3, H, W] in 0..1, of two sizes."""
    if request.param == "noise":
        generator = torch.Generator().manual_seed(0)
        small = [torch.rand(3, *size, generator=generator) for size in ((15, 20), (22, 16))]
        return [nn.functional.interpolate(x[None], scale_factor=12, mode="bilinear")[0] for x in small]
    folder: Path = request.getfixturevalue("real_data") / "coco_mini/images/val2017"
    if not folder.is_dir():
        pytest.skip(f"no photos at {folder}")
    return [pil_to_tensor(Image.open(path).convert("RGB")) / 255 for path in sorted(folder.iterdir())[:2]]


def test_raw_outputs_are_torchvisions(pair: tuple[Any, FCOS], pictures: list[Tensor]) -> None:
    referee, ours = (model.eval() for model in pair)
    with torch.inference_mode():
        images, _ = referee.transform(pictures)
        expected = referee.head(list(referee.backbone(images.tensors).values()))
        outputs = ours(images.tensors)
    sides = join_levels(outputs.box_logits)
    joined = (join_levels(outputs.class_logits), sides[..., :4].relu(), sides[..., 4:])
    for actual, wanted in zip(joined, expected.values(), strict=True):
        assert (actual - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def test_detections_are_torchvisions(pair: tuple[Any, FCOS], pictures: list[Tensor]) -> None:
    referee, ours = (model.eval() for model in pair)
    with torch.inference_mode():
        expected = referee(pictures)
        images, _ = referee.transform(pictures)
        original = torch.tensor([picture.shape[1:] for picture in pictures])
        sizes = ImageSizes(torch.tensor(images.image_sizes), original)
        detections: Detections = ours.decode(ours(images.tensors), sizes)
    for image, wanted in enumerate(expected):
        count = len(wanted["scores"])
        assert count > 30
        assert (detections.labels[image] == PADDING).sum() == 100 - count
        boxes, scores, labels = (x[image, :count] for x in detections)
        torch.testing.assert_close(scores, wanted["scores"], atol=1e-5, rtol=0)
        # Of equal scores, which the padding around the picture gives, either may come first.
        same = (labels[:, None] == wanted["labels"]) & ((scores[:, None] - wanted["scores"]).abs() < 1e-5)
        same &= (boxes[:, None] - wanted["boxes"]).abs().amax(dim=2) < 0.01  # [ours, theirs]
        assert same.any(dim=0).all()
        assert same.any(dim=1).all()


def test_losses_and_gradients_are_torchvisions(pair: tuple[Any, FCOS], pictures: list[Tensor]) -> None:
    referee, ours = (model.train() for model in pair)
    generator = torch.Generator().manual_seed(0)
    found = []
    for picture in pictures:
        height, width = picture.shape[1:]
        corners = torch.rand(12, 2, 2, generator=generator).sort(dim=1).values * torch.tensor([width, height])
        boxes = corners.flatten(1)[((corners[:, 1] - corners[:, 0]) > 8).all(dim=1)]
        boxes = torch.cat([boxes, torch.tensor([[0.0, 0, width, height]])])
        found.append({"boxes": boxes, "labels": torch.arange(len(boxes))})
    images, targets = referee.transform(pictures, [dict(x) for x in found])
    objects = [list(zip(x["boxes"].tolist(), x["labels"].tolist(), strict=True)) for x in targets]
    batch = batch_of(objects, images.tensors.shape[-2:])
    expected = referee(pictures, found)
    losses = ours.loss(ours(images.tensors), batch)
    assert ours.normalisers(batch).item() > 20
    for loss, wanted in zip(losses.values(), expected.values(), strict=True):
        torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=0)
    for model, values in ((referee, expected), (ours, losses)):
        model.zero_grad()
        torch.stack(list(values.values())).sum().backward()
    theirs = {name: p.grad for name, p in referee.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert (parameter.grad - theirs[name]).norm() <= 1e-3 * theirs[name].norm() + 1e-7, name

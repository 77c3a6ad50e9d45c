"""CenterNet against hand-worked numbers and against targets and decoding in plain loops."""

import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from public.datasets.batches import DetectionBatch, ImageSizes
from public.detectors.catalog import build_detector
from public.detectors.centernet import targets
from public.detectors.centernet.decode import decode, find_peaks
from public.detectors.centernet.network import CenterNet, CenterNetOutputs, bilinear_
from public.detectors.centernet.options import CenterNetOptions
from public.detectors.detector import Detections
from public.detectors.targets import flat_objects
from public.geometry.fixed_shapes import fixed_shapes
from public.geometry.labels import IGNORED, PADDING
from public.layers.deform_conv import DeformConv
from public.weights.loading import load_weights
from tests.detectors.reference import (
    HARD,
    ONE_A_FAMILY,
    Objects,
    batch_of,
    counts_of,
    images_of,
    level_strides,
    losses_of,
)

CANVAS = (64, 64)
SMALL: dict[str, Any] = {"backbone": "mobilenet_v2", "upsample_channels": (32, 24, 16), "head_channels": 8}


def random_objects(number: int, canvas_size: tuple[int, int], num_classes: int, largest: float) -> Objects:
    """Boxes within the canvas with any sides up to `largest`."""
    limits = torch.tensor([canvas_size[1], canvas_size[0]])
    sides = (torch.rand(number, 2) * largest).clamp(min=0.5).minimum(limits)
    corners = torch.rand(number, 2) * (limits - sides)
    boxes = torch.cat([corners, corners + sides], dim=1)
    return list(zip(boxes.tolist(), torch.randint(num_classes, (number,)).tolist(), strict=True))


def heatmap_of(batch: DetectionBatch, num_classes: int, map_size: tuple[int, int]) -> Tensor:
    centers = targets.find_centers(flat_objects(batch), 4, map_size)
    return targets.draw_heatmap(centers, (len(batch.images), num_classes, *map_size))


def test_no_cell_is_written_to_more_often_than_others() -> None:
    """Where shapes are fixed most of what is written lies off the map: it is spread over it, and changes nothing."""
    torch.manual_seed(0)
    batch = batch_of([random_objects(20, (256, 256), 3, 100), random_objects(3, (256, 256), 3, 200)], (256, 256))
    shape = (2, 3, 64, 64)
    with fixed_shapes():
        centers = targets.find_centers(flat_objects(batch), 4, shape[2:])
        cells, values = targets._squares(centers, targets.gaussian_radii(centers.sizes), shape)
        heatmap = heatmap_of(batch, 3, shape[2:])
    assert torch.equal(heatmap, heatmap_of(batch, 3, shape[2:]))
    assert (values == 0).float().mean() > 0.5
    assert cells.bincount().max() <= 1 + len(cells) // heatmap.numel() + len(centers.rows)


# ---- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "params_m", "macs_g"), [("resnet18", 14.437349, 13.3), ("resnet101", 49.673189, 45.6)]
)
def test_parameters_and_macs_of_2020(backbone: str, params_m: float, macs_g: float) -> None:
    """14.437 M and 49.67 M in its table, and the deformable convolutions counted with those of their offsets."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        detector = build_detector("centernet", num_classes=80, backbone=backbone)
        assert detector(torch.zeros(1, 3, 512, 512)).heatmap.shape == (1, 80, 128, 128)
    assert sum(p.numel() for p in detector.parameters()) == round(params_m * 1e6)
    assert round(counter.get_total_flops() / 2e9, 1) == macs_g


@pytest.mark.slow
def test_initial_values() -> None:
    """Probabilities of 1/(1 + e^2.19) = 0.1006 everywhere, hardly any offsets and sizes."""
    torch.manual_seed(0)
    detector = CenterNet(4, CenterNetOptions())
    heads: list[Any] = [detector.heatmap_head, detector.offset_head, detector.wh_head]
    assert heads[0][2].bias.sigmoid().tolist() == pytest.approx([0.1006] * 4, abs=1e-4)
    assert not any(head[i].bias.any() for head in heads[1:] for i in (0, 2))
    assert heads[2][0].weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert [type(layer) for layer in detector.upsample[::6]] == [DeformConv] * 3
    assert len(detector.upsample) == 18


def test_the_enlargement_starts_bilinear() -> None:
    """torch's interpolation, away from the border, where zeros are read instead of the border's own."""
    layer = nn.ConvTranspose2d(3, 3, 4, stride=2, padding=1, bias=False)
    bilinear_(layer)
    x = torch.randn(2, 3, 5, 6)
    expected = functional.interpolate(x, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(layer(x)[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [*ONE_A_FAMILY, "resnet18cifar"])
def test_one_backbone_of_every_family(backbone: str) -> None:
    """On a canvas of no multiple of 32 the map is 2, 4 or 8 times the deepest one, whose sides are rounded up."""
    torch.manual_seed(0)
    level = "c3" if "cifar" in backbone else "c5"
    stride = level_strides(backbone)[level]
    channels = {8: (16,), 16: (24, 16), 32: (32, 24, 16)}[stride]
    detector = CenterNet(
        3, CenterNetOptions(backbone=backbone, level=level, head_channels=8, upsample_channels=channels)
    )
    batch = batch_of([[((10, 10, 30, 26), 2)], []], (65, 40))
    outputs = detector(images_of(batch))
    map_size = {8: (18, 10), 16: (20, 12), 32: (24, 16)}[stride]
    assert detector.stride == 4
    assert outputs.heatmap.shape == (2, 3, *map_size)
    assert outputs.offsets.shape == outputs.sizes.shape == (2, 2, *map_size)
    assert outputs.canvas_size == (65, 40)
    losses = losses_of(detector, outputs, batch)
    assert tuple(losses) == detector.loss_names
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())
    detections = detector.eval().decode(outputs, batch.sizes)
    assert detections.boxes.shape == (2, 100, 4)


@pytest.mark.slow
def test_stages_and_norms_freeze_in_the_backbone_only() -> None:
    detector = CenterNet(3, CenterNetOptions(frozen_stages=2, frozen_batch_norm=True))
    fixed = {name for name, p in detector.named_parameters() if not p.requires_grad}
    assert all(name.startswith("backbone.body.") for name in fixed)
    assert {"backbone.body.conv1.weight", "backbone.body.layer1.0.conv1.weight"} < fixed
    assert "backbone.body.layer2.0.conv1.weight" not in fixed
    assert "backbone.body.layer4.1.bn2.weight" in fixed
    detector.train()
    assert {m.training for m in detector.body.modules() if isinstance(m, nn.BatchNorm2d)} == {False}
    assert {m.training for m in detector.upsample.modules() if isinstance(m, nn.BatchNorm2d)} == {True}


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("head_channels", 0, "head_channels=0 must be 1 or more"),
        ("upsample_channels", (64, 0), r"upsample_channels=\(64, 0\) must each be 1 or more"),
        ("upsample_channels", (8,) * 6, "halves the stride 32 of c5 6 times; it must stay 1 or more"),
        ("regression_loss", "giou", "regression_loss='giou' must be one of smooth_l1, l1"),
        ("level", "p5", "give one or more of its levels"),
        ("frozen_stages", 6, "frozen_stages=6"),
        ("score_threshold", 1.0, r"score_threshold=1.0 must lie within \[0, 1\)"),
        ("iou_threshold", 1.5, "iou_threshold=1.5"),
        ("max_detections", 0, "max_detections=0"),
        ("num_convs", 4, "centernet has no option 'num_convs'"),
    ],
)
def test_bad_options(option: str, value: object, message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_detector("centernet", 3, **{option: value})


# ---- targets --------------------------------------------------------------------------------------------------------


def radius_in_full(width: float, height: float) -> int:
    """The least of the three roots, none divided by its leading coefficient."""
    w, h = math.ceil(width), math.ceil(height)
    roots = []
    for a, b, c in (
        (1, h + w, w * h * (1 - 0.7) / (1 + 0.7)),
        (4, 2 * (h + w), (1 - 0.7) * w * h),
        (4 * 0.7, -2 * 0.7 * (h + w), (0.7 - 1) * w * h),
    ):
        roots.append((b + math.sqrt(b * b - 4 * a * c)) / 2)
    return max(0, int(min(roots)))


def slow_heatmap(objects: Objects, num_classes: int, map_size: tuple[int, int]) -> Tensor:
    """Object by object, cell by cell."""
    heatmap = torch.zeros(num_classes, *map_size)
    for (x1, y1, x2, y2), label in objects:
        radius = radius_in_full((x2 - x1) / 4, (y2 - y1) / 4)
        sigma = (2 * radius + 1) / 6
        row, column = int((y1 + y2) / 8), int((x1 + x2) / 8)
        for y in range(max(0, row - radius), min(map_size[0], row + radius + 1)):
            for x in range(max(0, column - radius), min(map_size[1], column + radius + 1)):
                value = math.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * sigma * sigma))
                heatmap[label, y, x] = max(float(heatmap[label, y, x]), value)
    return heatmap


def test_radii_are_the_least_of_three_roots() -> None:
    """10 x 10 cells by hand: b = -28, (-28 + sqrt(784 + 336)) / 2 = 2.7, so 2."""
    assert targets.gaussian_radii(torch.tensor([[10.0, 10.0], [0.1, 0.1], [128, 128]])).tolist() == [2, 0, 34]
    torch.manual_seed(0)
    sizes = torch.rand(500, 2) ** 2 * 300
    assert targets.gaussian_radii(sizes).tolist() == [radius_in_full(*size) for size in sizes.tolist()]


@pytest.mark.parametrize("at_a_time", [2**22, 50])
def test_heatmaps_equal_loops(at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many overlapping objects of three classes, none on the second image; at once and a few at a time."""
    monkeypatch.setattr(targets, "_MAX_CELLS", at_a_time)
    torch.manual_seed(0)
    images = [random_objects(n, (96, 120), 3, 100) for n in (40, 0, 7)]
    heatmap = heatmap_of(batch_of(images, (96, 120)), 3, (24, 30))
    torch.testing.assert_close(heatmap, torch.stack([slow_heatmap(objects, 3, (24, 30)) for objects in images]))
    assert int((heatmap == 1).sum()) > 40


def test_centers_by_hand() -> None:
    """A box from (10, 20) to (32, 50): center (21, 35), so cell (5, 8) and a quarter, three quarters of a cell."""
    centers = targets.find_centers(flat_objects(batch_of([[], [((10, 20, 32, 50), 2)]], CANVAS)), 4, (16, 16))
    assert [x.tolist() for x in centers] == [[1], [2], [8], [5], [[0.25, 0.75]], [[5.5, 7.5]]]
    on_the_edge = targets.find_centers(flat_objects(batch_of([[((64, 64, 64, 64), 0)]], CANVAS)), 4, (16, 16))
    assert (on_the_edge.rows.tolist(), on_the_edge.columns.tolist()) == ([15], [15])


def test_one_cell_is_one_peak_of_a_class() -> None:
    """Two of class 0 in one cell, one of class 1 there, one on another image: 3 peaks of 4 objects."""
    batch = batch_of([[((8, 8, 16, 16), 0), ((4, 4, 22, 22), 0), ((8, 8, 16, 16), 1)], [((8, 8, 16, 16), 0)]], CANVAS)
    assert counts_of(CenterNet(2, CenterNetOptions(**SMALL)), batch).tolist() == [3, 4]
    assert int((heatmap_of(batch, 2, (16, 16)) == 1).sum()) == 3


def test_ignored_regions_by_hand() -> None:
    """Middles at 2, 6, 10, 14: from 5 to 14 lie 6 and 10 across, from 0 to 7 lie 2 and 6 down; the peak stays."""
    heatmap = torch.zeros(2, 2, 4, 4)
    heatmap[0, 1, 1, 2] = 1
    boxes = torch.tensor([[[5.0, 0, 14, 7], [0, 0, 16, 16]], [[0, 0, 16, 16], [0, 0, 16, 16]]])
    targets.mask_ignored(heatmap, boxes, torch.tensor([[IGNORED, PADDING], [0, PADDING]]), 4)
    expected = torch.zeros(4, 4)
    expected[:2, 1:3] = IGNORED
    assert torch.equal(heatmap[0, 0], expected)
    expected[1, 2] = 1
    assert torch.equal(heatmap[0, 1], expected)
    assert not heatmap[1].any()


# ---- losses ---------------------------------------------------------------------------------------------------------


def outputs_for(batch: DetectionBatch, num_classes: int) -> CenterNetOutputs:
    """Normally distributed, on a map of stride 4."""
    canvas_size = (batch.images.shape[2], batch.images.shape[3])
    height, width = (-(-side // 32) * 8 for side in canvas_size)
    made = (torch.randn(len(batch.images), k, height, width, requires_grad=True) for k in (num_classes, 2, 2))
    return CenterNetOutputs(next(made), next(made), next(made), canvas_size)


def test_losses_by_hand() -> None:
    """A peak at (5, 8) with offset (.25, .75) and size (5.5, 7.5); all outputs 0, all probabilities 1/2.

    Offset: .25 - 1/18 + .75 - 1/18 = 8/9. Size: .1 (5.5 + 7.5 - 1/9). The radius is (-19.6 + sqrt(19.6^2 + 3.36 * 48))
    / 2 = 1.8, so 1, and sigma 1/2: e^-2 at 4 neighbors, e^-4 at 4 more, 0 in the other 2 * 256 - 9 cells.
    """
    detector = CenterNet(2, CenterNetOptions(**SMALL))
    zeros = torch.zeros(1, 2, 16, 16)
    outputs = CenterNetOutputs(zeros, zeros, zeros, (64, 64))
    batch = batch_of([[((10, 20, 32, 50), 1)]], CANVAS)
    losses = losses_of(detector, outputs, batch)
    slopes = 4 * (1 - math.exp(-2)) ** 4 + 4 * (1 - math.exp(-4)) ** 4
    assert losses["heatmap"].item() == pytest.approx((1 + slopes + 512 - 9) * math.log(2) / 4)
    assert losses["offset"].item() == pytest.approx(8 / 9)
    assert losses["size"].item() == pytest.approx(0.1 * (13 - 1 / 9))
    halves = losses_of(detector, outputs, batch, torch.tensor([2.0, 4.0]))
    assert [float(losses[name] / halves[name]) for name in losses] == pytest.approx([2, 4, 4])
    authors = CenterNet(2, CenterNetOptions(**SMALL, regression_loss="l1"))  # .5 (.25 + .75), and .1 of .5 (5.5 + 7.5)
    of_authors = losses_of(authors, outputs, batch)
    assert [of_authors[name].item() for name in ("offset", "size")] == pytest.approx([0.5, 0.65])
    assert of_authors["heatmap"] == losses["heatmap"]


def test_parts_of_a_batch_add_up() -> None:
    """Divided by the whole's counts, which are the parts' sums; and so do the gradients."""
    torch.manual_seed(0)
    detector = CenterNet(3, CenterNetOptions(**SMALL))
    batch = batch_of([random_objects(n, (64, 64), 3, 60) for n in (5, 0, 9)], CANVAS)
    outputs = outputs_for(batch, 3)
    whole = losses_of(detector, outputs, batch)
    expected = torch.autograd.grad(torch.stack(list(whole.values())).sum(), outputs[:3])
    parts = [DetectionBatch(*(x[rows] for x in batch)) for rows in (slice(0, 1), slice(1, 2), slice(2, 3))]
    counts = torch.stack([counts_of(detector, part) for part in parts]).sum(0)
    assert torch.equal(counts, counts_of(detector, batch))
    total = torch.zeros(3)
    for i, part in enumerate(parts):
        heatmap, offsets, box_sizes = (x[i : i + 1] for x in outputs[:3])
        of_part = CenterNetOutputs(heatmap, offsets, box_sizes, outputs.canvas_size)
        total = total + torch.stack(list(losses_of(detector, of_part, part, counts).values()))
    torch.testing.assert_close(total, torch.stack(list(whole.values())))
    torch.testing.assert_close(torch.autograd.grad(total.sum(), outputs[:3]), expected)


@pytest.mark.slow
@pytest.mark.parametrize("deformable", [True, False])
@pytest.mark.parametrize("case", HARD)
def test_hard_batches_are_finite(case: str, deformable: bool) -> None:
    """Through the network in bf16: losses, and the gradient of every parameter."""
    torch.manual_seed(0)
    detector = CenterNet(3, CenterNetOptions(deformable=deformable, **SMALL))
    batch = batch_of(HARD[case], (96, 96))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = detector(images_of(batch))
    assert outputs.heatmap.dtype == torch.bfloat16
    losses = losses_of(detector, outputs, batch)
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["heatmap"] > 0
    torch.stack(list(losses.values())).sum().backward()
    assert not [n for n, p in detector.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


# ---- decoding -------------------------------------------------------------------------------------------------------


def slow_decode(outputs: CenterNetOutputs, sizes: ImageSizes, threshold: float, limit: int) -> list[list[list[float]]]:
    """Cell by cell: rows of x1 y1 x2 y2 score label in the original image, best first."""
    found = []
    probabilities = outputs.heatmap.sigmoid()
    num_images, num_classes, height, width = probabilities.shape
    for i in range(num_images):
        content_h, content_w = sizes.content[i].tolist()
        rows, columns = min(height, math.ceil(content_h / 4)), min(width, math.ceil(content_w / 4))
        of_image = []
        for label, y, x in ((c, y, x) for c in range(num_classes) for y in range(rows) for x in range(columns)):
            score = float(probabilities[i, label, y, x])
            around = probabilities[i, label, max(0, y - 1) : min(rows, y + 2), max(0, x - 1) : min(columns, x + 2)]
            if score > threshold and score == float(around.max()):
                of_image.append((score, label, y, x))
        boxes = []
        for score, label, y, x in sorted(of_image, reverse=True)[:limit]:
            cx, cy = x + float(outputs.offsets[i, 0, y, x]), y + float(outputs.offsets[i, 1, y, x])
            w, h = float(outputs.sizes[i, 0, y, x]), float(outputs.sizes[i, 1, y, x])
            x1, x2 = (min(max(4 * (cx + s * w / 2), 0), content_w) for s in (-1, 1))
            y1, y2 = (min(max(4 * (cy + s * h / 2), 0), content_h) for s in (-1, 1))
            if x2 > x1 and y2 > y1:
                ratio_h, ratio_w = (sizes.original[i] / sizes.content[i]).tolist()
                boxes.append([x1 * ratio_w, y1 * ratio_h, x2 * ratio_w, y2 * ratio_h, score, label])
        found.append(boxes)
    return found


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("threshold", [0.05, 0.4, 0.0])
def test_decode_equals_loops(threshold: float, layout: torch.memory_format) -> None:
    """On a canvas of 70 x 50, whose map reaches beyond it, with pictures that fill parts of it."""
    torch.manual_seed(0)
    batch = batch_of([[], [], []], (70, 50))
    heatmap, offsets, box_sizes = (x.detach() for x in outputs_for(batch, 4)[:3])
    outputs = CenterNetOutputs(heatmap.to(memory_format=layout), offsets, box_sizes * 8, (70, 50))
    sizes = ImageSizes(torch.tensor([[70, 50], [33, 50], [70, 18]]), torch.tensor([[140, 100], [66, 99], [35, 9]]))
    detector = CenterNet(4, CenterNetOptions(score_threshold=threshold, max_detections=30, **SMALL))
    detections = detector.decode(outputs, sizes)
    expected = slow_decode(outputs, sizes, threshold, 30)
    for i, rows in enumerate(expected):
        n = len(rows)
        got = torch.cat([detections.boxes[i], detections.scores[i, :, None], detections.labels[i, :, None]], dim=1)
        torch.testing.assert_close(got[:n], torch.tensor(rows), rtol=1e-5, atol=1e-4)
        assert n >= 8
        assert (detections.labels[i, n:] == PADDING).all()
        assert not detections.scores[i, n:].any()


def test_what_was_drawn_is_found() -> None:
    """Targets as outputs give back every box to a hundredth of a pixel."""
    torch.manual_seed(0)
    objects = [((x, y, x + 21.3, y + 9.7), (x + y) % 3) for x in range(2, 90, 30) for y in range(3, 120, 25)]
    batch = batch_of([objects, []], (128, 112))
    centers = targets.find_centers(flat_objects(batch), 4, (32, 32))
    offsets, sizes = torch.zeros(2, 2, 32, 32), torch.zeros(2, 2, 32, 32)
    place = (centers.images, slice(None), centers.rows, centers.columns)
    offsets[place], sizes[place] = centers.offsets, centers.sizes
    heatmap = heatmap_of(batch, 3, (32, 32)).clamp(1e-6, 1 - 1e-6).logit()
    found = decode(heatmap, offsets, sizes, 4, batch.sizes, CenterNetOptions())
    assert ((found.labels >= 0).sum(1)).tolist() == [len(objects), 0]
    in_order = sorted(zip(found.boxes[0].tolist(), found.labels[0].tolist(), strict=True))[-len(objects) :]
    torch.testing.assert_close(
        torch.tensor([box for box, _ in in_order]),
        torch.tensor([box for box, _ in sorted(objects)]),
        rtol=0,
        atol=0.01,
    )
    assert [label for _, label in in_order] == [label for _, label in sorted(objects)]


def peaks(rows: list[list[float]]) -> list[tuple[int, int]]:
    """Where one class on one image has its peaks, everything on the image."""
    heatmap = torch.tensor(rows)[None, None].bfloat16()
    size = torch.tensor([[4 * len(rows), 4 * len(rows[0])]])
    found = []
    for context in (nullcontext(), fixed_shapes()):
        with context:
            _, labels, cells = find_peaks(heatmap, 4, ImageSizes(size, size), CenterNetOptions(score_threshold=0.5))
        found.append([divmod(cell, heatmap.shape[3]) for cell in cells[labels != PADDING].tolist()])
    assert found[0] == found[1]
    return found[0]


def test_of_equal_neighbors_one_is_the_peak() -> None:
    """A plateau has one, wherever it is; what is not a number has none; nothing reaches around the border."""
    assert peaks([[2.0, 2, 2], [2, 2, 2], [2, 2, 2]]) == [(0, 0)]
    assert peaks([[1.0, 2, 2], [2, 1, 1], [1, 1, 1]]) == [(0, 1)]
    assert peaks([[9.0, 1, 1, 9], [1, 1, 1, 1], [9, 1, 1, 9]]) == [(0, 0), (0, 3), (2, 0), (2, 3)]
    assert peaks([[math.nan, 1, 1, 3]]) == []
    assert peaks([[-1.0, -2, -3]]) == []


def test_suppression_when_asked() -> None:
    """Two boxes of one class that overlap by 3/5, and one of another class: with a threshold of 0.5 two stay."""
    heatmap = torch.full((1, 2, 8, 8), -9.0)
    heatmap[0, 0, 4, 3], heatmap[0, 0, 4, 5], heatmap[0, 1, 4, 3] = 2, 1, 0
    offsets, box_sizes = torch.zeros(1, 2, 8, 8), torch.full((1, 2, 8, 8), 5.0)
    box_sizes[:, 0] = 8
    size = torch.full((1, 2), 320)

    def run(iou_threshold: float | None) -> Detections:
        moved, options = (
            offsets + 30,
            CenterNetOptions(iou_threshold=iou_threshold, max_detections=10),
        )  # off the border
        return decode(heatmap, moved, box_sizes, 4, ImageSizes(size, size), options)

    assert run(None).labels[0, :4].tolist() == [0, 0, 1, PADDING]
    assert run(0.7).labels[0, :4].tolist() == [0, 0, 1, PADDING]
    assert run(0.5).labels[0, :4].tolist() == [0, 1, PADDING, PADDING]


@pytest.mark.slow
def test_classification_weights_fit_the_body() -> None:
    torch.manual_seed(0)
    from_run = build_detector("centernet", 7, **SMALL).body.state_dict()
    detector = CenterNet(3, CenterNetOptions(**SMALL))
    assert not load_weights(detector.body, from_run, allow_unexpected=detector.body.unused_prefixes).missing
    assert torch.equal(detector.state_dict()["backbone.body.features.0.0.weight"], from_run["features.0.0.weight"])

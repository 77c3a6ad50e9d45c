"""Faster R-CNN against hand-worked numbers, plain loops and torchvision's Faster R-CNN."""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import MultiScaleRoIAlign, box_iou

from public.backbones.catalog import build_backbone, list_backbones
from public.datasets.batches import DetectionBatch, ImageSizes
from public.detectors.catalog import build_detector
from public.detectors.faster_rcnn.network import FasterRCNN, FasterRCNNOutputs
from public.detectors.faster_rcnn.options import FasterRCNNOptions
from public.detectors.faster_rcnn.proposals import Proposals, RegionProposals
from public.detectors.faster_rcnn.regions import RegionHead, Regions, Stage, match_regions, region_levels
from public.detectors.faster_rcnn.sampling import balanced_sample, draws
from public.geometry.fixed_shapes import fixed_shapes
from public.geometry.labels import BACKGROUND, IGNORED, PADDING
from public.geometry.points import map_sizes
from public.runtime.device import num_parameters
from public.runtime.seeding import _splitmix64
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
    photos,
    random_targets,
    sizes_of,
)

STRIDES = (4, 8, 16, 32, 64)
SMALL: dict[str, Any] = {"backbone": "mobilenet_v2", "channels": 16, "head_channels": 32, "pool_size": 3}


def two_images() -> DetectionBatch:
    """Three objects and none."""
    objects: Objects = [((10, 10, 50, 46), 1), ((0, 0, 60, 60), 0), ((5, 5, 25, 25), 2)]
    return batch_of([objects, []], (64, 64))


def part(batch: Any, i: int) -> Any:
    """One image of a batch or of outputs."""
    if isinstance(batch, DetectionBatch):
        return DetectionBatch(*(x[i : i + 1] for x in batch))
    maps, objectness, deltas = (tuple(x[i : i + 1] for x in maps) for maps in batch[:3])
    return FasterRCNNOutputs(maps, objectness, deltas, batch.canvas_size)


# ---- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_keys_are_torchvisions() -> None:
    with torch.device("meta"):
        ours, reference = (
            FasterRCNN(90, FasterRCNNOptions.torchvision()),
            fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None),
        )
    shapes = {key: tensor.shape for key, tensor in reference.state_dict().items()}
    assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == shapes
    of_classes = {key for key in shapes if key.startswith(ours.class_prefixes)}
    assert of_classes == {
        f"roi_heads.box_predictor.{name}.{kind}" for name in ("cls_score", "bbox_pred") for kind in ("weight", "bias")
    }


@pytest.mark.slow
def test_parameters_by_hand() -> None:
    """torchvision states 41,755,286, without those of the batch norms, which are frozen."""
    with torch.device("meta"):
        detector = FasterRCNN(90, FasterRCNNOptions(frozen_batch_norm=True))
        agnostic = FasterRCNN(20, FasterRCNNOptions(class_agnostic=True, pool_size=14))
    assert num_parameters(detector) == 41_755_286
    heads = agnostic.roi_heads.state_dict()
    # 256 x 14 x 14 x 1024 + 1024 and 1024 x 1024 + 1024, 1024 x 21 + 21 and 1024 x 4 + 4: those of DetNet_Pytorch.
    assert sum(x.numel() for key, x in heads.items() if key.startswith("box_head")) == 52_430_848
    assert sum(x.numel() for key, x in heads.items() if "cls_score" in key) == 21_525
    assert sum(x.numel() for key, x in heads.items() if "bbox_pred" in key) == 4_100


@pytest.mark.slow
def test_multiply_adds_by_hand() -> None:
    """1000 proposals through 256 x 7 x 7 -> 1024 -> 1024 -> 91 classes and 91 boxes; three heads, three times as many.

    With those of `forward`, 120.6 G at 800 x 800, they make torchvision's 134.4 G.
    """
    hidden = 256 * 49 * 1024 + 1024 * 1024
    with torch.device("meta"):
        detector, cascade = (
            FasterRCNN(90, FasterRCNNOptions()),
            build_detector("cascade_rcnn", 20, num_proposals=(2000, 300)),
        )
    assert detector.decode_macs == 1000 * (hidden + 1024 * 91 * 5) == 14_359_552_000
    assert cascade.decode_macs == 300 * 3 * (hidden + 1024 * (21 + 4))
    assert build_detector("fcos", 2, backbone="mobilenet_v2").decode_macs == 0


@pytest.mark.slow
def test_initial_values() -> None:
    torch.manual_seed(0)
    detector = FasterRCNN(4, FasterRCNNOptions(backbone="resnet18", channels=64))
    head: Any = detector.rpn.head
    for layer in (head.conv[0][0], head.cls_logits, head.bbox_pred):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert not layer.bias.any()
    predictor: Any = detector.roi_heads.box_predictor
    assert predictor["cls_score"].weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert predictor["bbox_pred"].weight.std().item() == pytest.approx(0.001, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "pyramid"),
    [(name, "detnet") for name in ONE_A_FAMILY] + [(name, "standard") for name in ONE_A_FAMILY[:3]],
)
def test_one_backbone_of_every_family(backbone: str, pyramid: Any) -> None:
    with torch.device("meta"):
        detector = FasterRCNN(3, FasterRCNNOptions(**{**SMALL, "backbone": backbone}, pyramid=pyramid)).eval()
        outputs = detector(torch.zeros(2, 3, 65, 40))
        strides = (4, 8, 16, 16, 16) if "c6" in build_backbone(backbone).levels else STRIDES
    cells = map_sizes((65, 40), strides)
    assert [tuple(x.shape) for x in outputs.maps] == [(2, 16, *size) for size in cells]
    assert [tuple(x.shape) for x in outputs.objectness] == [(2, *size, 3) for size in cells]
    assert [tuple(x.shape) for x in outputs.box_deltas] == [(2, *size, 3, 4) for size in cells]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"pyramid": "detnet"}, {"levels": ("p3", "p4", "p5")}, {"class_agnostic": True}]
)
def test_variants_learn_and_detect(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    detector, batch = (
        FasterRCNN(3, FasterRCNNOptions(**SMALL, **options)),
        batch_of([[((10, 10, 30, 26), 2)], []], (65, 40)),
    )
    outputs = detector(images_of(batch))
    losses = losses_of(detector, outputs, batch)
    assert tuple(losses) == detector.loss_names
    assert all(loss.isfinite() and loss > 0 and loss.dtype == torch.float32 for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert not [name for name, p in detector.named_parameters() if p.grad is None]
    assert detector.eval().decode(outputs, batch.sizes).boxes.shape == (2, 100, 4)


@pytest.mark.parametrize("backbone", [name for name in list_backbones() if "cifar" in name])
def test_backbones_without_the_levels_are_refused(backbone: str) -> None:
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match=r"levels=\['c2', 'c3', 'c4', 'c5'\] .* c0, c1, c2, c3\."),
    ):
        FasterRCNN(3, FasterRCNNOptions(backbone=backbone))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("batch_norm_eps", -1e-5, "batch_norm_eps=-1e-05 must be 0 or more"),
        ("channels", 0, "channels=0"),
        ("head_channels", 0, "head_channels=0"),
        ("pyramid", "nas", "pyramid='nas' must be one of standard, detnet"),
        ("anchors", "corner", "anchors='corner' must be one of centered, torchvision"),
        ("anchor_sizes", (32, 64), r"anchor_sizes=\(32, 64\) must be 5 numbers"),
        ("rpn_samples", 1, "rpn_samples=1 must be 2 or more"),
        ("num_candidates", (10,), r"num_candidates=\(10,\) must be two numbers"),
        ("num_proposals", (10, 0), r"num_proposals=\(10, 0\) must be two numbers, 1 or more"),
        ("roi_samples", 3, "roi_samples=3 must be 4 or more"),
        ("pool_size", 0, "pool_size=0"),
        ("sampling_ratio", -1, "sampling_ratio=-1"),
        ("smooth_l1_beta", -0.1, "smooth_l1_beta=-0.1"),
        ("score_threshold", 1.5, "score_threshold=1.5"),
        ("iou_threshold", -0.1, "iou_threshold"),
        ("soft_nms", "cubic", "soft_nms='cubic' must be one of linear, gaussian, or None"),
        ("soft_nms_sigma", 0.0, "soft_nms_sigma=0.0 must be greater than 0"),
        ("max_detections", 0, "max_detections"),
        ("levels", ("p2", "p3", "p4", "p5", "p6", "p7"), "then p6 or not"),
        ("backbone", "resnet51", "resnet50"),
        ("num_convs", 4, "faster_rcnn has no option 'num_convs'"),
    ],
)
def test_bad_options(option: str, value: object, message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        build_detector("faster_rcnn", 3, **{**SMALL, option: value})


# ---- draws and samples ----------------------------------------------------------------------------------------------


def test_draws_are_splitmix64() -> None:
    """The arithmetic of unsigned numbers, which numpy has."""
    seeds, numbers = torch.tensor([0, 12345678901234567]), torch.tensor([0, 1, -2, 250_000])
    found = draws(seeds, 3, numbers)
    step = np.uint64(0x9E3779B97F4A7C15)
    keys = _splitmix64(_splitmix64(seeds.numpy().astype(np.uint64)) + np.uint64(3))
    expected = _splitmix64(keys[:, None] + numbers.numpy().astype(np.uint64) * step) >> np.uint64(1)
    assert found.tolist() == expected.tolist()


def test_draws_are_spread_evenly_and_differ() -> None:
    """Eighths of the range are each hit by an eighth of 80 000 draws (10 000 +- 94); no two are equal."""
    numbers = torch.arange(80_000)
    by_seed, by_purpose = draws(torch.tensor([5, 6]), 0, numbers), draws(torch.tensor([5]), 1, numbers)
    everything = torch.cat([by_seed, by_purpose])
    for values in everything:
        assert torch.bincount(values >> 60, minlength=8).tolist() == pytest.approx([10_000] * 8, abs=400)
    assert len(everything.unique()) == 240_000
    assert (everything >= 0).all()
    halves = (everything[:, 0::2] < everything[:, 1::2]).float().mean(dim=1)  # neighbors do not follow each other
    assert halves.tolist() == pytest.approx([0.5] * 3, abs=0.01)


@pytest.mark.parametrize(
    ("positives", "background", "taken"),
    [(100, 500, (8, 24)), (3, 500, (3, 29)), (0, 500, (0, 32)), (0, 0, (0, 0)), (100, 5, (8, 5)), (0, 7, (0, 7))],
)
def test_balance_by_hand(positives: int, background: int, taken: tuple[int, int]) -> None:
    """32 with up to a quarter positives; what is missing there is background, whatever the positives before."""
    labels = torch.tensor([[4] * positives + [BACKGROUND] * background + [IGNORED] * 20])
    order = draws(torch.tensor([9]), 0, torch.arange(labels.shape[1]))
    places, is_there = balanced_sample(labels, order, size=32, positive_fraction=0.25)
    chosen = places[is_there]
    assert len(chosen.unique()) == len(chosen)
    found = labels[0, chosen]
    assert ((found >= 0).sum().item(), (found == BACKGROUND).sum().item(), (found == IGNORED).sum().item()) == (
        *taken,
        0,
    )


def test_every_anchor_has_its_turn() -> None:
    """Of 40 positives 8 are taken: in 500 epochs each 100 times or so (standard deviation 9)."""
    labels = torch.full((500, 40), 1)
    places, taken = balanced_sample(
        labels, draws(torch.arange(500), 0, torch.arange(40)), size=16, positive_fraction=0.5
    )
    counts = torch.bincount(places[taken], minlength=40)
    assert counts.sum() == 500 * 8
    assert counts.min() > 60
    assert counts.max() < 140


@pytest.mark.slow
def test_a_sample_is_that_of_the_image_alone_and_of_its_seed() -> None:
    torch.manual_seed(0)
    detector, batch = FasterRCNN(3, FasterRCNNOptions(**SMALL, rpn_samples=32, roi_samples=16)).eval(), two_images()
    outputs = detector(images_of(batch))
    together = detector._sample(outputs, detector.targets(batch))
    again = detector._sample(outputs, detector.targets(batch))
    assert all(torch.equal(x, y) for x, y in zip(together, again, strict=True))
    for i in range(2):
        alone = detector._sample(part(outputs, i), detector.targets(part(batch, i)))
        assert torch.equal(alone[0][0][alone[1][0]], together[0][i][together[1][i]])
    other = detector._sample(outputs, detector.targets(batch._replace(seeds=batch.seeds + 1)))
    assert not torch.equal(other[0], together[0])


# ---- anchors, proposals, regions ------------------------------------------------------------------------------------


def test_anchors_by_hand() -> None:
    """Canvas of 8 x 8, strides 4 and 16 as in DetNet: 3 shapes of 32 pixels in 4 cells, 3 of 128 pixels in one."""
    rpn = RegionProposals((4, 16), (2, 4), FasterRCNNOptions(channels=4))
    anchors = rpn.anchors((8, 8), torch.device("cpu"))
    assert anchors.shape == (15, 4)
    assert anchors[1].tolist() == [-14, -14, 18, 18]
    assert anchors[13].tolist() == [-56, -56, 72, 72]
    sides = anchors[:, 2:] - anchors[:, :2]
    assert (sides[:, 0] / sides[:, 1]).tolist() == pytest.approx([0.5, 1, 2] * 5)


def proposals_of(detector: FasterRCNN, outputs: FasterRCNNOutputs, sizes: ImageSizes, training: bool) -> Proposals:
    _, objectness, deltas, canvas_size = outputs
    return detector.rpn.propose(objectness, deltas, canvas_size, sizes.content, training=training)


def test_as_many_proposals_as_asked() -> None:
    """At most 10 of a level, and 40 of an image, which is no limit then; later 6, and 4 of an image; best first."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"num_candidates": (10, 6), "num_proposals": (40, 4), "anchor_sizes": (4.0,) * 5}
    detector, batch = FasterRCNN(3, FasterRCNNOptions(**SMALL, **options)).eval(), two_images()
    outputs = detector(images_of(batch))
    # Five levels: 256, 64, 16, 4 and 1 cells of three anchors.
    for training, counts in ((True, (10 + 10 + 10 + 10 + 3, 40)), (False, (6 * 4 + 3, 4))):
        proposals = proposals_of(detector, outputs, batch.sizes, training)
        assert proposals.boxes.shape == (2, counts[1], 4)
        assert ((proposals.anchors != PADDING).sum(1) <= min(counts)).all()
        logits = torch.cat([x.flatten(1) for x in outputs.objectness], dim=1)
        for image in range(2):
            real = proposals.anchors[image] != PADDING
            assert real.sum() >= 4
            scores = logits[image, proposals.anchors[image, real]]
            assert (scores[:-1] >= scores[1:]).all()
            assert not proposals.boxes[image, ~real].any()


def test_proposals_stay_within_each_image() -> None:
    """The second image fills 40 x 20 pixels of the canvas: its proposals end there, and none lies beside it."""
    torch.manual_seed(0)
    detector = FasterRCNN(3, FasterRCNNOptions(**SMALL)).eval()
    batch = two_images()._replace(content_sizes=torch.tensor([[64, 64], [40, 20]]))
    proposals = proposals_of(detector, detector(images_of(batch)), batch.sizes, training=True)
    for image, (height, width) in enumerate(((64, 64), (40, 20))):
        boxes = proposals.boxes[image, proposals.anchors[image] != PADDING]
        assert boxes.amin() >= 0
        assert boxes.amax(dim=0).tolist() == [
            pytest.approx(width, abs=width),
            pytest.approx(height, abs=height),
            width,
            height,
        ]
        assert ((boxes[:, 2:] - boxes[:, :2]) >= 1e-3).all()


def test_levels_by_hand() -> None:
    """224 pixels at p4, half of it at p3, what is smaller at p2; 448 and more at p5; ratios do not matter."""
    boxes = torch.tensor([[0.0, 0, s, s] for s in (1, 56, 111, 112, 223, 224, 447, 448, 2000)] + [[0, 0, 448, 112]])
    assert region_levels(boxes, 2, 5).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3, 2]
    assert region_levels(boxes, 3, 4).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert region_levels(torch.zeros(1, 4), 2, 5).tolist() == [0]


def random_regions(count: int, canvas: int) -> Tensor:
    corners = torch.rand(count, 2, 2).mul(canvas).sort(dim=1).values
    return corners.flatten(1)


def build_head(levels: dict[int, int], **options: Any) -> RegionHead:
    stage = Stage(0.5, (10.0, 10.0, 5.0, 5.0), 1.0)
    defaults: dict[str, Any] = {"channels": 8, "head_channels": 16, "aligned": False}
    return RegionHead(levels, 3, stage, FasterRCNNOptions(**{**defaults, **options}))


def test_what_is_cut_out_is_torchvisions() -> None:
    """In any order of regions, and with one level never asked for."""
    torch.manual_seed(0)
    maps = [torch.randn(2, 8, 512 // stride, 512 // stride) for stride in STRIDES]
    head = build_head({2: 4, 3: 8, 4: 16, 5: 32})
    boxes = [random_regions(40, 500), random_regions(30, 50)]
    pool = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    pooled = pool({str(i): x for i, x in enumerate(maps)}, boxes, [(512, 512)] * 2)
    x = pooled.flatten(1)
    for layer in head.box_head.values():
        x = layer(x).relu()
    regions = Regions(torch.cat(boxes), torch.tensor([0] * 40 + [1] * 30))
    logits, deltas = head(maps, regions)
    torch.testing.assert_close(logits, head.box_predictor["cls_score"](x))
    torch.testing.assert_close(deltas.flatten(1), head.box_predictor["bbox_pred"](x))
    mixed = torch.randperm(70)
    again, _ = head(maps, Regions(regions.boxes[mixed], regions.images[mixed]))
    torch.testing.assert_close(again, logits[mixed])


def test_regions_of_other_levels_count_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torchvision's RoI Align has to add in a fixed order it does without its kernel, and off a map its corner
    counts: our network must not notice, nor the corner have a gradient."""

    def in_order(x: Tensor, boxes: Tensor, size: int, scale: float, ratio: int, aligned: bool) -> Tensor:
        return in_python(x, boxes, scale, size, size, ratio, aligned)

    in_python = sys.modules["torchvision.ops.roi_align"]._roi_align.__wrapped__
    torch.manual_seed(0)
    maps = [torch.randn(1, 8, 256 // stride, 256 // stride, requires_grad=True) for stride in (8, 16)]
    head = build_head({3: 8, 4: 16})
    boxes = torch.tensor([[9.0, 9, 230, 230], [40, 40, 70, 60], [100, 120, 140, 140]])
    found = []
    with fixed_shapes():
        for compute in (torchvision.ops.roi_align, in_order):
            monkeypatch.setattr(torchvision.ops, "roi_align", compute)
            logits, _ = head(maps, Regions(boxes, torch.zeros(3, dtype=torch.int64)))
            found.append((logits, *torch.autograd.grad(logits.square().sum(), maps)))
    assert found[0][1][..., 0, 0].abs().max() == 0
    torch.testing.assert_close(found[1], found[0])


def test_aligned_regions_are_where_they_are() -> None:
    """A map that says its own x in pixels, read in a region around 64 and 32: the mean of what is cut out says 64.

    Not aligned, it is read half a pixel of the map, 4 pixels of the canvas, further right.
    """
    x = (torch.arange(16) + 0.5) * 8  # the middle of each column of a map of stride 8
    maps = [x.expand(1, 8, 16, 16)]
    regions = Regions(torch.tensor([[48.0, 16, 80, 48]]), torch.tensor([0]))
    for aligned, expected in ((True, 64.0), (False, 68.0)):
        head = build_head({3: 8}, pool_size=2, aligned=aligned)
        assert head._cut_out(maps, regions, torch.tensor([0])).mean().item() == pytest.approx(expected)


def test_no_regions_at_all() -> None:
    head, maps = build_head({2: 4, 3: 8}), [torch.randn(1, 8, 16, 16, requires_grad=True) for _ in range(2)]
    logits, deltas = head(maps, Regions(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)))
    assert logits.shape == (0, 4)
    assert deltas.shape == (0, 4, 4)
    (logits.sum() + deltas.sum()).backward()
    assert all(p.grad is not None for p in head.parameters())


def test_regions_learn_what_they_overlap_most() -> None:
    """By hand: overlaps of 1, 0.5, 0.45 and 0 with the first object; two equal objects; a region for each rule."""
    objects: Objects = [((0, 0, 10, 10), 2), ((50, 50, 60, 60), 0), ((50, 50, 60, 60), 1), ((80, 80, 96, 96), IGNORED)]
    batch = batch_of([objects, []], (96, 96))
    rows = [
        ((0, 0, 10, 10), 2),
        ((0, 0, 10, 5), 2),
        ((0, 0, 10, 4.5), BACKGROUND),
        ((20, 20, 30, 30), BACKGROUND),
        ((50, 50, 60, 61), 0),  # of equals the first
        ((70, 80, 90, 90), IGNORED),  # half of it in the ignored region
        ((60, 80, 89, 90), BACKGROUND),  # 9 / 29 of it
        ((7, 7, 7, 9), BACKGROUND),  # no area
        ((0, 0, 10, 10), IGNORED),  # not there
    ]
    boxes = torch.tensor([box for box, _ in rows]).expand(2, -1, 4)
    exist = torch.tensor([True] * 8 + [False]).expand(2, -1)
    targets = match_regions(boxes, exist, batch.boxes, batch.labels, 0.5)
    assert targets.labels[0].tolist() == [label for _, label in rows]
    assert targets.labels[1].tolist() == [BACKGROUND] * 8 + [IGNORED]
    assert targets.boxes[0, 1].tolist() == [0, 0, 10, 10]
    assert match_regions(boxes, exist, batch.boxes, batch.labels, 0.6).labels[0, 1] == BACKGROUND


def test_targets_against_torchvision() -> None:
    torch.manual_seed(0)
    objects = random_regions(30, 96)
    batch = batch_of([[(box, i % 5) for i, box in enumerate(objects.tolist())]], (96, 96))
    boxes = torch.cat([random_regions(400, 96), objects + torch.randn(30, 4)])
    targets = match_regions(boxes[None], torch.ones(1, 430, dtype=torch.bool), batch.boxes, batch.labels, 0.5)
    matches = Matcher(0.5, 0.5)(box_iou(objects, boxes))
    assert torch.equal(targets.labels[0], torch.where(matches >= 0, matches % 5, BACKGROUND))
    assert (matches >= 0).sum() > 30
    assert torch.equal(targets.boxes[0][matches >= 0], objects[matches[matches >= 0]])


# ---- losses ---------------------------------------------------------------------------------------------------------


def test_losses_by_hand() -> None:
    """A network that says 0 everywhere: log 2 for each anchor, log 4 for each region of 1 + 3 classes.

    The object is the square anchor of 32 pixels around (34, 34), moved right by 2 pixels of its 32: the delta 2 / 32,
    of which the loss is (1/16)^2 / (2 / 9) below 1/9. It overlaps one anchor by 0.88, that of the next cell, 4 pixels
    further right, equally: two positives of 256, the second with the delta -2 / 32. Regions: only the object itself
    overlaps it by 0.95 and more, delta 0; the two anchors do so by 0.88.
    """
    detector, batch = FasterRCNN(3, FasterRCNNOptions(**SMALL)), batch_of([[((20, 18, 52, 50), 1)]], (64, 64))
    for module in (detector.rpn, detector.roi_heads):
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
    losses = losses_of(detector, detector(images_of(batch)), batch)
    assert losses["objectness"].item() == pytest.approx(math.log(2))
    assert losses["classification"].item() == pytest.approx(math.log(4))
    assert losses["proposal"].item() == pytest.approx(2 * (1 / 16) ** 2 / (2 / 9) / 256)
    regions, exist = detector._sample(detector(images_of(batch)), detector.targets(batch))
    chosen = regions[exist]
    overlaps = box_iou(chosen, torch.tensor([[20.0, 18, 52, 50]]))[:, 0]
    positive = chosen[overlaps >= 0.5]
    assert len(positive) <= 128
    assert len(positive) > 5
    centers, sides = (positive[:, :2] + positive[:, 2:]) / 2, positive[:, 2:] - positive[:, :2]
    shifts = (torch.tensor([36.0, 34]) - centers) / sides * 10
    deltas = torch.cat([shifts, torch.log(32 / sides) * 5], dim=1).abs()
    expected = torch.where(deltas < 1 / 9, deltas**2 * 4.5, deltas - 1 / 18).sum() / exist.sum()
    torch.testing.assert_close(losses["box"], expected)


def test_losses_can_be_divided_by_what_is_given() -> None:
    torch.manual_seed(0)
    detector, batch = FasterRCNN(3, FasterRCNNOptions(**SMALL)).eval(), two_images()
    outputs = detector(images_of(batch))
    assert counts_of(detector, batch).tolist() == [2]
    whole, double = losses_of(detector, outputs, batch), losses_of(detector, outputs, batch, torch.tensor([1.0]))
    for name, loss in whole.items():
        torch.testing.assert_close(double[name], 2 * loss)


@pytest.mark.slow
@pytest.mark.parametrize("roi_samples", [16, 512])
def test_parts_of_a_batch_add_up(roi_samples: int) -> None:
    """Each divided by the normalizer of the whole; also where images have too few proposals to fill their sample."""
    torch.manual_seed(0)
    detector, whole = FasterRCNN(3, FasterRCNNOptions(**SMALL, roi_samples=roi_samples)).eval(), two_images()
    outputs, counts = detector(images_of(whole)), counts_of(detector, whole)
    assert torch.equal(torch.stack([counts_of(detector, part(whole, i)) for i in range(2)]).sum(0), counts)
    parts = [losses_of(detector, part(outputs, i), part(whole, i), counts) for i in range(2)]
    for name, loss in losses_of(detector, outputs, whole).items():
        torch.testing.assert_close(torch.stack([of_part[name] for of_part in parts]).sum(), loss)


@pytest.mark.slow
def test_detections_are_those_of_the_image_alone() -> None:
    """An image's result does not depend on the batch that it is evaluated in, but for the rounding of the heads."""
    torch.manual_seed(0)
    detector, batch = FasterRCNN(3, FasterRCNNOptions(**SMALL, score_threshold=0.2)).eval(), two_images()
    outputs = detector(images_of(batch))
    together = detector.decode(outputs, batch.sizes)
    assert (together.scores > 0).any(dim=1).all()
    for i in range(2):
        alone = detector.decode(part(outputs, i), part(batch, i).sizes)
        for ours, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(ours[i], expected[0], rtol=1e-5, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", HARD)
def test_hard_batches_are_finite(case: str) -> None:
    """Losses and every gradient, in float32 and bf16; the second stage computes in what the pyramid comes in."""
    torch.manual_seed(0)
    detector, batch = FasterRCNN(3, FasterRCNNOptions(**SMALL)), batch_of(HARD[case], (96, 96))
    seen: list[torch.dtype] = []
    detector.roi_heads.box_head["fc7"].register_forward_hook(lambda *x: seen.append(x[2].dtype))  # pyright: ignore
    for dtype in (torch.float32, torch.bfloat16):
        detector.zero_grad()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            outputs = detector(images_of(batch))
        losses = losses_of(detector, outputs, batch)
        assert seen.pop() == outputs.maps[0].dtype == dtype
        assert all(loss.isfinite() and loss >= 0 and loss.dtype == torch.float32 for loss in losses.values())
        assert losses["objectness"] > 0
        torch.stack(list(losses.values())).sum().backward()
        gradients = {name: p.grad for name, p in detector.named_parameters()}
        assert not [name for name, grad in gradients.items() if grad is None or not grad.isfinite().all()]


def outputs_without_proposals(detector: FasterRCNN, batch: DetectionBatch) -> FasterRCNNOutputs:
    """Every box shrunk to nothing, to 1e-42 of its anchor's sides."""
    outputs = detector(images_of(batch))
    shrunk = [x.clone() for x in outputs.box_deltas]
    for deltas in shrunk:
        deltas[..., 2:] = -100.0
    return outputs._replace(box_deltas=tuple(shrunk))


@pytest.mark.slow
def test_no_proposals() -> None:
    """Only the objects themselves are left to learn from, in the other image nothing; no detections."""
    torch.manual_seed(0)
    detector, batch = FasterRCNN(3, FasterRCNNOptions(**SMALL)), two_images()
    outputs = outputs_without_proposals(detector, batch)
    assert (proposals_of(detector, outputs, batch.sizes, training=True).anchors == PADDING).all()
    _, exist = detector._sample(outputs, detector.targets(batch))
    assert exist.sum(1).tolist() == [3, 0]
    losses = losses_of(detector, outputs, batch)
    assert all(loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert not [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    detections = detector.eval().decode(outputs, batch.sizes)
    assert (detections.labels == PADDING).all()
    nothing = batch._replace(labels=torch.full_like(batch.labels, PADDING))
    losses = losses_of(detector, outputs, nothing)
    assert losses["classification"] == losses["box"] == 0


@pytest.mark.slow
def test_all_proposals_negative() -> None:
    """Objects of one pixel, which no proposal overlaps by half; they themselves are left aside."""
    torch.manual_seed(0)
    detector, batch = FasterRCNN(3, FasterRCNNOptions(**SMALL)), batch_of([[((20, 20, 20, 21), 0)], []], (64, 64))
    losses = losses_of(detector, detector(images_of(batch)), batch)
    assert losses["box"] == losses["proposal"] == 0
    assert losses["classification"] > 0
    torch.stack(list(losses.values())).sum().backward()
    assert not [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


@pytest.mark.slow
def test_wild_outputs_are_finite() -> None:
    torch.manual_seed(0)
    detector, batch = FasterRCNN(3, FasterRCNNOptions(**SMALL)), two_images()
    outputs = detector(images_of(batch))
    wild = outputs._replace(
        objectness=tuple(x * 1e4 for x in outputs.objectness), box_deltas=tuple(x * 1e6 for x in outputs.box_deltas)
    )
    losses = losses_of(detector, wild, batch)
    torch.stack(list(losses.values())).sum().backward()
    assert not [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert detector.decode(wild, batch.sizes).boxes.isfinite().all()


# ---- detections -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("soft_nms", ["linear", "gaussian"])
def test_soft_suppression_keeps_what_hard_suppression_drops(soft_nms: Any) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {**SMALL, "score_threshold": 0.2, "max_detections": 300}
    detector = FasterRCNN(3, FasterRCNNOptions(**options)).eval()
    soft = FasterRCNN(3, FasterRCNNOptions(**options, soft_nms=soft_nms)).eval()
    soft.load_state_dict(detector.state_dict())
    batch = two_images()
    outputs = detector(images_of(batch))
    hard, gentle = detector.decode(outputs, batch.sizes), soft.decode(outputs, batch.sizes)
    assert torch.equal(hard.scores[:, 0], gentle.scores[:, 0])
    assert ((gentle.labels >= 0).sum(1) > (hard.labels >= 0).sum(1)).all()
    assert (gentle.scores[:, :-1] >= gentle.scores[:, 1:]).all()


# ---- torchvision ----------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    reference: Any
    ours: FasterRCNN

    def train(self, mode: bool = True) -> "Pair":
        return Pair(self.reference.train(mode), self.ours.train(mode))

    def eval(self) -> "Pair":
        return self.train(False)


@torch.no_grad()
def perturb(reference: Any, seed: int) -> None:
    """Random weights for both heads, of a size that gives all sorts of scores and moderate boxes.

    New ones give every anchor and class the same probability everywhere.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in (reference.rpn.head, reference.roi_heads):
        for name, parameter in module.named_parameters():
            nn.init.normal_(parameter, std=0.1 if name.endswith("bias") else 0.03, generator=generator)
    images, _ = reference.eval().transform(noise())
    features = reference.backbone(images.tensors)
    objectness, deltas = (
        torch.cat([x.flatten() for x in maps]) for maps in reference.rpn.head(list(features.values()))
    )
    scale(reference.rpn.head.cls_logits, objectness, 2.0)
    scale(reference.rpn.head.bbox_pred, deltas, 0.3)
    proposals, _ = reference.rpn(images, features)
    hidden = reference.roi_heads.box_head(reference.roi_heads.box_roi_pool(features, proposals, images.image_sizes))
    predictor = reference.roi_heads.box_predictor
    logits, deltas = predictor(hidden)
    scale(predictor.cls_score, logits, 2.0)
    scale(predictor.bbox_pred, deltas, 1.0)


def scale(layer: Any, outputs: Tensor, spread: float) -> None:
    """To outputs of this standard deviation."""
    for parameter in layer.parameters():
        parameter *= spread / outputs.std()


@pytest.fixture(scope="module", params=[0, 1])
def pair(request: pytest.FixtureRequest) -> Pair:
    """torchvision's for canvases of 96 to 160 pixels, and ours with its state dict; samples that every image fills."""
    torch.manual_seed(request.param)
    reference = fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, min_size=96, max_size=160, box_batch_size_per_image=64
    )
    perturb(reference, request.param)
    ours = FasterRCNN(90, FasterRCNNOptions.torchvision(roi_samples=64))
    report = load_weights(ours, reference.state_dict())
    assert not report.missing
    assert not report.unexpected
    return Pair(reference, ours)


@pytest.fixture(params=["noise", "photos"])
def pictures(request: pytest.FixtureRequest) -> list[Tensor]:
    """float32 [3, H, W] in 0..1, of two sizes."""
    return noise() if request.param == "noise" else photos(request.getfixturevalue("real_data"))


def assert_same_boxes(ours: Tensor, theirs: Tensor) -> None:
    """In any order, to 0.01 pixels."""
    assert len(ours) == len(theirs)
    near = (ours[:, None] - theirs).abs().amax(dim=2) < 0.01
    assert near.any(dim=0).all()
    assert near.any(dim=1).all()


@pytest.mark.slow
def test_raw_outputs_and_proposals_are_torchvisions(pair: Pair, pictures: list[Tensor]) -> None:
    reference, ours = pair.eval()
    with torch.inference_mode():
        images, _ = reference.transform(pictures)
        features = reference.backbone(images.tensors)
        outputs = ours(images.tensors)
        sizes = sizes_of(pictures, images.image_sizes)
        for actual, want in zip(outputs.maps, features.values(), strict=True):
            assert (actual - want).abs().max() <= 1e-4 * want.abs().max()
        for training in (False, True):
            reference.rpn.training = training
            proposals = proposals_of(ours, outputs, sizes, training)
            expected = torchvisions_proposals(reference, images, features)
            for image, boxes in enumerate(expected):
                assert len(boxes) > 150
                assert_same_boxes(proposals.boxes[image, proposals.anchors[image] != PADDING], boxes)


def torchvisions_proposals(reference: Any, images: Any, features: dict[str, Tensor]) -> list[Tensor]:
    """Without its losses, which its training mode would compute."""
    rpn = reference.rpn
    objectness, deltas = rpn.head(list(features.values()))
    anchors = rpn.anchor_generator(images, list(features.values()))
    counts = [x[0].numel() for x in objectness]
    logits, deltas = concat_box_prediction_layers(objectness, deltas)
    boxes = rpn.box_coder.decode(deltas, anchors).view(len(anchors), -1, 4)
    return rpn.filter_proposals(boxes, logits, images.image_sizes, counts)[0]


@pytest.mark.slow
def test_class_logits_and_box_deltas_are_torchvisions(pair: Pair, pictures: list[Tensor]) -> None:
    """Of the same proposals."""
    reference, ours = pair.eval()
    with torch.inference_mode():
        images, _ = reference.transform(pictures)
        features = reference.backbone(images.tensors)
        proposals, _ = reference.rpn(images, features)
        heads = reference.roi_heads
        expected = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, proposals, images.image_sizes)))
        numbers = torch.cat([torch.full((len(boxes),), i) for i, boxes in enumerate(proposals)])
        logits, deltas = ours.roi_heads(ours(images.tensors).maps, Regions(torch.cat(proposals), numbers))
    for actual, want in zip((logits, deltas.flatten(1)), expected, strict=True):
        assert (actual - want).abs().max() <= 1e-4 * want.abs().max()


@pytest.mark.slow
def test_detections_are_torchvisions(pair: Pair, pictures: list[Tensor]) -> None:
    reference, ours = pair.eval()
    with torch.inference_mode():
        expected = reference(pictures)
        images, _ = reference.transform(pictures)
        detections = ours.decode(ours(images.tensors), sizes_of(pictures, images.image_sizes))
    for found in expected:
        found["labels"] = found["labels"] - 1
    assert_same_detections(detections, expected, at_least=50)


def sample_as(reference: Any, ours: FasterRCNN, batch: DetectionBatch, outputs: FasterRCNNOutputs) -> None:
    """Has torchvision learn from the anchors and regions that ours does."""
    regions, taken = ours._sample(outputs, ours.targets(batch))
    known: list[Tensor] = []

    def of_anchors(labels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        stacked = torch.stack(list(labels)).long()  # 1, 0 or -1 for those that are left aside
        stacked = torch.where(stacked == 1, 0, torch.where(stacked == 0, BACKGROUND, IGNORED))
        order = draws(batch.seeds, 0, torch.arange(stacked.shape[1]))
        places, exist = balanced_sample(stacked, order, size=256, positive_fraction=0.5)
        chosen = torch.zeros_like(stacked, dtype=torch.bool)
        for image in range(len(chosen)):
            chosen[image, places[image, exist[image]]] = True
        return list(chosen & (stacked == 0)), list(chosen & (stacked == BACKGROUND))

    def remember(proposals: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[Tensor]:
        known[:] = [torch.cat(both) for both in zip(proposals, boxes, strict=True)]
        return list(known)

    def of_regions(labels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        both: tuple[list[Tensor], list[Tensor]] = ([], [])
        for image, theirs in enumerate(known):
            distances = (regions[image, taken[image]][:, None] - theirs).abs().amax(dim=2)  # [ours, theirs]
            chosen = torch.zeros(len(theirs), dtype=torch.bool)
            for row in distances:  # two levels may propose the same box
                nearest = row.masked_fill(chosen, math.inf).argmin()
                assert row[nearest] < 0.01
                chosen[nearest] = True
            both[0].append(chosen & (labels[image] > 0))
            both[1].append(chosen & (labels[image] == 0))
            assert torch.equal(both[0][-1] | both[1][-1], chosen)
        return both

    reference.rpn.fg_bg_sampler = of_anchors
    reference.roi_heads.add_gt_proposals = remember
    reference.roi_heads.fg_bg_sampler = of_regions


def losses_of_both(pair: Pair, pictures: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Ours and torchvision's, from the same samples."""
    reference, ours = pair.train()
    found = random_targets(pictures, num_classes=90)
    shifted = [{"boxes": target["boxes"], "labels": target["labels"] + 1} for target in found]
    images, targets = reference.transform(pictures, [dict(x) for x in found])
    batch = batch_of([objects_of(target) for target in targets], images.tensors.shape[-2:])
    batch = batch._replace(content_sizes=torch.tensor(images.image_sizes))
    outputs = ours(images.tensors)
    sample_as(reference, ours, batch, outputs)
    losses, expected = losses_of(ours, outputs, batch), reference(pictures, shifted)
    names = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
    return [(loss, expected[name]) for loss, name in zip(losses.values(), names, strict=True)]


@pytest.mark.slow
def test_losses_and_gradients_are_torchvisions(pair: Pair, pictures: list[Tensor]) -> None:
    both = losses_of_both(pair, pictures)
    for loss, want in both:
        assert want > 1e-3
        torch.testing.assert_close(loss, want, rtol=1e-5, atol=0)
    pair.reference.zero_grad()
    pair.ours.zero_grad()
    for losses in zip(*both, strict=True):
        torch.stack(losses).sum().backward()
    assert_same_gradients(pair.ours, pair.reference)


@pytest.mark.slow
def test_losses_of_one_image_are_torchvisions_whatever_its_proposals(pair: Pair) -> None:
    """Up to 2000 samples: as many as there are."""
    ours = pair.ours
    filled, ours.options = ours.options, replace(ours.options, roi_samples=2000)
    try:
        for picture in noise():
            for loss, want in losses_of_both(pair, [picture]):
                torch.testing.assert_close(loss, want, rtol=1e-5, atol=0)
    finally:
        ours.options = filled

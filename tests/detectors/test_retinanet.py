"""RetinaNet against hand-worked numbers, plain loops and torchvision's RetinaNet."""

import math
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection import retinanet_resnet50_fpn
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from public.backbones.cards import CARDS
from public.backbones.catalog import _FAMILY_OF, list_backbones
from public.datasets.batches import DetectionBatch, ImageSizes
from public.detectors import anchor_matching
from public.detectors.anchor_matching import AnchorTargets, match
from public.detectors.catalog import build_detector
from public.detectors.levels import join_anchors
from public.detectors.retinanet.network import RetinaNet, RetinaNetOutputs
from public.detectors.retinanet.options import RetinaNetOptions
from public.detectors.targets import flat_ignored, flat_objects
from public.geometry.anchors import pyramid_anchors
from public.geometry.boxes import decode_boxes, encode_boxes
from public.geometry.labels import BACKGROUND, IGNORED, PADDING
from public.geometry.points import map_sizes
from public.weights.loading import load_weights
from tests.detectors.reference import (
    BACKBONES,
    HARD,
    ONE_A_FAMILY,
    WITH_LEVELS,
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
STRIDES = (8, 16, 32, 64, 128)
SIZES = (32.0, 64.0, 128.0, 256.0, 512.0)
SMALL: dict[str, Any] = {"backbone": "mobilenet_v2", "channels": 32, "num_convs": 1, "levels": ("p3", "p4", "p5")}
"""Options of a detector with three levels, at strides 8, 16 and 32, and 32-pixel anchors on the first."""


def targets_of(batch: DetectionBatch, anchors: Tensor) -> AnchorTargets:
    objects, ignored = flat_objects(batch), flat_ignored(batch)
    return match(anchors, objects, ignored, batch_size=len(batch.images), positive_iou=0.5, negative_iou=0.4)


def outputs_of(batch: DetectionBatch, num_classes: int, scale: float = 0.0, prior: float = 0.5) -> RetinaNetOutputs:
    """Outputs of three levels, normally distributed around the prior's logit, or all equal."""
    height, width = batch.images.shape[-2:]
    bias = math.log(prior / (1 - prior))
    logits, deltas = (
        tuple(
            (torch.randn(len(batch.images), *size, 9, k) * scale + mean).requires_grad_()
            for size in map_sizes((height, width), STRIDES[:3])
        )
        for k, mean in ((num_classes, bias), (4, 0.0))
    )
    return RetinaNetOutputs(logits, deltas, (height, width))


# ---- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "num_classes", "params_m"),
    [("resnet50", 80, 37.969), ("resnet50", 20, 36.724), ("resnet101", 80, 56.961)],
)
def test_parameters_of_2020(backbone: str, num_classes: int, params_m: float) -> None:
    with torch.device("meta"):
        detector = build_detector("retinanet", num_classes, backbone=backbone)
    assert round(sum(p.numel() for p in detector.parameters()) / 1e6, 3) == params_m


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "size", "macs_g", "num_anchors"),
    [("resnet50", 667, 105.2, 84762), ("resnet101", 667, 138.6, 84762), ("resnet50", 1000, 234.9, 188442)],
)
def test_multiply_adds_and_anchors_of_2020(backbone: str, size: int, macs_g: float, num_anchors: int) -> None:
    with torch.device("meta"):
        detector = RetinaNet(80, RetinaNetOptions(backbone=backbone)).eval()
        with FlopCounterMode(display=False) as counter:
            outputs = detector(torch.zeros(1, 3, size, size))
    assert counter.get_total_flops() / 2e9 == pytest.approx(macs_g, abs=0.06)
    assert join_anchors(outputs.class_logits).shape == (1, num_anchors, 80)
    assert detector.anchors((size, size), CPU).shape == (num_anchors, 4)


@pytest.mark.slow
def test_keys_are_torchvisions() -> None:
    with torch.device("meta"):
        ours, reference = (
            RetinaNet(91, RetinaNetOptions.torchvision()),
            retinanet_resnet50_fpn(weights=None, weights_backbone=None),
        )
    shapes = {key: tensor.shape for key, tensor in reference.state_dict().items()}
    assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == shapes
    (of_classes,) = ours.class_prefixes
    assert {key for key in shapes if key.startswith(of_classes)} == {of_classes + "weight", of_classes + "bias"}


@pytest.mark.slow
def test_initial_values() -> None:
    torch.manual_seed(0)
    head = RetinaNet(4, RetinaNetOptions(backbone="resnet18", levels=("p3", "p4", "p5"))).head
    assert head.classification_head.cls_logits.bias is not None
    assert head.classification_head.cls_logits.bias.sigmoid().tolist() == pytest.approx([0.01] * 36)
    assert head.regression_head.bbox_reg.bias is not None
    assert head.regression_head.bbox_reg.bias.tolist() == [0] * 36
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.std().item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbone(backbone: str) -> None:
    torch.manual_seed(0)
    detector = RetinaNet(3, RetinaNetOptions(backbone=backbone, channels=32, num_convs=1))
    batch = batch_of([[((10, 10, 30, 26), 2)], []], (65, 40))
    outputs = detector(images_of(batch))
    assert detector.backbone.strides == pyramid_strides(backbone)
    cells = map_sizes((65, 40), pyramid_strides(backbone))
    assert [tuple(x.shape) for x in outputs.class_logits] == [(2, *size, 9, 3) for size in cells]
    assert [tuple(x.shape) for x in outputs.box_deltas] == [(2, *size, 9, 4) for size in cells]
    losses = losses_of(detector, outputs, batch)
    assert tuple(losses) == detector.loss_names
    assert all(loss.isfinite() and loss.dtype == torch.float32 for loss in losses.values())
    assert detector.eval().decode(outputs, batch.sizes).boxes.shape == (2, 100, 4)


def test_the_sweep_covers_the_catalog() -> None:
    """Every family that has the levels; of its networks only giants are skipped."""
    assert {_FAMILY_OF[name] for name in BACKBONES} == {_FAMILY_OF[name] for name in WITH_LEVELS}
    assert all(CARDS[name].parameters >= 50e6 for name in set(WITH_LEVELS) - set(BACKBONES))
    assert len(BACKBONES) > len(ONE_A_FAMILY) > 10


@pytest.mark.parametrize("backbone", [name for name in list_backbones() if "cifar" in name])
def test_backbones_without_the_levels_are_refused(backbone: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=r"levels=\['c3', 'c4', 'c5'\] .* c0, c1, c2, c3\."):
        RetinaNet(3, RetinaNetOptions(backbone=backbone))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("channels", 0, "channels=0"),
        ("num_convs", -1, "num_convs=-1"),
        ("batch_norm_eps", -1e-5, "batch_norm_eps=-1e-05 must be 0 or more"),
        ("focal_alpha", 1.5, "focal_alpha"),
        ("focal_gamma", -1.0, "focal_gamma"),
        ("p6_from", "p4", "p6_from='p4' must be one of c5, p5"),
        ("anchors", "corner", "anchors='corner' must be one of centered, torchvision"),
        ("anchor_sizes", (32, 64), r"anchor_sizes=\(32, 64\) must be 3 numbers"),
        ("anchor_sizes", (32, 64, 0), "greater than 0"),
        ("positive_iou", 0.3, "negative_iou=0.4 and detector.positive_iou=0.3 must rise"),
        ("negative_iou", 0.0, "negative_iou=0.0"),
        ("box_weights", (1, 1, 1), "box_weights"),
        ("box_loss", "ciou", "box_loss='ciou' must be one of smooth_l1, l1, giou"),
        ("normalize", "sum", "normalize"),
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
        RetinaNet(3, RetinaNetOptions(**{**SMALL, option: value}))


# ---- targets --------------------------------------------------------------------------------------------------------

# Four anchors in a row, 10 pixels wide, and one of twice the size around the last two.
ROW = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10], [20, 0, 30, 10], [30, 0, 40, 10], [20, -5, 40, 15]])


@pytest.mark.parametrize(
    ("objects", "labels"),
    [
        # Equal to the first: overlap 1.
        ([((0, 0, 10, 10), 7)], [7, BACKGROUND, BACKGROUND, BACKGROUND, BACKGROUND]),
        # 50 / 100: positive. The second 50 / 150, below 0.4, is background.
        ([((0, 0, 5, 10), 7)], [7, BACKGROUND, BACKGROUND, BACKGROUND, BACKGROUND]),
        # [2, 0, 16, 10]: 80 / 160 = 0.5 with the first, 60 / 180 with the second.
        ([((2, 0, 16, 10), 7)], [7, BACKGROUND, BACKGROUND, BACKGROUND, BACKGROUND]),
        # [0, 0, 22.5, 10]: 100 / 225 = 0.444 with the first two, a tie: both are its best.
        ([((0, 0, 22.5, 10), 7)], [7, 7, BACKGROUND, BACKGROUND, BACKGROUND]),
        # The whole row: 0.25 with each of four, 200 / 600 with the fifth, which is the best.
        ([((0, 0, 40, 10), 7)], [BACKGROUND, BACKGROUND, BACKGROUND, BACKGROUND, 7]),
        # 45 / 100 with the first learns nothing where another anchor of the object is better: 0.45, not 1.
        ([((0, 0, 4.5, 10), 7), ((0, 0, 10, 10), 3)], [3, BACKGROUND, BACKGROUND, BACKGROUND, BACKGROUND]),
        # Two equal objects: the first.
        ([((10, 0, 20, 10), 4), ((10, 0, 20, 10), 5)], [BACKGROUND, 4, BACKGROUND, BACKGROUND, BACKGROUND]),
        # No area: no anchor, though all anchors overlap it equally.
        ([((5, 0, 5, 10), 7)], [BACKGROUND] * 5),
        # Outside.
        ([((50, 50, 60, 60), 7)], [BACKGROUND] * 5),
    ],
)
def test_targets_by_hand(objects: Objects, labels: list[int]) -> None:
    assert targets_of(batch_of([objects], (8, 8)), ROW).labels.tolist() == [labels]


def test_overlaps_between_the_thresholds_learn_nothing() -> None:
    """Overlaps 1, 0.45, 0.39, 0.5 and 0.4: both thresholds themselves belong to what is above them."""
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 4.5, 10], [0, 0, 3.9, 10], [0, 0, 5, 10], [0, 0, 4, 10]])
    labels = targets_of(batch_of([[((0, 0, 10, 10), 2)]], (8, 8)), anchors).labels
    assert labels.tolist() == [[2, IGNORED, BACKGROUND, 2, IGNORED]]


def test_a_weak_best_anchor_learns_what_it_overlaps_most() -> None:
    """Torchvision's rule. The one anchor is the best of both: 4 / 100 with the first, 9 / 100 with the second."""
    batch = batch_of([[((0, 0, 2, 2), 0), ((3, 3, 6, 6), 1)], [((0, 0, 2, 2), 0)]], (8, 8))
    targets = targets_of(batch, ROW[:1])
    assert targets.labels.tolist() == [[1], [0]]
    assert targets.boxes.tolist() == [[[3, 3, 6, 6]], [[0, 0, 2, 2]]]


def test_ignored_regions_spare_background_only() -> None:
    """The region covers the first anchor, half of the second and 0.4 of the third; the second image none."""
    region = ((0, 0, 15, 10), IGNORED)
    batch = batch_of([[region, ((0, 0, 10, 10), 1)], [((24, 0, 90, 90), IGNORED)], [region]], (8, 8))
    assert targets_of(batch, ROW).labels.tolist() == [
        [1, IGNORED, BACKGROUND, BACKGROUND, BACKGROUND],
        [BACKGROUND, BACKGROUND, IGNORED, IGNORED, IGNORED],  # 0.6, 1 and 240 / 400
        [IGNORED, IGNORED, BACKGROUND, BACKGROUND, BACKGROUND],
    ]


def random_batch(counts: list[int], canvas: float, seed: int) -> DetectionBatch:
    """Boxes from 1 pixel to the canvas, at quarters of pixels, every fifth twice."""
    generator = torch.Generator().manual_seed(seed)
    images = []
    for count in counts:
        middle = torch.rand(count, 2, generator=generator) * canvas
        half = (canvas / 2) ** torch.rand(count, 2, generator=generator)
        corners = torch.cat([middle - half, middle + half], dim=1).mul(4).round().div(4).clamp(0, canvas)
        corners = corners[((corners[:, 2:] - corners[:, :2]) >= 0.5).all(dim=1)]
        objects = [(box, i % 7) for i, box in enumerate(corners.tolist())]
        images.append([*objects, *((box, 6 - label) for box, label in objects[::5])])
    return batch_of(images, (8, 8))


@pytest.mark.parametrize("layout", ["centered", "torchvision"])
def test_targets_against_torchvision(layout: Any) -> None:
    batch, canvas = random_batch([25, 0, 1, 100, 7], 256.0, 1), (256, 256)
    anchors = pyramid_anchors(canvas, STRIDES, SIZES, CPU, layout)
    targets, matcher = targets_of(batch, anchors), Matcher(0.5, 0.4, allow_low_quality_matches=True)
    expected_boxes = []
    for image in range(5):
        real = batch.labels[image] >= 0
        boxes, labels = batch.boxes[image, real], batch.labels[image, real]
        if not len(boxes):
            assert (targets.labels[image] == BACKGROUND).all()
            continue
        matches = matcher(box_iou(boxes, anchors))
        wanted = torch.where(matches >= 0, labels[matches.clamp(min=0)], matches)
        assert torch.equal(targets.labels[image], wanted)
        assert (wanted >= 0).sum() >= len(boxes) / 2
        expected_boxes.append(boxes[matches[matches >= 0]])
    assert torch.equal(targets.boxes[targets.labels >= 0], torch.cat(expected_boxes))
    assert not targets.boxes[targets.labels < 0].any()


def test_every_object_learns_on_the_canvas_of_2020() -> None:
    """There, objects of 12 to 20 pixels had no anchor, one of the whole canvas had one, as those at the border went."""
    anchors = pyramid_anchors((667, 667), STRIDES, SIZES, CPU)
    boxes: list[tuple[float, ...]] = [(100, 100, 100 + s, 100 + s) for s in (1, 12, 14, 16, 18, 20)]
    boxes += [(0, 0, 667, 667), (333, 3, 334, 660)]
    targets = targets_of(batch_of([[(box, i)] for i, box in enumerate(boxes)], (8, 8)), anchors)
    num_positives = (targets.labels >= 0).sum(1)
    assert (num_positives >= 1).all()
    assert num_positives[6] == 43
    for image, label in enumerate(targets.labels.amax(1).tolist()):
        assert label == image


@pytest.mark.slow
def test_targets_take_moderate_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch 24 with 7 objects each, and 300 objects in one image, of 84 762 anchors: at most 2^19 pairs at a time."""
    sizes = []

    def counted(a: Tensor, b: Tensor) -> Tensor:
        sizes.append(len(a) * len(b))
        return box_iou(a, b)

    monkeypatch.setattr(anchor_matching, "pairwise_iou", counted)
    anchors = pyramid_anchors((667, 667), STRIDES, SIZES, CPU)
    for counts in ([7] * 24, [250]):
        targets_of(random_batch(counts, 667.0, 0), anchors)
    assert max(sizes) <= 2**19


# ---- losses ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_losses_by_hand() -> None:
    """All outputs zero, the object an anchor moved by (2, 1) pixels: only that anchor overlaps it enough.

    Its square anchor of 64 pixels has the overlap 62 * 63 / (2 * 64^2 - 62 * 63) = 0.91, and those of the same cell
    0.5 or so: the positives are counted, not worked out.
    """
    box = (16 * 4 + 8 - 32 + 2, 16 * 4 + 8 - 32 + 1, 16 * 4 + 8 + 32 + 2, 16 * 4 + 8 + 32 + 1)
    batch = batch_of([[(box, 1)], []], (128, 128))
    detector = RetinaNet(2, RetinaNetOptions(**SMALL, positive_iou=0.9))
    outputs = outputs_of(batch, 2)
    assert counts_of(detector, batch).tolist() == [1]
    losses = losses_of(detector, outputs, batch)
    num_anchors = 9 * (256 + 64 + 16)
    num_ignored = int((box_iou(torch.tensor([box]), detector.anchors((128, 128), CPU)) >= 0.4).sum()) - 1
    assert num_ignored > 5
    num_background = 2 * (2 * num_anchors - num_ignored) - 1
    expected = 0.75 * 0.25 * math.log(2) * num_background + 0.25 * 0.25 * math.log(2)
    assert losses["classification"].item() == pytest.approx(expected, rel=1e-6)
    # 10 * 2 / 64 = 0.3125 and 10 * 1 / 64 = 0.15625, beyond beta = 1/9 both; minus beta / 2 each; a quarter.
    assert losses["box"].item() == pytest.approx((0.3125 + 0.15625 - 1 / 9) / 4)
    l1 = RetinaNet(2, RetinaNetOptions(**SMALL, positive_iou=0.9, box_loss="l1", box_weights=(1, 1, 1, 1)))
    assert losses_of(l1, outputs, batch)["box"].item() == pytest.approx(3 / 64)
    giou = RetinaNet(2, RetinaNetOptions(**SMALL, positive_iou=0.9, box_loss="giou"))
    overlap, union, hull = 62 * 63, 2 * 64**2 - 62 * 63, 66 * 65
    assert losses_of(giou, outputs, batch)["box"].item() == pytest.approx(2 - overlap / union - union / hull, rel=1e-5)
    halved = losses_of(detector, outputs, batch, torch.tensor([0.5]))
    assert halved["box"].item() == pytest.approx(2 * losses["box"].item())


@pytest.mark.slow
def test_images_can_be_normalized_one_by_one() -> None:
    """The mean over images of the losses that each has alone."""
    torch.manual_seed(0)
    images: list[Objects] = [[((10, 10, 50, 46), 1)], [], [((0, 0, 60, 60), 0), ((5, 5, 25, 25), 1)]]
    detector, whole = RetinaNet(2, RetinaNetOptions(**SMALL, normalize="image")), batch_of(images, (64, 64))
    outputs = outputs_of(whole, 2, scale=1.0)
    losses = losses_of(detector, outputs, whole)
    assert counts_of(detector, whole).tolist() == [3]
    batch_wise = RetinaNet(2, RetinaNetOptions(**SMALL))
    alone = [losses_of(batch_wise, of_images(outputs, i), of_images(whole, i)) for i in range(3)]
    for name, loss in losses.items():
        torch.testing.assert_close(loss, torch.stack([part[name] for part in alone]).mean())


def of_images(batch: Any, i: int) -> Any:
    """One image of a batch or of outputs."""
    if isinstance(batch, DetectionBatch):
        return DetectionBatch(*(x[i : i + 1] for x in batch))
    logits, deltas, canvas_size = batch
    return RetinaNetOutputs(tuple(x[i : i + 1] for x in logits), tuple(x[i : i + 1] for x in deltas), canvas_size)


@pytest.mark.parametrize("normalize", ["batch", "image"])
def test_parts_of_a_batch_add_up(normalize: Any) -> None:
    """Each divided by the counts of the whole, which the parts' own add up to."""
    torch.manual_seed(0)
    images: list[Objects] = [[((10, 10, 50, 46), 1)], [], [((0, 0, 60, 60), 0), ((5, 5, 25, 25), 1)]]
    detector, whole = RetinaNet(2, RetinaNetOptions(**SMALL, normalize=normalize)), batch_of(images, (64, 64))
    outputs = outputs_of(whole, 2, scale=1.0)
    counts = counts_of(detector, whole)
    assert torch.equal(torch.stack([counts_of(detector, of_images(whole, i)) for i in range(3)]).sum(0), counts)
    parts = [losses_of(detector, of_images(outputs, i), of_images(whole, i), counts) for i in range(3)]
    for name, loss in losses_of(detector, outputs, whole).items():
        torch.testing.assert_close(torch.stack([part[name] for part in parts]).sum(), loss)


@pytest.mark.slow
@pytest.mark.parametrize("box_loss", ["smooth_l1", "l1", "giou"])
@pytest.mark.parametrize("case", HARD)
def test_hard_batches_are_finite(case: str, box_loss: Any) -> None:
    """Losses and every gradient, in float32 and bf16."""
    torch.manual_seed(0)
    detector, batch = RetinaNet(3, RetinaNetOptions(**SMALL, box_loss=box_loss)), batch_of(HARD[case], (96, 96))
    for dtype in (torch.float32, torch.bfloat16):
        detector.zero_grad()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            outputs = detector(images_of(batch))
        assert outputs.class_logits[0].dtype == dtype
        losses = losses_of(detector, outputs, batch)
        assert all(loss.isfinite() and loss >= 0 for loss in losses.values())
        assert losses["classification"] > 0 or case == "only ignored"
        torch.stack(list(losses.values())).sum().backward()
        gradients = {name: p.grad for name, p in detector.named_parameters()}
        assert not [name for name, grad in gradients.items() if grad is None or not grad.isfinite().all()]


@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
def test_wild_outputs_are_finite(box_loss: Any) -> None:
    """Sides far beyond what exp can take."""
    torch.manual_seed(0)
    batch = batch_of([[((10, 10, 30, 26), 1)]], (64, 64))
    detector = RetinaNet(2, RetinaNetOptions(**SMALL, box_loss=box_loss))
    outputs = outputs_of(batch, 2, scale=1e4)
    losses = losses_of(detector, outputs, batch)
    torch.stack(list(losses.values())).sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in (*outputs.class_logits, *outputs.box_deltas))
    assert detector.decode(outputs, batch.sizes).boxes.isfinite().all()


# ---- detections -----------------------------------------------------------------------------------------------------


def slow_decode(detector: RetinaNet, outputs: RetinaNetOutputs, sizes: ImageSizes) -> list[list[Any]]:
    """(score, class, box) of each image, best first: one candidate at a time."""
    options, found = detector.options, []
    for image in range(len(sizes.content)):
        height, width = sizes.content[image].tolist()
        all_anchors = detector.anchors(outputs.canvas_size, CPU)
        pairs, first = [], 0
        for logits, deltas in zip(outputs.class_logits, outputs.box_deltas, strict=True):
            scores, deltas = logits[image].flatten(0, 2).sigmoid(), deltas[image].flatten(0, 2)
            anchors = all_anchors[first : first + len(scores)]
            first += len(scores)
            boxes = decode_boxes(deltas, anchors, detector.options.box_weights)
            boxes = boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height]))
            of_level = [
                (scores[i, label].item(), label, boxes[i].tolist())
                for i, label in torch.nonzero(scores > options.score_threshold).tolist()
            ]
            pairs += sorted(of_level, reverse=True)[: options.top_k]
        kept: list[Any] = []
        for pair in sorted(pairs, reverse=True):
            rivals = [box for _, label, box in kept if label == pair[1]]
            overlaps = box_iou(torch.tensor([pair[2]]), torch.tensor(rivals).view(-1, 4))
            if not (overlaps > options.iou_threshold).any():
                kept.append(pair)
        found.append(kept[: options.max_detections])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("channels_last", [False, True])
@torch.no_grad()
def test_decode_against_plain_loops(channels_last: bool) -> None:
    torch.manual_seed(3)
    options: dict[str, Any] = {"score_threshold": 0.6, "iou_threshold": 0.3, "top_k": 40, "max_detections": 20}
    batch = batch_of([[], [], []], (64, 96))
    detector = RetinaNet(4, RetinaNetOptions(**SMALL, **options))
    outputs = outputs_of(batch, 4, scale=1.0)
    for logits in outputs.class_logits:
        logits[2] = -5.0  # an image without detections
    if not channels_last:  # as a convolution gives them
        logits, deltas = (
            tuple(x.permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2) for x in maps) for maps in outputs[:2]
        )
        outputs = RetinaNetOutputs(logits, deltas, outputs.canvas_size)
    content = torch.tensor([[64, 96], [50, 90], [64, 96]])
    sizes = ImageSizes(content, content * torch.tensor([2, 3]))
    detections, expected = detector.decode(outputs, sizes), slow_decode(detector, outputs, sizes)
    assert [len(found) for found in expected] == [20, 20, 0]
    for image, found in enumerate(expected):
        scores, labels = [pair[0] for pair in found], [pair[1] for pair in found]
        assert detections.labels[image].tolist() == labels + [PADDING] * (20 - len(found))
        assert detections.scores[image, : len(found)].tolist() == pytest.approx(scores, abs=1e-6)
        boxes = torch.tensor([pair[2] for pair in found]).view(-1, 4) * torch.tensor([3, 2, 3, 2])
        torch.testing.assert_close(detections.boxes[image, : len(found)], boxes, atol=1e-3, rtol=0)


def test_decode_inverts_the_targets() -> None:
    """Outputs that say exactly what is to be learned lead to the objects, two classes at one anchor among them."""
    objects: Objects = [((10, 10, 40, 46), 1), ((10, 10, 40, 46), 2), ((60.5, 5.25, 90.0, 61.75), 0)]
    batch = batch_of([objects], (64, 96))
    detector = RetinaNet(3, RetinaNetOptions(**SMALL))
    outputs = outputs_of(batch, 3, prior=0.01)
    anchors = detector.anchors((64, 96), CPU)
    best = box_iou(torch.tensor([box for box, _ in objects]), anchors).argmax(dim=1)
    joined = [join_anchors(x).detach()[0] for x in outputs[:2]]
    for (box, label), place in zip(objects, best, strict=True):
        joined[0][place, label] = 5.0
        joined[1][place] = encode_boxes(torch.tensor([box]), anchors[place][None], detector.options.box_weights)[0]
    counts = [x.shape[1:4].numel() for x in outputs.class_logits]
    logits, deltas = (
        tuple(part.view(x.shape) for part, x in zip(whole.split(counts), like, strict=True))
        for whole, like in zip(joined, outputs[:2], strict=True)
    )
    detections = detector.decode(RetinaNetOutputs(logits, deltas, (64, 96)), batch.sizes)
    assert (detections.labels >= 0).sum() == 3
    found = sorted(zip(detections.labels[0, :3].tolist(), detections.boxes[0, :3].tolist(), strict=True))
    for (label, box), (expected_box, wanted) in zip(found, sorted(objects, key=lambda x: x[1]), strict=True):
        assert label == wanted
        assert box == pytest.approx(expected_box, abs=1e-3)


def test_a_threshold_of_zero_keeps_everything() -> None:
    batch = batch_of([[]], (64, 96))
    detector = RetinaNet(3, RetinaNetOptions(**SMALL, score_threshold=0.0, iou_threshold=1.0, max_detections=2000))
    detections = detector.decode(outputs_of(batch, 3, scale=1.0), batch.sizes)
    assert (detections.labels >= 0).sum() == 1000 + 9 * 24 * 3 + 9 * 6 * 3


# ---- torchvision ----------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    reference: Any
    ours: RetinaNet

    def train(self, mode: bool = True) -> "Pair":
        return Pair(self.reference.train(mode), self.ours.train(mode))

    def eval(self) -> "Pair":
        return self.train(False)


@pytest.fixture(scope="module", params=[0, 1])
def pair(request: pytest.FixtureRequest) -> Pair:
    """torchvision's for canvases of 96 to 160 pixels, and ours with its state dict."""
    torch.manual_seed(request.param)
    reference = retinanet_resnet50_fpn(weights=None, weights_backbone=None, min_size=96, max_size=160)
    perturb_heads(reference, request.param)
    ours = RetinaNet(91, RetinaNetOptions.torchvision())
    report = load_weights(ours, reference.state_dict())
    assert not report.missing
    assert not report.unexpected
    return Pair(reference, ours)


@pytest.fixture(params=["noise", "photos"])
def pictures(request: pytest.FixtureRequest) -> list[Tensor]:
    """float32 [3, H, W] in 0..1, of two sizes."""
    return noise() if request.param == "noise" else photos(request.getfixturevalue("real_data"))


@pytest.mark.slow
def test_raw_outputs_are_torchvisions(pair: Pair, pictures: list[Tensor]) -> None:
    reference, ours = pair.eval()
    with torch.inference_mode():
        images, _ = reference.transform(pictures)
        expected = reference.head(list(reference.backbone(images.tensors).values()))
        outputs = ours(images.tensors)
    for actual, wanted in zip(outputs[:2], expected.values(), strict=True):
        assert (join_anchors(actual) - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.slow
def test_detections_are_torchvisions(pair: Pair, pictures: list[Tensor]) -> None:
    reference, ours = pair.eval()
    with torch.inference_mode():
        expected = reference(pictures)
        images, _ = reference.transform(pictures)
        detections = ours.decode(ours(images.tensors), sizes_of(pictures, images.image_sizes))
    assert_same_detections(detections, expected, at_least=100)


@pytest.mark.slow
def test_losses_and_gradients_are_torchvisions(pair: Pair, pictures: list[Tensor]) -> None:
    reference, ours = pair.train()
    found = random_targets(pictures, num_classes=91)
    images, targets = reference.transform(pictures, [dict(x) for x in found])
    batch = batch_of([objects_of(target) for target in targets], images.tensors.shape[-2:])
    expected = reference(pictures, found)
    losses = losses_of(ours, ours(images.tensors), batch)
    for loss, wanted in zip(losses.values(), expected.values(), strict=True):
        torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=0)
    for model, values in ((reference, expected), (ours, losses)):
        model.zero_grad()
        torch.stack(list(values.values())).sum().backward()
    assert_same_gradients(ours, reference)

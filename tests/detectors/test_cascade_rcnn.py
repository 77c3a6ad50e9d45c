"""Cascade R-CNN: its heads one after the other against the same work done by hand with the heads of Faster R-CNN."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import box_iou, clip_boxes_to_image

from public.detectors.cascade_rcnn.network import CascadeRCNN
from public.detectors.cascade_rcnn.options import CascadeRCNNOptions
from public.detectors.catalog import build_detector
from public.detectors.faster_rcnn.network import FasterRCNN
from public.detectors.faster_rcnn.options import FasterRCNNOptions
from public.detectors.faster_rcnn.regions import Regions
from public.geometry.labels import PADDING
from tests.detectors.reference import HARD, Objects, batch_of, images_of, losses_of

SMALL: dict[str, Any] = {"backbone": "mobilenet_v2", "channels": 16, "head_channels": 32, "pool_size": 3}
IOUS = (0.5, 0.6, 0.7)
WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
LOSS_WEIGHTS = (1.0, 0.5, 0.25)


def wild_heads(detector: CascadeRCNN) -> None:
    """Heads that move boxes by some pixels and prefer classes."""
    with torch.no_grad():
        for head in detector._heads:
            for name, factor in (("cls_score", 300.0), ("bbox_pred", 300.0)):
                for parameter in head.box_predictor[name].parameters():
                    parameter *= factor


@pytest.mark.slow
def test_the_three_heads() -> None:
    """Each of Faster R-CNN's size with one box for all classes; on one pyramid with one network of proposals."""
    with torch.device("meta"):
        cascade, single = build_detector("cascade_rcnn", 20), FasterRCNN(20, FasterRCNNOptions(class_agnostic=True))
    keys = {key: x.shape for key, x in cascade.state_dict().items()}
    for number in range(3):
        for key, x in single.roi_heads.state_dict().items():
            assert keys.pop(f"roi_heads.{number}.{key}") == x.shape
    assert keys == {key: x.shape for key, x in single.state_dict().items() if not key.startswith("roi_heads")}
    of_classes = [key for key in cascade.state_dict() if key.startswith(cascade.class_prefixes)]
    assert len(of_classes) == 12


def test_one_box_for_each_class_is_no_option() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match="cascade_rcnn has no option 'class_agnostic'"):
        build_detector("cascade_rcnn", 3, class_agnostic=False)


@pytest.mark.slow
def test_losses_against_a_plain_loop() -> None:
    """Stage by stage with torchvision's parts: matching, coding, clipping."""
    torch.manual_seed(0)
    detector = CascadeRCNN(3, CascadeRCNNOptions(**SMALL, roi_samples=64)).eval()
    wild_heads(detector)
    objects: Objects = [((10, 10, 50, 46), 1), ((0, 0, 60, 60), 0), ((5, 5, 25, 25), 2)]
    batch = batch_of([objects, objects[1:]], (64, 64))
    outputs = detector(images_of(batch))
    losses = losses_of(detector, outputs, batch)
    assert tuple(losses) == detector.loss_names

    sampled, exist = detector._sample(outputs, detector.targets(batch))
    expected = {name: torch.zeros(()) for name in detector.loss_names[2:]}
    for image, of_image in enumerate((objects, objects[1:])):
        gt_boxes, gt_labels = torch.tensor([box for box, _ in of_image]), torch.tensor([label for _, label in of_image])
        boxes = sampled[image, exist[image]]
        for number, (head, iou, weights) in enumerate(zip(detector._heads, IOUS, WEIGHTS, strict=True)):
            matches = Matcher(iou, iou)(box_iou(gt_boxes.float(), boxes))
            labels = torch.where(matches >= 0, gt_labels[matches.clamp(min=0)] + 1, 0)
            logits, deltas = head(outputs.maps, Regions(boxes, torch.full((len(boxes),), image)))
            positive = matches >= 0
            assert 0 < positive.sum() < len(boxes)
            want = BoxCoder(weights).encode_single(gt_boxes[matches[positive]].float(), boxes[positive])
            box = functional.smooth_l1_loss(deltas[positive, 0], want, beta=1 / 9, reduction="sum") / len(boxes)
            share = LOSS_WEIGHTS[number] / 2  # of two images
            expected[f"classification_{number + 1}"] += share * functional.cross_entropy(logits, labels)
            expected[f"box_{number + 1}"] += share * box
            boxes = clip_boxes_to_image(BoxCoder(weights).decode_single(deltas[:, 0].detach(), boxes), (64, 64))
    for name, want in expected.items():
        torch.testing.assert_close(losses[name], want, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_scores_are_the_mean_and_boxes_the_last() -> None:
    """With nothing suppressed: every (region, class) pair above the threshold is found."""
    torch.manual_seed(0)
    options: dict[str, Any] = {"iou_threshold": 1.0, "score_threshold": 0.3, "max_detections": 500}
    detector = CascadeRCNN(3, CascadeRCNNOptions(**SMALL, **options, num_proposals=(50, 50))).eval()
    wild_heads(detector)
    batch = batch_of([[]], (64, 64))
    outputs = detector(images_of(batch))
    detections = detector.decode(outputs, batch.sizes)
    proposals = detector.rpn.propose(
        outputs.objectness, outputs.box_deltas, outputs.canvas_size, batch.content_sizes, training=False
    )
    boxes, scores = proposals.boxes[0, proposals.anchors[0] != PADDING], torch.zeros(1, 4)
    images = torch.zeros(len(boxes), dtype=torch.int64)
    for head, weights in zip(detector._heads, WEIGHTS, strict=True):
        logits, deltas = head(outputs.maps, Regions(boxes, images))
        scores = scores + logits.softmax(dim=1) / 3
        boxes = clip_boxes_to_image(BoxCoder(weights).decode_single(deltas[:, 0], boxes), (64, 64))
    rows, labels = torch.nonzero(scores[:, 1:] > 0.3, as_tuple=True)
    order = scores[rows, labels + 1].argsort(descending=True)
    count = len(order)
    assert 20 < count < 500
    assert (detections.labels[0] != PADDING).sum() == count
    torch.testing.assert_close(detections.scores[0, :count], scores[rows, labels + 1][order])
    torch.testing.assert_close(detections.boxes[0, :count], boxes[rows][order], atol=1e-3, rtol=0)
    assert torch.equal(detections.labels[0, :count], labels[order])


@pytest.mark.slow
@pytest.mark.parametrize("case", HARD)
def test_hard_batches_are_finite(case: str) -> None:
    """Losses and every gradient, in float32 and bf16."""
    torch.manual_seed(0)
    detector, batch = CascadeRCNN(3, CascadeRCNNOptions(**SMALL)), batch_of(HARD[case], (96, 96))
    wild_heads(detector)
    for dtype in (torch.float32, torch.bfloat16):
        detector.zero_grad()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            outputs = detector(images_of(batch))
        losses = losses_of(detector, outputs, batch)
        assert all(loss.isfinite() and loss >= 0 and loss.dtype == torch.float32 for loss in losses.values())
        torch.stack(list(losses.values())).sum().backward()
        gradients = {name: p.grad for name, p in detector.named_parameters()}
        assert not [name for name, grad in gradients.items() if grad is None or not grad.isfinite().all()]


@pytest.mark.slow
def test_no_gradient_flows_from_a_head_to_the_boxes_before() -> None:
    torch.manual_seed(0)
    detector, batch = CascadeRCNN(3, CascadeRCNNOptions(**SMALL)), batch_of(HARD["the same"], (96, 96))
    losses = losses_of(detector, detector(images_of(batch)), batch)
    (losses["classification_3"] + losses["box_3"]).backward()
    with_gradient = {name.split(".")[1] for name, p in detector.roi_heads.named_parameters("heads") if grad_of(p)}
    assert with_gradient == {"2"}


def grad_of(parameter: Tensor) -> bool:
    return parameter.grad is not None and bool(parameter.grad.any())


@pytest.mark.parametrize("places", [slice(None), 2])
def test_a_network_that_has_diverged_has_no_finite_loss(places: Any) -> None:
    """A box that is no number is no region, instead of one of a level that there is not; the losses tell."""
    torch.manual_seed(0)
    detector, batch = CascadeRCNN(3, CascadeRCNNOptions(**SMALL)), batch_of([[((10, 10, 50, 46), 1)]], (64, 64))
    with torch.no_grad():
        detector._heads[0].box_predictor["bbox_pred"].bias[places] = float("nan")  # pyright: ignore
    losses = losses_of(detector, detector(images_of(batch)), batch)
    assert any(loss.isnan() for loss in losses.values())

"""Faster R-CNN on a feature pyramid: proposals first, then a class and a better box for each.

Papers: Ren et al. 2015, https://arxiv.org/abs/1506.01497; Lin et al. 2016, https://arxiv.org/abs/1612.03144; with
pyramid="detnet" and the backbone detnet59: Li et al. 2018, https://arxiv.org/abs/1804.06215.
Reference: torchvision, whose key names these are; with `FasterRCNNOptions.torchvision()` this is its
`fasterrcnn_resnet50_fpn`.
Deviations from torchvision: each image's losses are divided by the number of its own samples, and the mean is taken
over the images; torchvision divides by the samples of all images of a process together, which is the same unless some
image has too few proposals to fill its sample. That number would be known too late for the parts of a global batch to
share it.
Deviations from DetNet_Pytorch of 2018: proposals level by level, ranked by the same logits that are trained; the
sample is filled up with background whatever the number of positives; each image is clipped to its own size; nothing
is scored where there is no proposal; anchors at the border learn; ignored regions; boxes without a stray 1.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from public.backbones.features import Features
from public.datasets.batches import DetectionBatch, ImageSizes
from public.detectors.anchor_matching import AnchorTargets
from public.detectors.detector import Detections, Detector
from public.detectors.faster_rcnn.decode import decode
from public.detectors.faster_rcnn.options import TwoStageOptions
from public.detectors.faster_rcnn.proposals import RegionProposals
from public.detectors.faster_rcnn.regions import (
    RegionHead,
    Regions,
    RegionTargets,
    Stage,
    are_objects,
    match_regions,
    regions_of,
)
from public.detectors.faster_rcnn.sampling import balanced_sample, draws
from public.detectors.postprocess import rows_at
from public.detectors.pyramid import PyramidBackbone
from public.geometry.fixed_shapes import Chosen
from public.geometry.labels import PADDING
from public.weights.class_rows import ClassRows

POSITIVE_FRACTION = 0.25
"""Of the sampled regions, at most."""
_PURPOSE = 1
"""Of the draws; those of the proposals' network are 0."""


class FasterRCNNOutputs(NamedTuple):
    """Raw outputs; the second stage follows in `loss` and `decode`, which choose its regions."""

    maps: tuple[Tensor, ...]
    """float [B, channels, H, W] of each level of the pyramid."""
    objectness: tuple[Tensor, ...]
    """Logits [B, H, W, A] of each level."""
    box_deltas: tuple[Tensor, ...]
    """float [B, H, W, A, 4] of each level, see `encode_boxes`."""
    canvas_size: tuple[int, int]
    """Height and width of the images in pixels."""


class FasterRCNNTargets(NamedTuple):
    """What the anchors of each image learn, and what the regions do, which are known only when proposals are."""

    labels: Tensor
    """int64 [B, N]: each anchor's class, BACKGROUND or IGNORED."""
    boxes: Tensor
    """float32 [B, N, 4]: the boxes of the objects that the anchors with a class learn; 0 for the others."""
    object_boxes: Tensor
    """float32 [B, M, 4]: those of the batch; M is at least 1."""
    object_labels: Tensor
    """int64 [B, M]: those of the batch."""
    content_sizes: Tensor
    """int64 [B, 2], see `ImageSizes`: proposals end there."""
    seeds: Tensor
    """int64 [B]: of the draws of anchors and regions."""


class FasterRCNN(Detector):
    """Faster R-CNN on a feature pyramid, three anchors a cell.

    Args:
        num_classes: object classes; background is none of them.
        options: see there.

    Raises:
        ValueError: no such backbone, or one without the levels.
    """

    stages: ClassVar[tuple[Stage, ...]] = (Stage(0.5, (10.0, 10.0, 5.0, 5.0), 1.0),)
    """The heads, in their order."""
    class_prefixes = ("roi_heads.box_predictor.",)
    loss_names = ("objectness", "proposal", "classification", "box")

    def __init__(self, num_classes: int, options: TwoStageOptions) -> None:
        super().__init__()
        assert options.has_one_box or len(self.stages) == 1, "the heads of a cascade hand one box on"
        self.options = options
        self.backbone = PyramidBackbone(
            options.backbone,
            options.levels,
            channels=options.channels,
            extra="pool",
            pyramid=options.pyramid,
            frozen_stages=options.frozen_stages,
            frozen_batch_norm=options.frozen_batch_norm,
            batch_norm_eps=options.batch_norm_eps,
        )
        numbers = [int(level[1:]) for level in options.levels]
        self.rpn = RegionProposals(self.backbone.strides, numbers, options)
        strides = zip(numbers, self.backbone.strides, strict=True)
        with_regions = {number: stride for number, stride in strides if number < 6}
        heads = [RegionHead(with_regions, num_classes, stage, options) for stage in self.stages]
        self.roi_heads = heads[0] if len(heads) == 1 else nn.ModuleList(heads)

    @property
    def class_rows(self) -> Mapping[str, ClassRows]:
        """Background first; boxes of their own, where the classes have such."""
        boxes = {} if self.options.has_one_box else {"bbox_pred.": ClassRows(background=1, width=4)}
        layers = {"cls_score.": ClassRows(background=1)} | boxes
        return {f"{prefix}{layer}": rows for prefix in self.class_prefixes for layer, rows in layers.items()}

    @property
    def body(self) -> Features:
        """The backbone, which classification weights fit."""
        return self.backbone.body

    @property
    def decode_macs(self) -> int:
        """Those of the heads' linear layers on all proposals that an image may have."""
        return self.options.num_proposals[1] * sum(p.numel() for p in self.roi_heads.parameters() if p.ndim == 2)

    def forward(self, images: Tensor) -> FasterRCNNOutputs:
        """Normalized images float [B, 3, H, W] -> raw outputs."""
        maps = tuple(self.backbone(images))
        objectness, box_deltas = self.rpn(maps)
        return FasterRCNNOutputs(maps, objectness, box_deltas, (images.shape[-2], images.shape[-1]))

    @torch.no_grad()
    def targets(self, batch: DetectionBatch) -> FasterRCNNTargets:
        """What each anchor learns, and what is needed to say it of each region."""
        labels, boxes = self.rpn.targets(batch)
        missing = 0 if batch.labels.shape[1] else 1  # a region's best object is asked for even where there is none
        object_boxes = F.pad(batch.boxes.float(), (0, 0, 0, missing))
        object_labels = F.pad(batch.labels, (0, missing), value=PADDING)
        return FasterRCNNTargets(labels, boxes, object_boxes, object_labels, batch.content_sizes, batch.seeds)

    def counts(self, targets: FasterRCNNTargets) -> Tensor:
        """float32 [B, 1]: 1 for each image."""
        return torch.ones(len(targets.labels), 1, device=targets.labels.device)

    def loss(
        self, outputs: FasterRCNNOutputs, targets: FasterRCNNTargets, normalizer: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The losses of the sampled anchors and, from the second stage, those of the sampled regions.

        Each is the mean over the images of a sum divided by the number of samples of the image: cross-entropy of
        object or not, smooth L1 of the positive anchors' boxes; then for each head cross-entropy of the classes, smooth
        L1 of the positive regions' boxes. See `Detector.loss`.
        """
        if normalizer is None:
            normalizer = self.normalizer(targets)
        anchors = self.rpn.anchors(outputs.canvas_size, targets.boxes.device)
        of_anchors = AnchorTargets(targets.labels, targets.boxes)
        sums = list(self.rpn.losses(outputs.objectness, outputs.box_deltas, anchors, of_anchors, targets.seeds))
        boxes, exist = self._sample(outputs, targets)  # [B, R, 4], [B, R]
        chosen = Chosen(exist)  # n of them
        regions = regions_of(boxes, chosen)
        weights = chosen.of_images(1 / exist.sum(1).clamp(min=1))  # [n]
        for head, own, logits, deltas in self._in_turn(outputs.maps, regions, targets.content_sizes):
            boxes = chosen.back(own.boxes)  # [B, R, 4]
            learned = match_regions(boxes, exist, targets.object_boxes, targets.object_labels, head.stage.iou)
            learned = RegionTargets(chosen.of(learned.labels), chosen.of(learned.boxes))
            sums += head.losses(logits, deltas, own, learned, weights)
        return {name: value / normalizer[0] for name, value in zip(self.loss_names, sums, strict=True)}

    def decode(self, outputs: FasterRCNNOutputs, sizes: ImageSizes) -> Detections:
        """The second stage on the proposals, and its detections in the original images.

        Of several heads the boxes are those of the last, the scores the mean of theirs.
        """
        _, objectness, box_deltas, canvas_size = outputs
        proposals = self.rpn.propose(objectness, box_deltas, canvas_size, sizes.content, training=False)
        exist = proposals.anchors != PADDING  # [B, R]
        said = list(self._in_turn(outputs.maps, regions_of(proposals.boxes, Chosen(exist)), sizes.content))
        mean = torch.stack([logits.softmax(dim=1) for _, _, logits, _ in said]).mean(dim=0)  # [n, 1 + num_classes]
        last, regions, _, deltas = said[-1]
        return decode(mean, deltas, regions, exist, last.stage.box_weights, sizes, self.options)

    def _in_turn(
        self, maps: Sequence[Tensor], regions: Regions, content_sizes: Tensor
    ) -> Iterator[tuple[RegionHead, Regions, Tensor, Tensor]]:
        """Each head with its regions, which are the boxes of the one before, and its logits and deltas for them."""
        first = self._heads[0]
        logits, deltas = first(maps, regions)
        yield first, regions, logits, deltas
        for before, head in pairwise(self._heads):
            regions = before.refine(deltas, regions, content_sizes)
            logits, deltas = head(maps, regions)
            yield head, regions, logits, deltas

    @property
    def _heads(self) -> list[RegionHead]:
        heads = self.roi_heads if isinstance(self.roi_heads, nn.ModuleList) else [self.roi_heads]
        return cast(list[RegionHead], list(heads))

    @torch.no_grad()
    def _sample(self, outputs: FasterRCNNOutputs, targets: FasterRCNNTargets) -> tuple[Tensor, Tensor]:
        """The regions to learn from, some of the proposals and of the objects themselves.

        Returns:
            float32 [B, R, 4], and bool [B, R], whether there is such a one.
        """
        _, objectness, box_deltas, canvas_size = outputs
        object_boxes, object_labels = targets.object_boxes, targets.object_labels
        proposals = self.rpn.propose(objectness, box_deltas, canvas_size, targets.content_sizes, training=True)
        boxes = torch.cat([proposals.boxes, object_boxes], dim=1)  # [B, R', 4]
        exist = torch.cat([proposals.anchors != PADDING, are_objects(object_boxes, object_labels)], dim=1)  # [B, R']
        # Objects have numbers that no anchor has, so that each keeps its draw whatever else is proposed.
        rows = torch.arange(object_boxes.shape[1], device=boxes.device).expand_as(object_labels)
        numbers = torch.cat([proposals.anchors, PADDING - 1 - rows], dim=1)  # [B, R']
        labels = match_regions(boxes, exist, object_boxes, object_labels, self.stages[0].iou).labels
        places, taken = balanced_sample(
            labels,
            draws(targets.seeds, _PURPOSE, numbers),
            size=self.options.roi_samples,
            positive_fraction=POSITIVE_FRACTION,
        )
        return rows_at(boxes, places), taken

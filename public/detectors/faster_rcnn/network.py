"""Faster R-CNN on a feature pyramid: proposals first, then a class and a better box for each.

Papers: Ren et al. 2015, https://arxiv.org/abs/1506.01497; Lin et al. 2016, https://arxiv.org/abs/1612.03144; with
pyramid="detnet" and the backbone detnet59: Li et al. 2018, https://arxiv.org/abs/1804.06215.
Referee: torchvision, whose key names these are; with the options `TORCHVISION` this is its `fasterrcnn_resnet50_fpn`.
Deviations from torchvision: each image's losses are divided by the number of its own samples, and the mean is taken
over the images; torchvision divides by the samples of all images of a process together, which is the same unless some
image has too few proposals to fill its sample. That number would be known too late for the parts of a global batch to
share it.
Deviations from DetNet_Pytorch of 2018: proposals level by level, ranked by the same logits that are trained; the
sample is filled up with background whatever the number of positives; each image is clipped to its own size; nothing
is scored where there is no proposal; anchors at the border learn; ignored regions; boxes without a stray 1.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn

from public.backbones.features import Features
from public.config.checks import require, require_one_of
from public.datasets.batches import PADDING, DetectionBatch, ImageSizes
from public.detectors.detector import Detections, Detector
from public.detectors.faster_rcnn.decode import DecodeOptions, decode
from public.detectors.faster_rcnn.proposals import RegionProposals, RPNOptions
from public.detectors.faster_rcnn.regions import (
    PoolOptions,
    RegionHead,
    Regions,
    RegionTargets,
    Stage,
    are_objects,
    match_regions,
)
from public.detectors.faster_rcnn.sampling import balanced_sample, draws
from public.detectors.postprocess import SoftNMS
from public.detectors.pyramid import Pyramid, PyramidBackbone
from public.detectors.targets import not_compiled
from public.geometry.anchors import AnchorLayout

TORCHVISION: dict[str, Any] = {"anchors": "torchvision", "aligned": False}
"""The options that make this torchvision's `fasterrcnn_resnet50_fpn`, of whose 91 classes one is background."""

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
    box_codes: tuple[Tensor, ...]
    """float [B, H, W, A, 4] of each level, see `encode_boxes`."""
    canvas_size: tuple[int, int]
    """Height and width of the images in pixels."""


class FasterRCNN(Detector):
    """Faster R-CNN on a feature pyramid, three anchors a cell.

    Args:
        num_classes: object classes; background is none of them.
        backbone: a name from `public.backbones.catalog`, with the levels that the pyramid's need.
        frozen_stages: levels of the backbone, from the stem on, that do not train.
        frozen_batch_norm: whether the backbone's batch norms keep statistics and weights.
        batch_norm_eps: what they add to a variance; None: 1e-5. torchvision trained its COCO_V1 weights with 0.
        channels: of the pyramid and the proposals' network.
        pyramid: the standard one, or DetNet's: see `public.detectors.pyramid`.
        levels: of the pyramid; p6 comes from the backbone's c6 or else from p5, and has proposals, but no regions.
        anchor_sizes: of each level, pixels: the square root of an anchor's area. None: 32 at p2, 64 at p3, ...
        anchors: see `pyramid_anchors`.
        rpn_samples: anchors of an image that a training step learns from.
        num_candidates: boxes of a level that take part in the suppression, in training and afterwards.
        num_proposals: of an image, in training and afterwards.
        roi_samples: regions of an image that a training step learns from.
        pool_size: rows and columns that are cut out of the pyramid for each region.
        sampling_ratio: samples of each of their cells in each direction; 0: as many as the region has pixels there.
        aligned: whether regions are read where they are, or half a pixel of their map off (as torchvision does).
        head_channels: of the two hidden layers.
        class_agnostic: one box for a region instead of one for each class. None: not so; in a cascade always.
        smooth_l1_beta: error from which on the losses of boxes grow linearly; 0: at once.
        score_threshold: detections with a lower score are left out.
        iou_threshold: of two boxes of one class with a higher overlap, the weaker goes.
        soft_nms: instead, the weaker loses some of its score, see `soft_suppress`; "linear" by the same threshold.
        soft_nms_sigma: of "gaussian".
        max_detections: of an image.

    Raises:
        ValueError: a value out of range, or no such backbone or levels.
    """

    stages: ClassVar[tuple[Stage, ...]] = (Stage(0.5, (10.0, 10.0, 5.0, 5.0), 1.0),)
    """The heads, in their order."""
    class_prefixes = ("roi_heads.box_predictor.",)
    loss_names = ("objectness", "proposal", "classification", "box")

    def __init__(
        self,
        num_classes: int,
        *,
        backbone: str = "resnet50",
        frozen_stages: int = 0,
        frozen_batch_norm: bool = False,
        batch_norm_eps: float | None = None,
        channels: int = 256,
        pyramid: Pyramid = "standard",
        levels: Sequence[str] = ("p2", "p3", "p4", "p5", "p6"),
        anchor_sizes: Sequence[float] | None = None,
        anchors: AnchorLayout = "centred",
        rpn_samples: int = 256,
        num_candidates: tuple[int, int] = (2000, 1000),
        num_proposals: tuple[int, int] = (2000, 1000),
        roi_samples: int = 512,
        pool_size: int = 7,
        sampling_ratio: int = 2,
        aligned: bool = True,
        head_channels: int = 1024,
        class_agnostic: bool | None = None,
        smooth_l1_beta: float = 1 / 9,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        soft_nms: SoftNMS | None = None,
        soft_nms_sigma: float = 0.5,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        require(channels >= 1, f"channels={channels} must be 1 or more.")
        require(head_channels >= 1, f"head_channels={head_channels} must be 1 or more.")
        require(roi_samples >= 4, f"roi_samples={roi_samples} must be 4 or more.")
        require_one_of("pyramid", pyramid, get_args(Pyramid))
        require_one_of("anchors", anchors, get_args(AnchorLayout))
        one_box = len(self.stages) > 1 if class_agnostic is None else class_agnostic
        require(one_box or len(self.stages) == 1, "class_agnostic=False: the heads of a cascade hand one box on.")
        proposal_options = RPNOptions(rpn_samples, num_candidates, num_proposals, smooth_l1_beta)
        pool = PoolOptions(pool_size, sampling_ratio, aligned)
        self.decode_options = DecodeOptions(score_threshold, iou_threshold, soft_nms, soft_nms_sigma, max_detections)
        for options in (proposal_options, pool, self.decode_options):
            options.check()
        self.backbone = PyramidBackbone(
            backbone,
            tuple(levels),
            channels=channels,
            extra="pool",
            pyramid=pyramid,
            frozen_stages=frozen_stages,
            frozen_batch_norm=frozen_batch_norm,
            batch_norm_eps=batch_norm_eps,
        )
        strides, numbers = self.backbone.strides, [int(level[1:]) for level in levels]
        sizes = _anchor_sizes(anchor_sizes, numbers)
        self.rpn = RegionProposals(channels, strides, sizes, anchors, proposal_options)
        heads = [
            RegionHead(
                {number: stride for number, stride in zip(numbers, strides, strict=True) if number < 6},
                channels,
                head_channels,
                num_classes,
                class_agnostic=one_box,
                pool=pool,
                stage=stage,
                smooth_l1_beta=smooth_l1_beta,
            )
            for stage in self.stages
        ]
        self.roi_heads = heads[0] if len(heads) == 1 else nn.ModuleList(heads)
        self.roi_samples = roi_samples

    @property
    def body(self) -> Features:
        """The backbone, which classification weights fit."""
        return self.backbone.body

    @property
    def decode_macs(self) -> int:
        """Those of the heads' linear layers on all proposals that an image may have."""
        return self.rpn.options.num_proposals[1] * sum(p.numel() for p in self.roi_heads.parameters() if p.ndim == 2)

    def forward(self, images: Tensor) -> FasterRCNNOutputs:
        """Normalised images float [B, 3, H, W] -> raw outputs."""
        maps = tuple(self.backbone(images))
        objectness, box_codes = self.rpn(maps)
        return FasterRCNNOutputs(maps, objectness, box_codes, (images.shape[-2], images.shape[-1]))

    def normalisers(self, batch: DetectionBatch) -> Tensor:
        """float32 [1]: the number of images."""
        return torch.full((1,), len(batch.images), dtype=torch.float32, device=batch.boxes.device)

    @not_compiled
    def loss(
        self, outputs: FasterRCNNOutputs, batch: DetectionBatch, normalisers: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The losses of the sampled anchors and, from the second stage, those of the sampled regions.

        Each is the mean over the images of a sum divided by the number of samples of the image: cross-entropy of
        object or not, smooth L1 of the positive anchors' boxes; then for each head cross-entropy of the classes, smooth
        L1 of the positive regions' boxes. See `Detector.loss`.
        """
        sums = list(self.rpn.losses(outputs.objectness, outputs.box_codes, batch))
        boxes, exist = self._sample(outputs, batch)  # [B, R, 4], [B, R]
        regions = Regions(boxes[exist], torch.nonzero(exist)[:, 0])  # n of them
        weights = (1 / exist.sum(1).clamp(min=1))[regions.images]  # [n]
        for head, own, logits, codes in self._in_turn(outputs.maps, regions, batch.sizes):
            boxes = torch.zeros_like(boxes).masked_scatter_(exist[..., None], own.boxes)
            targets = match_regions(boxes, exist, batch, head.stage.iou)
            targets = RegionTargets(targets.labels[exist], targets.boxes[exist])
            sums += head.losses(logits, codes, own, targets, weights)
        normaliser = len(batch.images) if normalisers is None else normalisers[0]
        return {name: value / normaliser for name, value in zip(self.loss_names, sums, strict=True)}

    @not_compiled
    def decode(self, outputs: FasterRCNNOutputs, sizes: ImageSizes) -> Detections:
        """The second stage on the proposals, and its detections in the original images.

        Of several heads the boxes are those of the last, the scores the mean of theirs.
        """
        _, objectness, box_codes, canvas_size = outputs
        proposals = self.rpn.propose(objectness, box_codes, canvas_size, sizes, training=False)
        images, rows = torch.nonzero(proposals.anchors != PADDING, as_tuple=True)  # [n] each
        said = list(self._in_turn(outputs.maps, Regions(proposals.boxes[images, rows], images), sizes))
        mean = torch.stack([logits.softmax(dim=1) for _, _, logits, _ in said]).mean(dim=0)  # [n, 1 + num_classes]
        last, regions, _, codes = said[-1]
        return decode(mean, codes, regions, last.stage.box_weights, sizes, self.decode_options)

    def _in_turn(
        self, maps: Sequence[Tensor], regions: Regions, sizes: ImageSizes
    ) -> Iterator[tuple[RegionHead, Regions, Tensor, Tensor]]:
        """Each head with its regions, which are the boxes of the one before, and its logits and codes for them."""
        first = self._heads[0]
        logits, codes = first(maps, regions)
        yield first, regions, logits, codes
        for before, head in pairwise(self._heads):
            regions = before.refine(codes, regions, sizes)
            logits, codes = head(maps, regions)
            yield head, regions, logits, codes

    @property
    def _heads(self) -> list[RegionHead]:
        heads = self.roi_heads if isinstance(self.roi_heads, nn.ModuleList) else [self.roi_heads]
        return cast(list[RegionHead], list(heads))

    @torch.no_grad()
    def _sample(self, outputs: FasterRCNNOutputs, batch: DetectionBatch) -> tuple[Tensor, Tensor]:
        """The regions to learn from, some of the proposals and of the objects themselves.

        Returns:
            float32 [B, R, 4], and bool [B, R], whether there is such a one.
        """
        _, objectness, box_codes, canvas_size = outputs
        proposals = self.rpn.propose(objectness, box_codes, canvas_size, batch.sizes, training=True)
        boxes = torch.cat([proposals.boxes, batch.boxes.float()], dim=1)  # [B, R', 4]
        exist = torch.cat([proposals.anchors != PADDING, are_objects(batch)], dim=1)  # [B, R']
        # Objects have numbers that no anchor has, so that each keeps its draw whatever else is proposed.
        rows = torch.arange(batch.boxes.shape[1], device=boxes.device).expand_as(batch.labels)
        numbers = torch.cat([proposals.anchors, PADDING - 1 - rows], dim=1)  # [B, R']
        labels = match_regions(boxes, exist, batch, self.stages[0].iou).labels
        places, taken = balanced_sample(
            labels, draws(batch.seeds, _PURPOSE, numbers), size=self.roi_samples, positive_fraction=POSITIVE_FRACTION
        )
        return boxes.gather(1, places[..., None].expand(-1, -1, 4)), taken


def _anchor_sizes(sizes: Sequence[float] | None, numbers: Sequence[int]) -> tuple[float, ...]:
    if sizes is None:
        return tuple(8.0 * 2**number for number in numbers)
    require(
        len(sizes) == len(numbers) and min(sizes) > 0,
        f"anchor_sizes={tuple(sizes)} must be {len(numbers)} numbers greater than 0, one for each level.",
    )
    return tuple(map(float, sizes))

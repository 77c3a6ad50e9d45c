"""Faster R-CNN with ResNet-50 on COCO 2017, short side 640 to 800: the 1x recipe of detectron2.

Papers: Ren et al. 2015, https://arxiv.org/abs/1506.01497; Lin et al. 2016, https://arxiv.org/abs/1612.03144. Recipe and
number: detectron2's faster_rcnn_R_50_FPN_1x, 8 GPUs with 2 images each, 90,000 steps: AP 37.9 on val2017.

    python train.py

Deviations from detectron2: torchvision's ResNet-50 (stride on the 3x3 convolutions) with torchvision's weights, where
theirs are the MSRA's; 12 epochs, which are 88,700 steps; the short side is drawn for a batch, where theirs is drawn for
an image; images without objects take part, as background; anchors lie around the middles of their cells, where theirs
lie at the corners. Precision is bf16 where the device is faster in it.
"""

from public.config.calls import SIZE, Call, Scaled
from public.config.detection import DetectionConfig
from public.datasets.coco import CocoData
from public.detectors.faster_rcnn.options import FasterRCNNOptions
from public.optim.options import MultistepOptions, SGDOptions
from public.transforms.detection import RandomHorizontalFlip, RandomShortSideResize, ShortSideResize

CONFIGS = {
    "resnet50_faster_rcnn": DetectionConfig(
        name="resnet50_faster_rcnn",
        backbone_weights="torchvision:resnet50.IMAGENET1K_V1",
        epochs=12,
        batch_size=16,
        evaluate_every=2,
        best_metric="AP",
        detector=FasterRCNNOptions(
            backbone="resnet50",
            frozen_stages=2,
            frozen_batch_norm=True,
            num_proposals=(1000, 1000),
            sampling_ratio=0,
            smooth_l1_beta=0.0,
        ),
        data=CocoData(
            folder="COCO2017",
            input_size=800,
            train_splits=("train2017",),
            val_splits=("val2017",),
            train_transforms=(
                Call(RandomHorizontalFlip),
                Call(
                    RandomShortSideResize,
                    shorts=(
                        Scaled(640, of=800),
                        Scaled(672, of=800),
                        Scaled(704, of=800),
                        Scaled(736, of=800),
                        Scaled(768, of=800),
                        SIZE,
                    ),
                    long_cap=Scaled(1333, of=800),
                ),
            ),
            val_transforms=(Call(ShortSideResize, short=SIZE, long_cap=Scaled(1333, of=800)),),
            group_by_aspect=0,
        ),
        optimizer=SGDOptions(lr=0.02, momentum=0.9, weight_decay=1e-4),
        schedule=MultistepOptions(warmup_epochs=0.135, milestones=(8, 10.667), gamma=0.1),
    )
}

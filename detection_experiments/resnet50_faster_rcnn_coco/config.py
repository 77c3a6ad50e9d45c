"""Faster R-CNN with ResNet-50 on COCO 2017, short side 640 to 800: the 1x recipe of detectron2.

Papers: Ren et al. 2015, https://arxiv.org/abs/1506.01497; Lin et al. 2016, https://arxiv.org/abs/1612.03144. Recipe and
number: detectron2's faster_rcnn_R_50_FPN_1x, 8 GPUs with 2 images each, 90,000 steps: AP 37.9 on val2017.

    python train.py

Deviations from detectron2: torchvision's ResNet-50 (stride on the 3x3 convolutions) with torchvision's weights, where
theirs are the MSRA's; 12 epochs, which are 88,700 steps; the short side is drawn for a batch, where theirs is drawn for
an image; images without objects take part, as background; anchors lie around the middles of their cells, where theirs
lie at the corners. Precision is bf16 where the device has it.
"""

from public.config.detection import DetectionConfig, DetectionDataConfig, DetectorConfig
from public.config.sections import OptimizerConfig, ScheduleConfig
from public.transforms.detection import RandomHorizontalFlip, RandomShortSideResize, ShortSideResize

CONFIGS = {
    "resnet50_faster_rcnn": DetectionConfig(
        name="resnet50_faster_rcnn",
        network="faster_rcnn",
        backbone_weights="torchvision:resnet50.IMAGENET1K_V1",
        canvas_size=(800, 1066),
        epochs=12,
        batch_size=16,
        evaluate_every=2,
        best_metric="AP",
        detector=DetectorConfig(
            backbone="resnet50",
            frozen_stages=2,
            frozen_batch_norm=True,
            num_proposals=(1000, 1000),
            sampling_ratio=0,
            smooth_l1_beta=0.0,
        ),
        data=DetectionDataConfig(
            dataset="coco",
            folder="COCO2017",
            train_splits=("train2017",),
            val_splits=("val2017",),
            train_transforms=(
                RandomHorizontalFlip(),
                RandomShortSideResize(shorts=(640, 672, 704, 736, 768, 800), long_cap=1333),
            ),
            val_transforms=(ShortSideResize(short=800, long_cap=1333),),
            group_by_aspect=0,
        ),
        optimizer=OptimizerConfig(name="sgd", lr=0.02, momentum=0.9, weight_decay=1e-4),
        schedule=ScheduleConfig(kind="multistep", warmup_epochs=0.135, milestones=(8, 10.667), gamma=0.1),
    )
}

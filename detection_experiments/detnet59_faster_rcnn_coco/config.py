"""Faster R-CNN with DetNet-59 and DetNet's pyramid on COCO 2017, short side 640 to 800.

Paper: Li et al. 2018, https://arxiv.org/abs/1804.06215. An open point of DetNet_Pytorch when its tables were published;
a later state of it reports AP 36.0 on COCO 2017 (batches of 4, learning rate 4e-3, 11 epochs with every image mirrored
too, short side 800).

    python train.py

The backbone starts from the best weights of our own imagenet_experiments/detnet59_imagenet, which has to be trained
first, or from --backbone-weights FILE.

The recipe is that of ../resnet50_faster_rcnn_coco, so that the two backbones compare. Deviations from detectron2: those
of that experiment; from DetNet_Pytorch: all else, see ../detnet59_faster_rcnn_voc for its defects.
"""

from public.config.detection import DetectionConfig, DetectionDataConfig, DetectorConfig
from public.config.sections import OptimizerConfig, ScheduleConfig
from public.transforms.detection import RandomHorizontalFlip, RandomShortSideResize, ShortSideResize

CONFIGS = {
    "detnet59_faster_rcnn": DetectionConfig(
        name="detnet59_faster_rcnn",
        network="faster_rcnn",
        backbone_weights="../../imagenet_experiments/detnet59_imagenet/runs/detnet59/checkpoints/best.pth",
        canvas_size=(800, 1066),
        epochs=12,
        batch_size=16,
        evaluate_every=2,
        best_metric="AP",
        detector=DetectorConfig(
            backbone="detnet59",
            frozen_stages=2,
            frozen_batch_norm=True,
            pyramid="detnet",
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

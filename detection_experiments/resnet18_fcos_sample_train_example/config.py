"""Ten kinds of generated shapes with FCOS on ResNet-18: a whole detection run that two CPU cores can do.

It starts from the weights of the classification run on the same shapes. From the repository:

    python -m public.datasets.sample --root data/sample
    (cd imagenet_experiments/resnet_sample_train_example && DATA_ROOT=data/sample python train.py)
    cd detection_experiments/resnet18_fcos_sample_train_example
    DATA_ROOT=data/sample python train.py

No number has been measured with this recipe yet. The images are drawn by public/datasets/sample.py.
"""

from public.config.detection import DetectionConfig, DetectionDataConfig, DetectorConfig
from public.config.sections import OptimizerConfig, RuntimeConfig, ScheduleConfig
from public.transforms.detection import RandomCrop, RandomHorizontalFlip, RandomTranslate, SquareResize

CONFIGS = {
    "resnet18_fcos": DetectionConfig(
        name="resnet18_fcos",
        network="faster_rcnn",
        num_classes=10,
        backbone_weights="../../imagenet_experiments/resnet_sample_train_example/runs/resnet18/checkpoints/best.pth",
        canvas_size=(160, 160),
        epochs=8,
        batch_size=8,
        clip_grad_norm=10.0,
        ema_decay=0.99,
        evaluate_every=2,
        best_metric="AP50",
        detector=DetectorConfig(backbone="resnet18", levels=("p3", "p4", "p5"), channels=96, frozen_stages=2, anchor_sizes=(32.0, 64.0, 96.0), rpn_samples=64, num_candidates=(200, 100), num_proposals=(100, 50), roi_samples=64, head_channels=256, class_agnostic=True),
        data=DetectionDataConfig(
            dataset="coco",
            folder="COCO2017",
            train_splits=("train2017",),
            val_splits=("val2017",),
            train_transforms=(RandomHorizontalFlip(), SquareResize(size=160)),
            val_transforms=(SquareResize(size=160),),
        ),
        optimizer=OptimizerConfig(name="adamw", lr=1e-3, weight_decay=0.01, decay_norm_and_bias=False),
        schedule=ScheduleConfig(kind="cosine", warmup_epochs=1),
        runtime=RuntimeConfig(num_workers=2, log_every=10),
    )
}

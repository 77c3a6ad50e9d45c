"""Ten kinds of generated shapes with FCOS: whole detection runs that two CPU cores do in two minutes and in seven.

They start from the weights of the classification run of the same network on the same shapes; by hand, from the
repository:

    python -m public.datasets.sample --root data/sample
    (cd imagenet_experiments/resnet_sample_train_example && DATA_ROOT=data/sample python train.py)
    cd detection_experiments/resnet18_fcos_sample_train_example
    DATA_ROOT=data/sample python train.py

    row                  starts from, in ../../imagenet_experiments/resnet_sample_train_example
    resnet18_fcos        resnet18        the default
    darknet_tiny_fcos    darknet_tiny    a quarter of the arithmetic; `quickstart.sh` runs it

Expected: AP50 of at least 0.80, of darknet_tiny_fcos 0.70, on the validation images. They are drawn by
public/datasets/sample.py.

Deviations from the paper (https://arxiv.org/abs/1904.01355): three levels, two convolutions of 96 channels (of
darknet_tiny_fcos 64) in each tower; a focal loss that weighs the classes of the objects more (alpha 0.6, gamma 1),
because 800 steps are few.
"""

from dataclasses import replace

from public.config.calls import SIZE, Call
from public.config.detection import DetectionConfig
from public.config.run import RuntimeConfig
from public.datasets.coco import CocoData
from public.detectors.fcos.options import FCOSOptions
from public.optim.options import AdamWOptions, CosineOptions
from public.transforms.detection import RandomHorizontalFlip, SquareResize

SAMPLE_RUNS = "../../imagenet_experiments/resnet_sample_train_example/runs"

RESNET = DetectionConfig(
    name="resnet18_fcos",
    num_classes=10,
    backbone_weights=f"{SAMPLE_RUNS}/resnet18/checkpoints/best.pth",
    epochs=7,
    batch_size=8,
    clip_grad_norm=10.0,
    ema_decay=0.99,
    evaluate_every=4,
    best_metric="AP50",
    detector=FCOSOptions(
        backbone="resnet18",
        frozen_stages=2,
        levels=("p3", "p4", "p5"),
        channels=96,
        num_convs=2,
        focal_alpha=0.6,
        focal_gamma=1.0,
    ),
    data=CocoData(
        folder="COCO2017",
        input_size=160,
        train_splits=("train2017",),
        val_splits=("val2017",),
        train_transforms=(Call(RandomHorizontalFlip), Call(SquareResize, size=SIZE)),
        val_transforms=(Call(SquareResize, size=SIZE),),
    ),
    optimizer=AdamWOptions(lr=1e-3, weight_decay=0.01, decay_norm_and_bias=False),
    schedule=CosineOptions(warmup_epochs=1),
    runtime=RuntimeConfig(num_workers=2, log_every=20),
)

CONFIGS = {
    "resnet18_fcos": RESNET,
    "darknet_tiny_fcos": replace(
        RESNET,
        name="darknet_tiny_fcos",
        backbone_weights=f"{SAMPLE_RUNS}/darknet_tiny/checkpoints/best.pth",
        channels_last=True,
        detector=replace(RESNET.detector, backbone="darknet_tiny", channels=64),
    ),
}

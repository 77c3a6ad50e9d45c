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

from public.config.calls import SIZE, Call, Scaled
from public.config.detection import DetectionConfig
from public.datasets.coco import CocoData
from public.detectors.faster_rcnn.options import FasterRCNNOptions
from public.optim.options import MultistepOptions, SGDOptions
from public.transforms.detection import RandomHorizontalFlip, RandomShortSideResize, ShortSideResize

CONFIGS = {
    "detnet59_faster_rcnn": DetectionConfig(
        name="detnet59_faster_rcnn",
        backbone_weights="../../imagenet_experiments/detnet59_imagenet/runs/detnet59/checkpoints/best.pth",
        epochs=12,
        batch_size=16,
        evaluate_every=2,
        best_metric="AP",
        channels_last=True,
        detector=FasterRCNNOptions(
            backbone="detnet59",
            frozen_stages=2,
            frozen_batch_norm=True,
            pyramid="detnet",
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

"""FCOS with ResNet-50 on COCO 2017 at 1000 x 1000.

Paper: Tian et al. 2019, https://arxiv.org/abs/1904.01355. Recipe and numbers: the 2020 monorepo,
four RTX 2080 Ti, mixed precision:

    epoch   AP     AR (100)  training loss
    12      0.352  0.490     1.03
    24      0.352  0.491     1.01

The same recipe with some of these defects mended a month later: AP 0.361.

    python train.py

It starts from the best weights of the 667 experiment beside it, which has to be trained first; or give
--initial-weights FILE, or --initial-weights None --backbone-weights torchvision:resnet50.

The whole image is scaled so that its long side is 1000 and laid into the top left corner of a square of that size;
with 1000 this costs about what the papers' short side of 600 does.

Deviations from 2020, each a defect there: pixels are normalized with ImageNet's mean and std, as the backbone's
weights expect, and empty canvas is the mean pixel; random crops cut any side; the losses divide by the positives of
the global batch (images without objects count as background); GIoU without the stray +1; weight decay leaves out
norms and biases; the learning rate is constant where theirs waited for a plateau of the training loss that 12 epochs
never reached; every class over the threshold is a detection, suppressed class by class, in float pixels. Precision is
bf16 where the device is faster in it.
"""

from public.config.calls import SIZE, Call
from public.config.detection import DetectionConfig
from public.datasets.coco import CocoData
from public.detectors.fcos.options import FCOSOptions
from public.optim.options import AdamWOptions, ConstantOptions
from public.transforms.detection import RandomCrop, RandomHorizontalFlip, RandomTranslate, SquareResize

CONFIGS = {
    "resnet50_fcos": DetectionConfig(
        name="resnet50_fcos",
        initial_weights="../resnet50_fcos_coco_distributed_apex_resize667/runs/resnet50_fcos/checkpoints/best.pth",
        epochs=24,
        batch_size=16,
        clip_grad_norm=0.1,
        evaluate_every=4,
        best_metric="AP",
        channels_last=True,
        detector=FCOSOptions(backbone="resnet50"),
        data=CocoData(
            folder="COCO2017",
            input_size=1000,
            train_splits=("train2017",),
            val_splits=("val2017",),
            train_transforms=(
                Call(RandomHorizontalFlip),
                Call(RandomCrop),
                Call(RandomTranslate),
                Call(SquareResize, size=SIZE),
            ),
            val_transforms=(Call(SquareResize, size=SIZE),),
        ),
        optimizer=AdamWOptions(lr=1e-4, weight_decay=0.01, decay_norm_and_bias=False),
        schedule=ConstantOptions(),
    )
}

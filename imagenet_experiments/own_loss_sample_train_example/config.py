"""A loss and a transform of the experiment's own, on ten kinds of generated shapes: what to copy for yours.

    python -m public.datasets.sample --root data/sample
    cd imagenet_experiments/own_loss_sample_train_example
    DATA_ROOT=data/sample python train.py
    DATA_ROOT=data/sample ./test.sh

`loss.py` has the focal loss of Lin et al. 2017, https://arxiv.org/abs/1708.02002, over classes, as a task in the place
of the recipe's cross-entropy; train.py hands it to `main`. `transforms.py` has the transform. A checkpoint names both,
experiment:loss.FocalTask and experiment:transforms.RandomInvert, and ./test.sh looks them up in this folder; without it
(`--experiment FOLDER`) they are refused by name, for nothing that a file names is imported.

Expected: top-1 of at least 0.80 on the validation images (chance 0.10).
"""

from torchvision.transforms import v2
from transforms import RandomInvert

from public.config.calls import SIZE, Call
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import CosineOptions, SGDOptions

CONFIGS = {
    "resnet18_focal": ClassificationConfig(
        name="resnet18_focal",
        network="resnet18",
        num_classes=10,
        epochs=6,
        batch_size=64,
        data=ImageFolderData(
            folder="ILSVRC2012",
            input_size=64,
            train_transforms=(
                Call(v2.Resize, size=(SIZE, SIZE)),
                Call(RandomInvert, probability=0.1),
                Call(v2.RandomHorizontalFlip),
            ),
            val_transforms=(Call(v2.Resize, size=(SIZE, SIZE)),),
        ),
        optimizer=SGDOptions(lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=CosineOptions(warmup_epochs=1),
        channels_last=True,
        runtime=RuntimeConfig(num_workers=2, log_every=10),
    )
}

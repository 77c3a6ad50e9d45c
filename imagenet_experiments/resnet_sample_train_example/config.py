"""Ten kinds of generated shapes: whole runs, on two CPU cores, in one minute and in four.

By hand, from the repository:

    python -m public.datasets.sample --root data/sample
    cd imagenet_experiments/resnet_sample_train_example
    DATA_ROOT=data/sample python train.py

    row             python train.py <row>
    resnet18        the default
    darknet_tiny    a fifth of the arithmetic; `quickstart.sh` runs it

Expected: top-1 of at least 0.90 on the validation images (chance 0.10). The images are drawn by
public/datasets/sample.py.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.calls import SIZE, Call
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import CosineOptions, SGDOptions

RESNET = ClassificationConfig(
    name="resnet18",
    network="resnet18",
    num_classes=10,
    epochs=10,
    batch_size=64,
    data=ImageFolderData(
        folder="ILSVRC2012",
        input_size=64,
        train_transforms=(
            Call(v2.Resize, size=(SIZE, SIZE)),
            Call(v2.RandomCrop, size=SIZE, padding=6, padding_mode="edge"),
            Call(v2.RandomHorizontalFlip),
        ),
        val_transforms=(Call(v2.Resize, size=(SIZE, SIZE)),),
    ),
    optimizer=SGDOptions(lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
    schedule=CosineOptions(warmup_epochs=2),
    channels_last=True,
    runtime=RuntimeConfig(num_workers=2, log_every=10),
)

CONFIGS = {
    "resnet18": RESNET,
    "darknet_tiny": replace(RESNET, name="darknet_tiny", network="darknet_tiny"),
}

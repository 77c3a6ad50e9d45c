"""Ten kinds of generated shapes with ResNet-18: a whole run, on two CPU cores, in about two minutes.

`quickstart.sh` runs it; by hand, from the repository:

    python -m public.datasets.sample --root data/sample
    cd imagenet_experiments/resnet_sample_train_example
    DATA_ROOT=data/sample python train.py

Expected: top-1 of at least 0.90 on the validation images (chance 0.10). The images are drawn by
public/datasets/sample.py.
"""

from torchvision.transforms import v2

from public.config.classification import ClassificationConfig, ClassificationDataConfig
from public.config.sections import OptimizerConfig, RuntimeConfig, ScheduleConfig

CONFIGS = {
    "resnet18": ClassificationConfig(
        name="resnet18",
        network="resnet18",
        num_classes=10,
        input_size=64,
        epochs=10,
        batch_size=64,
        data=ClassificationDataConfig(
            dataset="imagenet",
            folder="ILSVRC2012",
            train_transforms=(
                v2.Resize((64, 64)),
                v2.RandomCrop(64, padding=6, padding_mode="edge"),
                v2.RandomHorizontalFlip(),
            ),
            val_transforms=(v2.Resize((64, 64)),),
        ),
        optimizer=OptimizerConfig(name="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=ScheduleConfig(kind="cosine", warmup_epochs=2),
        channels_last=True,
        runtime=RuntimeConfig(num_workers=2, log_every=10),
    )
}

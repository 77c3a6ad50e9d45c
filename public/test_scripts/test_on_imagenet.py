"""Top-1, top-5, size and speed of a network on ImageNet's validation images, or on any folder of the same shape.

    ./test.sh resnet18                  in an experiment folder: the row's best.pth
    python -m public.test_scripts.test_on_imagenet --network mobilenet_v2 --weights FILE --data FOLDER --decoder pil

Protocol: shorter side to 256, centre crop of 224 (both in proportion at another --input-size), bilinear with
antialiasing.
"""

from torchvision.transforms import v2

from public.config.classification import ClassificationDataConfig
from public.test_scripts.classification import main

IMAGENET = ClassificationDataConfig(
    dataset="imagenet",
    folder="ILSVRC2012",
    train_transforms=(),
    val_transforms=(v2.Resize(256), v2.CenterCrop(224)),
)

if __name__ == "__main__":
    main(IMAGENET, input_size=224)

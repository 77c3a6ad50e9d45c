"""Top-1, top-5, size and speed of a network on ImageNet's validation images, or on any folder of the same shape.

    ./test.sh resnet18                  in an experiment folder: the row's best.pth
    python -m public.test_scripts.test_on_imagenet --network mobilenet_v2 --weights FILE --data.folder FOLDER

Protocol: shorter side to 256, center crop of 224 (both in proportion at another --data.input-size), bilinear with
antialiasing.
"""

from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled
from public.datasets.imagenet import ImageFolderData
from public.test_scripts.classification import main

IMAGENET = ImageFolderData(
    folder="ILSVRC2012",
    input_size=224,
    train_transforms=(),
    val_transforms=(Call(v2.Resize, size=Scaled(256, of=224)), Call(v2.CenterCrop, size=SIZE)),
)

if __name__ == "__main__":
    main(IMAGENET)

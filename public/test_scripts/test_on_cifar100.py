"""Top-1, top-5, size and speed of a network on CIFAR-100's test images, or on any data set of the same layout.

./test.sh resnet18cifar             in an experiment folder: the row's best.pth
python -m public.test_scripts.test_on_cifar100 --network resnet18cifar --weights FILE --data.folder FOLDER
"""

from public.datasets.cifar100 import Cifar100Data
from public.test_scripts.classification import main

CIFAR100 = Cifar100Data(
    folder="CIFAR100",
    train_transforms=(),
    mean=(125.3 / 255, 123.0 / 255, 113.9 / 255),
    std=(63.0 / 255, 62.1 / 255, 66.7 / 255),
)

if __name__ == "__main__":
    main(CIFAR100)

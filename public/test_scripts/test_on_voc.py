"""Pascal VOC's mAP, size and speed of a detector on VOC2007's test images, or on any data set of the same layout.

./test.sh                           in an experiment folder: the row's best.pth
python -m public.test_scripts.test_on_voc --weights best.pth --data.folder FOLDER
"""

from public.config.calls import SIZE, Call
from public.datasets.voc import VocData
from public.test_scripts.detection import main
from public.transforms.detection import SquareResize

VOC = VocData(
    folder="VOCdataset",
    input_size=667,
    train_splits=("VOC2007/trainval", "VOC2012/trainval"),
    val_splits=("VOC2007/test",),
    train_transforms=(),
    val_transforms=(Call(SquareResize, size=SIZE),),
)

if __name__ == "__main__":
    main(VOC)

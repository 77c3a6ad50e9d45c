"""COCO's 12 numbers, size and speed of a detector on COCO's val2017, or on any data set of the same layout.

./test.sh                           in an experiment folder: the row's best.pth
python -m public.test_scripts.test_on_coco --weights best.pth --data.folder FOLDER
"""

from public.config.calls import SIZE, Call
from public.datasets.coco import CocoData
from public.test_scripts.detection import main
from public.transforms.detection import SquareResize

COCO = CocoData(
    folder="COCO2017",
    input_size=667,
    train_splits=("train2017",),
    val_splits=("val2017",),
    train_transforms=(),
    val_transforms=(Call(SquareResize, size=SIZE),),
)

if __name__ == "__main__":
    main(COCO)

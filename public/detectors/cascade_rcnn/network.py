"""Cascade R-CNN: three heads, each trained for closer overlaps on the boxes of the one before.

Paper: Cai and Vasconcelos 2018, https://arxiv.org/abs/1712.00726; the weights of the losses are those of the authors'
code. Deviations: the first head's sample goes on to the next heads, without new draws, as in detectron2; each head's
score is that of its own boxes, not of the last ones, as in detectron2 and mmdetection.
Deviation from cascade-rcnn_Pytorch of 2018: the heads' box deltas are multiplied by more from head to head, as in the
paper.
"""

from public.detectors.cascade_rcnn.options import CascadeRCNNOptions
from public.detectors.faster_rcnn.network import FasterRCNN
from public.detectors.faster_rcnn.regions import Stage


class CascadeRCNN(FasterRCNN):
    """Cascade R-CNN on a feature pyramid, with one box for all classes.

    Args:
        num_classes: object classes; background is none of them.
        options: see there.

    Raises:
        ValueError: no such backbone, or one without the levels.
    """

    stages = (
        Stage(0.5, (10.0, 10.0, 5.0, 5.0), 1.0),
        Stage(0.6, (20.0, 20.0, 10.0, 10.0), 0.5),
        Stage(0.7, (30.0, 30.0, 15.0, 15.0), 0.25),
    )
    class_prefixes = tuple(f"roi_heads.{number}.box_predictor." for number in range(3))
    loss_names = (
        "objectness",
        "proposal",
        *(f"{kind}_{number}" for number in (1, 2, 3) for kind in ("classification", "box")),
    )

    def __init__(self, num_classes: int, options: CascadeRCNNOptions) -> None:
        super().__init__(num_classes, options)

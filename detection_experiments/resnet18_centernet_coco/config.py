"""CenterNet with ResNet-18 and deformable convolutions on COCO 2017: the recipe of its authors.

Paper: Zhou et al. 2019, "Objects as Points", https://arxiv.org/abs/1904.07850. Recipe and number:
https://github.com/xingyizhou/CenterNet, ctdet_coco_resdcn18, 4 GPUs: AP 28.1 on val2017, without mirrored or scaled
copies at test time (30.0 with mirrored ones); its authors saw it vary by 0.4. It was not trained to its end here.

    python train.py

    setting                          CenterNet                            here
    canvas                           512 x 512                            the same
    window                           0.6 to 1.3 long sides, its middle    the same, filled up with the mean pixel
                                     128 pixels inside
    mirrored                         half of the images                   the same
    brightness, contrast,            0.4 each, in any order               torchvision's ColorJitter, of 8 bits
    saturation
    lighting                         0.1, along the colors' axes          none
    evaluation                       as large as the picture              long side 640, as of nearly all of val2017
    normalization                    mean and deviation of COCO           those of ImageNet
    batches                          114, 18 of them on the first GPU     112, as many on each
    Adam                             5e-4, no decay, no clipping          AdamW without decay, which is Adam
    schedule                         140 epochs, a tenth after 90, 120    the same
    backbone                         torchvision's ResNet-18              the same
    enlargement, heads               256, 128, 64; 64                     the same
    losses                           heatmap 1, offset 1, size 0.1        the same
    losses of offset and size        L1, of 4 GPUs each by its objects    L1, by the objects of the batch
    crowds                           objects like others                  nothing is learned in them
    objects of an image              128 at most                          all
    first weights of the             bilinear to the first channel, the   bilinear, each channel to itself
    enlargement                      others at random
    at most                          100, not suppressed                  the same
    threshold                        none                                 0.01, below which little is found

Precision is bf16 where the device is faster in it.
"""

from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled
from public.config.detection import DetectionConfig
from public.datasets.coco import CocoData
from public.detectors.centernet.options import CenterNetOptions
from public.optim.options import AdamWOptions, MultistepOptions
from public.transforms.detection import RandomHorizontalFlip, SquareResize
from public.transforms.window import RandomSquareWindow

CONFIGS = {
    "resnet18_centernet": DetectionConfig(
        name="resnet18_centernet",
        backbone_weights="torchvision:resnet18",
        epochs=140,
        batch_size=112,
        evaluate_every=10,
        best_metric="AP",
        channels_last=True,
        detector=CenterNetOptions(backbone="resnet18", score_threshold=0.01, regression_loss="l1"),
        data=CocoData(
            folder="COCO2017",
            input_size=512,
            train_splits=("train2017",),
            val_splits=("val2017",),
            train_transforms=(
                Call(RandomSquareWindow),
                Call(RandomHorizontalFlip),
                Call(v2.ColorJitter, brightness=0.4, contrast=0.4, saturation=0.4),
                Call(SquareResize, size=SIZE),
            ),
            val_transforms=(Call(SquareResize, size=Scaled(640, of=512)),),
        ),
        optimizer=AdamWOptions(lr=5e-4, weight_decay=0.0),
        schedule=MultistepOptions(milestones=(90, 120), gamma=0.1),
    )
}

"""ImageNet with VoVNetV2, one process driving all visible GPUs (in 2020: vovnet_Dataparallel_train_example).

Papers: Lee et al. 2019, https://arxiv.org/abs/1904.09730; Lee and Park 2019, https://arxiv.org/abs/1911.06667. Recipe
and numbers: the 2020 monorepo, 4 RTX 2080 Ti (vovnet99_se: 8), last epoch, single 224x224 center crop: 100 epochs of
batches of 256, SGD at 0.1, a tenth of it after 30, 60 and 90, weight decay 1e-4, random crops and flips.

    row                    top-1 error %     python train.py <row>
    vovnet19_se            25.364            the default
    vovnet19_slim_dw_se    33.276
    vovnet19_dw_se         26.958            (not in its table: the name of its file of weights)
    vovnet19_slim_se       30.646
    vovnet39_se            22.662
    vovnet57_se            22.014
    vovnet99_se            21.608

Deviations from 2020: squeeze-and-excitation is in every block, as in the paper, also where a stage has several of
them (39, 57 and 99 layers; 26.2 M parameters instead of 22.9 M in the first). Otherwise as in
../resnet_imagenet_DataParallel_train_example.
"""

from dataclasses import replace

from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled
from public.config.classification import ClassificationConfig
from public.config.run import RuntimeConfig
from public.datasets.imagenet import ImageFolderData
from public.optim.options import MultistepOptions, SGDOptions
from public.transforms.image import RandomResizedCrop

VOVNET19 = ClassificationConfig(
    name="vovnet19_se",
    network="vovnet19_se",
    epochs=100,
    batch_size=256,
    channels_last=True,
    parallel="data_parallel",
    data=ImageFolderData(
        folder="ILSVRC2012",
        input_size=224,
        train_transforms=(Call(RandomResizedCrop, size=SIZE), Call(v2.RandomHorizontalFlip)),
        val_transforms=(Call(v2.Resize, size=Scaled(256, of=224)), Call(v2.CenterCrop, size=SIZE)),
    ),
    optimizer=SGDOptions(lr=0.1, momentum=0.9, weight_decay=1e-4),
    schedule=MultistepOptions(milestones=(30, 60, 90), gamma=0.1),
    runtime=RuntimeConfig(num_workers=8, log_every=100),
)

CONFIGS = {"vovnet19_se": VOVNET19} | {
    name: replace(VOVNET19, name=name, network=name)
    for name in (
        "vovnet19_slim_dw_se",
        "vovnet19_dw_se",
        "vovnet19_slim_se",
        "vovnet39_se",
        "vovnet57_se",
        "vovnet99_se",
    )
}

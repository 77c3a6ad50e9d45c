"""What is known of every network in the catalog, as data: this file imports no torch.

`python -m public.backbones.catalog` prints it as a table. `tests/backbones/test_catalog.py` builds every network and
holds it against its card, so that no number here can drift from the code.
"""

from typing import NamedTuple


class Card(NamedTuple):
    """One network with its default options."""

    parameters: int
    """With a classifier of `num_classes`."""
    macs: int
    """Multiply-adds of the convolutions and matrix products for one image of `input_size`."""
    channels: tuple[int, ...]
    """Of each level, shallow to deep."""
    reference: str
    """Whose logits the tests compare with ("torchvision ...", "timm ..."), or whose numbers, by calculation."""
    top1: float | None
    """Published share of ImageNet's (or CIFAR-100's) validation images classified right, in percent; None: none is."""
    source: str
    """Of `top1`: a set of torchvision's or timm's weights, a paper, a predecessor's table; empty where it is None."""
    strides: tuple[int, ...] = (2, 4, 8, 16, 32)
    """Of each level, shallow to deep."""
    input_size: int = 224
    """Height and width in pixels at which `macs` and `top1` are measured."""
    num_classes: int = 1000

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the levels: counted from the first, whose stride is 2 to its number."""
        first = self.strides[0].bit_length() - 1
        return tuple(f"c{first + index}" for index in range(len(self.strides)))


_V1 = "torchvision IMAGENET1K_V1"
_2020 = "the 2020 monorepo"
_2020_LESS_ESE = "the 2020 monorepo, with eSE in fewer blocks"
_PYCLS = "pycls' model zoo"
_YOLO_V3 = "arXiv 1804.02767"
_CIFAR_STRIDES = (1, 2, 4, 8)
_OCT = "arXiv 1904.05049, pre-activation"
_BASIC, _BOTTLENECK = (64, 64, 128, 256, 512), (64, 256, 512, 1024, 2048)
_DETNET = (64, 256, 512, 1024, 1024, 1024)
_DARKNET = (64, 128, 256, 512, 1024)
_VOVNET, _VOVNET_SLIM = (64, 256, 512, 768, 1024), (64, 112, 256, 384, 512)
_CIFAR_BASIC, _CIFAR_BOTTLENECK = _BASIC[1:], _BOTTLENECK[1:]


def _resnet(parameters: int, macs: int, channels: tuple[int, ...], name: str, top1: float) -> Card:
    return Card(parameters, macs, channels, f"torchvision {name}", top1, _V1)


def _regnet(parameters: int, macs: int, widths: tuple[int, ...], reference: str, top1: float, source: str) -> Card:
    return Card(parameters, macs, (32, *widths), reference, top1, source)


def _cifar(parameters: int, macs: int, channels: tuple[int, ...], name: str, top1: float) -> Card:
    reference = f"torchvision {name}, other stem"
    return Card(parameters, macs, channels, reference, top1, _2020, _CIFAR_STRIDES, input_size=32, num_classes=100)


CARDS: dict[str, Card] = {
    # resnet.py
    "resnet18": _resnet(11_689_512, 1_814_073_344, _BASIC, "resnet18", 69.758),
    "resnet34_half": Card(5_584_776, 945_571_840, (32, 32, 64, 128, 256), _2020, 67.472, _2020),
    "resnet34": _resnet(21_797_672, 3_663_761_408, _BASIC, "resnet34", 73.314),
    "resnet50_half": Card(6_917_640, 1_052_311_552, (32, 128, 256, 512, 1024), _2020, 72.066, _2020),
    "resnet50": _resnet(25_557_032, 4_089_184_256, _BOTTLENECK, "resnet50", 76.130),
    "resnet101": _resnet(44_549_160, 7_801_405_440, _BOTTLENECK, "resnet101", 77.374),
    "resnet152": _resnet(60_192_808, 11_513_626_624, _BOTTLENECK, "resnet152", 78.312),
    "resnext50_32x4d": _resnet(25_028_904, 4_230_479_872, _BOTTLENECK, "resnext50_32x4d", 77.618),
    "resnext101_32x8d": _resnet(88_791_336, 16_414_015_488, _BOTTLENECK, "resnext101_32x8d", 79.312),
    "wide_resnet50_2": _resnet(68_883_240, 11_398_021_120, _BOTTLENECK, "wide_resnet50_2", 78.468),
    "wide_resnet101_2": _resnet(126_886_696, 22_753_050_624, _BOTTLENECK, "wide_resnet101_2", 78.848),
    # resnet_v2.py
    "resnet18_v2": Card(11_687_720, 1_814_073_344, _BASIC, "timm resnetv2_18", None, ""),
    "resnet34_v2": Card(21_795_880, 3_663_761_408, _BASIC, "timm resnetv2_34", None, ""),
    "resnet50_v2": Card(25_549_352, 4_089_184_256, _BOTTLENECK, "timm resnetv2_50", 80.41, "timm a1h_in1k"),
    "resnet101_v2": Card(44_541_480, 7_801_405_440, _BOTTLENECK, "timm resnetv2_101", 82.04, "timm a1h_in1k"),
    "resnet152_v2": Card(60_185_128, 11_513_626_624, _BOTTLENECK, "timm resnetv2_152", None, ""),
    # resnest.py
    "resnest50": Card(27_483_240, 5_371_160_576, _BOTTLENECK, "timm resnest50d", 80.96, "timm gluon_in1k"),
    # oct_resnet.py
    "oct_resnet50_alpha0125": Card(25_557_032, 3_565_196_288, _BOTTLENECK, "arithmetic", 78.2, _OCT),
    "oct_resnet50_alpha0250": Card(25_557_032, 3_103_526_912, _BOTTLENECK, "arithmetic", 78.0, _OCT),
    # detnet.py
    "detnet59": Card(18_372_648, 5_000_159_232, _DETNET, "arithmetic", 76.5, "arXiv 1804.06215", (2, 4, 8, 16, 16, 16)),
    # lambda_resnet.py
    "lambda_resnet50": Card(14_995_592, 6_544_998_400, _BOTTLENECK, "timm LambdaLayer", 78.21, "d-li14/lambda.pytorch"),
    # evonorm_resnet.py
    "evonorm_resnet50": Card(25_572_072, 4_089_184_256, _BOTTLENECK, "timm ResNetV2, EvoNorm2dB0", None, ""),
    # lip_resnet.py
    "lip_resnet50": Card(23_864_232, 5_299_830_784, _BOTTLENECK, "arithmetic", 78.19, "arXiv 1908.04156"),
    # cifar_resnet.py
    "resnet18cifar": _cifar(11_220_132, 555_468_800, _CIFAR_BASIC, "resnet18", 78.41),
    "resnet34cifar": _cifar(21_328_292, 1_159_448_576, _CIFAR_BASIC, "resnet34", 78.84),
    "resnet50cifar": _cifar(23_705_252, 1_298_014_208, _CIFAR_BOTTLENECK, "resnet50", 77.88),
    "resnet101cifar": _cifar(42_697_380, 2_510_168_064, _CIFAR_BOTTLENECK, "resnet101", 80.16),
    "resnet152cifar": _cifar(58_341_028, 3_722_321_920, _CIFAR_BOTTLENECK, "resnet152", 80.99),
    # mobilenet_v2.py
    "mobilenet_v2": Card(3_504_872, 300_774_272, (16, 24, 32, 96, 320), "torchvision mobilenet_v2", 71.878, _V1),
    # regnet.py
    "regnet_x_200mf": _regnet(2_684_792, 199_039_872, (24, 56, 152, 368), "timm regnetx_002", 68.9, _PYCLS),
    "regnet_x_400mf": _regnet(5_157_512, 397_677_568, (32, 64, 160, 384), "timm regnetx_004", 72.7, _PYCLS),
    "regnet_x_400mf_tv": _regnet(5_495_976, 413_812_608, (32, 64, 160, 400), "torchvision regnet_x_400mf", 72.834, _V1),
    "regnet_x_600mf": _regnet(6_196_040, 600_890_112, (48, 96, 240, 528), "timm regnetx_006", 74.1, _PYCLS),
    "regnet_x_800mf": _regnet(7_259_656, 799_699_712, (64, 128, 288, 672), "torchvision regnet_x_800mf", 75.212, _V1),
    "regnet_x_1_6gf": _regnet(9_190_136, 1_602_849_792, (72, 168, 408, 912), "torchvision regnet_x_1_6gf", 77.040, _V1),
    "regnet_x_3_2gf": _regnet(
        15_296_552, 3_176_621_952, (96, 192, 432, 1008), "torchvision regnet_x_3_2gf", 78.364, _V1
    ),
    "regnet_x_4gf": _regnet(22_118_248, 3_964_498_816, (80, 240, 560, 1360), "timm regnetx_040", 78.6, _PYCLS),
    "regnet_x_6_4gf": _regnet(26_209_256, 6_460_291_264, (168, 392, 784, 1624), "timm regnetx_064", 79.2, _PYCLS),
    "regnet_x_8gf": _regnet(39_572_648, 7_995_132_416, (80, 240, 720, 1920), "torchvision regnet_x_8gf", 79.344, _V1),
    "regnet_x_12gf": _regnet(46_106_056, 12_086_678_016, (224, 448, 896, 2240), "timm regnetx_120", 79.7, _PYCLS),
    "regnet_x_16gf": _regnet(
        54_278_536, 15_940_755_456, (256, 512, 896, 2048), "torchvision regnet_x_16gf", 80.058, _V1
    ),
    "regnet_x_32gf": _regnet(
        107_811_560, 31_735_929_792, (336, 672, 1344, 2520), "torchvision regnet_x_32gf", 80.622, _V1
    ),
    "regnet_y_200mf": _regnet(3_162_996, 199_514_080, (24, 56, 152, 368), "timm regnety_002", 70.4, _PYCLS),
    "regnet_y_400mf": _regnet(4_344_144, 401_842_848, (48, 104, 208, 440), "torchvision regnet_y_400mf", 74.046, _V1),
    "regnet_y_600mf": _regnet(6_055_160, 601_220_992, (48, 112, 256, 608), "timm regnety_006", 75.5, _PYCLS),
    "regnet_y_800mf": _regnet(6_263_168, 797_176_832, (64, 128, 320, 768), "timm regnety_008", 76.3, _PYCLS),
    "regnet_y_800mf_tv": _regnet(
        6_432_512, 833_856_256, (64, 144, 320, 784), "torchvision regnet_y_800mf", 76.420, _V1
    ),
    "regnet_y_1_6gf": _regnet(
        11_202_430, 1_612_076_160, (48, 120, 336, 888), "torchvision regnet_y_1_6gf", 77.950, _V1
    ),
    "regnet_y_3_2gf": _regnet(
        19_436_338, 3_176_482_752, (72, 216, 576, 1512), "torchvision regnet_y_3_2gf", 78.948, _V1
    ),
    "regnet_y_4gf": _regnet(20_646_656, 3_973_288_448, (128, 192, 512, 1088), "timm regnety_040", 79.4, _PYCLS),
    "regnet_y_6_4gf": _regnet(30_583_252, 6_355_204_992, (144, 288, 576, 1296), "timm regnety_064", 79.9, _PYCLS),
    "regnet_y_8gf": _regnet(39_180_068, 7_963_057_312, (168, 448, 896, 2016), "timm regnety_080", 79.9, _PYCLS),
    "regnet_y_8gf_tv": _regnet(
        39_381_472, 8_473_070_592, (224, 448, 896, 2016), "torchvision regnet_y_8gf", 80.032, _V1
    ),
    "regnet_y_12gf": _regnet(51_822_544, 12_092_376_576, (224, 448, 896, 2240), "timm regnety_120", 80.3, _PYCLS),
    "regnet_y_16gf": _regnet(
        83_590_140, 15_911_510_272, (224, 448, 1232, 3024), "torchvision regnet_y_16gf", 80.424, _V1
    ),
    "regnet_y_32gf": _regnet(
        145_046_770, 32_279_552_832, (232, 696, 1392, 3712), "torchvision regnet_y_32gf", 80.878, _V1
    ),
    # efficientnet.py
    "efficientnet_b0": Card(5_288_548, 385_814_752, (16, 24, 40, 112, 320), "torchvision efficientnet_b0", 77.692, _V1),
    "efficientnet_b1": Card(
        7_794_184, 686_802_832, (16, 24, 40, 112, 320), "torchvision efficientnet_b1", 78.642, _V1, input_size=240
    ),
    "efficientnet_b2": Card(
        9_109_994, 1_087_529_456, (16, 24, 48, 120, 352), "torchvision efficientnet_b2", 80.608, _V1, input_size=288
    ),
    "efficientnet_b3": Card(
        12_233_232, 1_827_141_392, (24, 32, 48, 136, 384), "torchvision efficientnet_b3", 82.008, _V1, input_size=300
    ),
    "efficientnet_b4": Card(
        19_341_616, 4_393_771_024, (24, 32, 56, 160, 448), "torchvision efficientnet_b4", 83.384, _V1, input_size=380
    ),
    "efficientnet_b5": Card(
        30_389_784, 10_266_384_752, (24, 40, 64, 176, 512), "torchvision efficientnet_b5", 83.444, _V1, input_size=456
    ),
    "efficientnet_b6": Card(
        43_040_704, 19_067_593_536, (32, 40, 72, 200, 576), "torchvision efficientnet_b6", 84.008, _V1, input_size=528
    ),
    "efficientnet_b7": Card(
        66_347_960, 37_745_884_192, (32, 48, 80, 224, 640), "torchvision efficientnet_b7", 84.122, _V1, input_size=600
    ),
    # darknet.py
    "darknet19": Card(20_842_376, 3_645_374_464, _DARKNET, "arithmetic", 74.1, _YOLO_V3, input_size=256),
    "darknet53": Card(41_609_928, 9_285_115_904, _DARKNET, "timm darknet53", 77.2, _YOLO_V3, input_size=256),
    "darknet_tiny": Card(
        2_086_776, 406_310_912, (32, 64, 128, 256, 512), "arithmetic", 58.07, "SimpleAICV", input_size=256
    ),
    # vovnet.py
    "vovnet19_slim_dw_se": Card(1_897_752, 398_071_376, _VOVNET_SLIM, "timm ese_vovnet19b_slim_dw", 66.724, _2020),
    "vovnet19_dw_se": Card(6_543_080, 1_333_489_824, _VOVNET, "timm ese_vovnet19b_dw", 76.83, "timm ra_in1k"),
    "vovnet19_slim_se": Card(3_166_136, 1_680_214_784, _VOVNET_SLIM, "timm ese_vovnet19b_slim", 69.354, _2020),
    "vovnet19_se": Card(11_205_416, 4_121_937_920, _VOVNET, "arithmetic", 74.636, _2020),
    "vovnet39_se": Card(26_209_128, 7_075_831_808, _VOVNET, "timm ese_vovnet39b", 77.338, _2020_LESS_ESE),
    "vovnet57_se": Card(42_479_912, 8_935_976_960, _VOVNET, "timm ese_vovnet57b", 77.986, _2020_LESS_ESE),
    "vovnet99_se": Card(70_548_520, 16_495_554_560, _VOVNET, "timm ese_vovnet99b", 78.392, _2020_LESS_ESE),
    # mobilenet_v1.py
    "mobilenet_v1": Card(
        4_231_976, 568_740_352, (64, 128, 256, 512, 1024), "timm mobilenetv1_100", 70.6, "arXiv 1704.04861"
    ),
    # mobilenet_v3.py
    "mobilenet_v3_large": Card(
        5_483_032, 216_589_760, (16, 24, 40, 112, 160), "torchvision mobilenet_v3_large", 74.042, _V1
    ),
    "mobilenet_v3_small": Card(
        2_542_856, 56_510_400, (16, 16, 24, 48, 96), "torchvision mobilenet_v3_small", 67.668, _V1
    ),
    # ghostnet.py
    "ghostnet_100": Card(5_182_508, 141_150_512, (16, 24, 40, 112, 160), "timm ghostnet_100", 73.9, "arXiv 1911.11907"),
    "ghostnet_130": Card(7_358_820, 227_003_256, (20, 32, 52, 144, 208), "timm ghostnet_130", 75.7, "arXiv 1911.11907"),
    # proxylessnas.py
    "proxylessnas_gpu": Card(7_119_848, 465_260_160, (24, 32, 56, 128, 432), "arithmetic", 75.1, "arXiv 1812.00332"),
    "proxylessnas_cpu": Card(4_361_648, 439_243_864, (24, 32, 48, 104, 360), "arithmetic", 75.3, "arXiv 1812.00332"),
    "proxylessnas_mobile": Card(4_080_512, 320_427_584, (16, 32, 40, 96, 320), "arithmetic", 74.6, "arXiv 1812.00332"),
}

"""Numbers of channels."""


def to_multiple(channels: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to `channels`, halves up; one higher where that is below 90 % of it.

    Sandler et al. 2018, https://arxiv.org/abs/1801.04381, in the authors' code; EfficientNet, MobileNetV3 and GhostNet
    round their widths in the same way.
    """
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * channels else nearest

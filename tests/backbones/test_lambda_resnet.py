"""Lambda layers against timm's and against sums over every pair of places; the network's parameters by calculation."""

import pytest
import torch
from torch import nn

from public.backbones.lambda_resnet import LambdaBottleneck, LambdaLayer, lambda_resnet50
from public.weights.loading import load_weights
from tests.backbones.reference import randomize_norms

KEYS, HEADS, SCOPE = 16, 4, 23


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(12, 12), (7, 30)])
def test_layer_is_timms(size: tuple[int, int], training: bool) -> None:
    """timm's convolves over [H, W, channels] in three dimensions, with a bias that is zeroed here."""
    timm = pytest.importorskip("timm.layers.lambda_layer")
    reference = timm.LambdaLayer(64, num_heads=HEADS, dim_head=KEYS, r=SCOPE).train(training)
    randomize_norms(reference)
    nn.init.zeros_(reference.conv_lambda.bias)
    weights = reference.state_dict()
    del weights["conv_lambda.bias"]
    weights["conv_lambda.weight"] = weights["conv_lambda.weight"].squeeze(-1)  # [K, 1, 23, 23]
    ours = LambdaLayer(64).train(training)
    load_weights(ours, weights)
    x = torch.randn(2, 64, *size)
    expected = reference(x)
    assert expected.std() > 0.01
    torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-5)


def test_layer_is_the_papers_sum() -> None:
    """lambda_n = sum over m of (softmax key_m + position_nm) value_m; output_n = lambda_n applied to query_n."""
    torch.manual_seed(0)
    layer, x = LambdaLayer(8).eval(), torch.randn(1, 8, 3, 4)
    queries, keys, values = layer.qkv(x).split((HEADS * KEYS, KEYS, 2), dim=1)
    queries = layer.norm_q(queries).reshape(HEADS, KEYS, 12)
    keys, values = keys.reshape(KEYS, 12).softmax(1), layer.norm_v(values).reshape(2, 12)
    expected = torch.zeros(HEADS, 2, 12)
    for n in range(12):
        function = torch.zeros(2, KEYS)
        for m in range(12):
            down, right = m // 4 - n // 4, m % 4 - n % 4
            position = layer.conv_lambda.weight[:, 0, SCOPE // 2 + down, SCOPE // 2 + right]
            function += torch.outer(values[:, m], keys[:, m] + position)
        expected[:, :, n] = queries[:, :, n] @ function.T
    torch.testing.assert_close(layer(x).reshape(HEADS, 2, 12), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_parameters() -> None:
    """ResNet-50's 25,557,032, with lambda layers for its 3x3s: 14,995,592, the paper's 15.0 M.

    A 3x3 of width w has 9 w^2; a layer (64 + 16 + w/4) w in its 1x1, 2 (64 + w/4) in norms, 16 * 23^2 in positions.
    """
    expected = 25_557_032
    for width, depth in ((64, 3), (128, 4), (256, 6), (512, 3)):
        values = width // 4
        layer = (64 + 16 + values) * width + 2 * (64 + values) + 16 * 23**2
        expected += depth * (layer - 9 * width**2)
    with torch.device("meta"):
        assert sum(p.numel() for p in lambda_resnet50().parameters()) == expected == 14_995_592


def test_macs() -> None:
    """ResNet-50's 4,089,184,256 without its 3x3s, with lambda layers for them: 6,544,998,400.

    A layer of width w on n places, v = w/4: 1x1 n w (80 + v); content n 16 v; positions n v 16 * 23^2; application
    n 16 v 4. In a layer's first block these places are those before the stride.
    """
    expected = 4_089_184_256
    for index, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        places = (56 // 2**index) ** 2
        for position in range(depth):
            n = 4 * places if position == 0 and index > 0 else places
            v = width // 4
            layer = n * width * (80 + v) + n * 16 * v + n * v * 16 * 23**2 + n * 16 * v * 4
            expected += layer - 9 * width**2 * places
    assert expected == 6_544_998_400  # which test_catalog.py holds against the network


def test_a_stride_is_an_average_of_3x3_after_the_layer() -> None:
    conv2 = LambdaBottleneck(16, 8, 2).conv2
    assert isinstance(conv2, nn.Sequential)
    layer, pool = conv2
    assert isinstance(layer, LambdaLayer)
    assert isinstance(pool, nn.AvgPool2d)
    assert (pool.kernel_size, pool.stride, pool.padding) == (3, 2, 1)
    assert LambdaBottleneck(16, 8, 2)(torch.randn(2, 16, 5, 7)).shape == (2, 32, 3, 4)

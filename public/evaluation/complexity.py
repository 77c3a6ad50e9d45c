"""Parameters and multiply-adds of a network, counted from shapes alone.

The multiply-adds are those of convolutions and matrix products, by the formulas of torch's own FLOP counter: two
floating point operations are one multiply-add. Norms, activations, pooling, resizing and other sums over elements
count nothing, nor do biases, as in torchvision's tables and in those of most papers.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torchvision  # noqa: F401  # which registers the operator of _FORMULAS
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


class Complexity(NamedTuple):
    """The size of a network."""

    num_parameters: int
    macs: int
    """Multiply-adds of one image: convolutions and matrix products."""

    def __str__(self) -> str:
        return f"{self.num_parameters / 1e6:.3f} M parameters, {self.macs / 1e9:.3f} G MACs"


def count(network: nn.Module, input_size: int | tuple[int, int], *, macs_behind: int = 0) -> Complexity:
    """Counts what `forward` does in evaluation mode, on a copy without numbers.

    The copy and its image are on the meta device, where tensors have shapes and no memory: the size of the image costs
    nothing, and the network is left as it is, on whatever device.

    Args:
        network: takes images [B, 3, H, W]; nothing in its `forward` depends on the values of a tensor.
        input_size: H and W in pixels, one number where they are equal.
        macs_behind: multiply-adds that follow `forward`, such as those of a detector's second stage.
    """
    probe = without_numbers(network).eval()
    height, width = (input_size, input_size) if isinstance(input_size, int) else input_size
    image = torch.empty(1, 3, height, width, device="meta")
    with torch.inference_mode(), FlopCounterMode(display=False, custom_mapping=_FORMULAS) as counter:
        probe(image)
    macs = counter.get_total_flops() // 2
    return Complexity(sum(p.numel() for p in network.parameters()), macs + macs_behind)


def without_numbers(network: nn.Module) -> nn.Module:
    """A copy on the meta device, for which no tensor is copied first: there may be no room for a second network."""
    # deepcopy takes these for copies that it has made already, also where modules share a tensor.
    made: dict[int, Any] = {id(p): nn.Parameter(_on_meta(p), requires_grad=False) for p in network.parameters()}
    made |= {id(buffer): _on_meta(buffer) for buffer in network.buffers()}
    return copy.deepcopy(network, made)


def _on_meta(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta")


def _deform_conv_flops(
    _image: Sequence[int], weight: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any
) -> int:
    """Those of a plain convolution with this weight [out, in / groups, kh, kw] that gives [B, out, H, W]."""
    batch, _channels, height, width = out_shape
    return 2 * batch * height * width * math.prod(weight)


# torch knows none of torchvision's operators, and counts nothing for them.
_FORMULAS = {torch.ops.torchvision.deform_conv2d: _deform_conv_flops}

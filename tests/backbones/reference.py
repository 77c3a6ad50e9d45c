"""How one of our networks is held against another's implementation of it."""

import torch
from torch import Tensor, nn

from public.weights.loading import load_weights


def randomize_norms(network: nn.Module, seed: int = 0) -> None:
    """Gives every batch norm weights, biases and statistics of its own, so that no two could be swapped.

    New ones are all 1 and 0 (some of timm's even 0 and 0, which hides a whole block). The weights stay well
    below 1: otherwise the sums of 50 residual blocks in evaluation mode grow to where float32 cannot resolve
    1e-5.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 0.4, generator=generator)
            nn.init.normal_(module.bias, 0, 0.1, generator=generator)
            running_mean, running_var = module.running_mean, module.running_var
            assert running_mean is not None
            assert running_var is not None
            nn.init.normal_(running_mean, 0, 0.1, generator=generator)
            nn.init.uniform_(running_var, 0.5, 1.5, generator=generator)


def largest_difference(ours: nn.Module, reference: nn.Module, sizes: list[tuple[int, int]]) -> float:
    """Loads the reference's weights into ours; the largest difference of logits, in eval and in train mode."""
    randomize_norms(reference)
    load_weights(ours, reference.state_dict())
    return max(
        float((_logits(ours, size, training) - _logits(reference, size, training)).abs().max())
        for training in (False, True)
        for size in sizes
    )


@torch.no_grad()
def _logits(network: nn.Module, size: tuple[int, int], training: bool) -> Tensor:
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)  # the same dropout in both
    logits = network.train(training)(images)  # [2, num_classes]
    assert logits.std() > 1e-3, "the reference's logits are all alike: nothing is compared"
    return logits


def parts(network: nn.Module) -> list[tuple[str, str]]:
    """What a network is made of: each module with weights by its name, with all settings that it prints."""
    return [(name, module.extra_repr()) for name, module in network.named_modules() if module._parameters]

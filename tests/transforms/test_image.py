"""Our RandomResizedCrop against torchvision's: the same draws and the same pixels."""

import pytest
import torch
from torchvision.transforms import v2

from public.transforms.image import RandomResizedCrop


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 300), (64, 64), (256, 341), (341, 256)])
@pytest.mark.parametrize("layout", ["decoded", "planar", "pil"])
def test_random_resized_crop_is_torchvisions(height: int, width: int, layout: str) -> None:
    generator = torch.Generator().manual_seed(height)
    decoded = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator).permute(2, 0, 1)
    image = {"decoded": decoded, "planar": decoded.contiguous(), "pil": v2.functional.to_pil_image(decoded)}[layout]
    for seed in range(5):
        results = []
        for transform in (RandomResizedCrop(32), v2.RandomResizedCrop(32)):
            torch.manual_seed(seed)
            results.append(v2.functional.to_image(transform(image)))
        assert torch.equal(*results)


def test_the_decoded_layout_is_kept() -> None:
    decoded = torch.zeros(50, 60, 3, dtype=torch.uint8).permute(2, 0, 1)
    assert RandomResizedCrop(32)(decoded).stride() == (1, 96, 3)

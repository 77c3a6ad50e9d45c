"""Rounding of channels by hand."""

import pytest

from public.layers.channels import to_multiple


@pytest.mark.parametrize(
    ("channels", "divisor", "expected"),
    [
        (32, 8, 32),
        (35.2, 8, 32),  # EfficientNet-B2's stem: 32 is 90.9 % of it
        (44, 8, 48),  # half-way goes up
        (18, 8, 24),  # 16 would be 88.9 %
        (3, 8, 8),  # at least one
        (93.6, 4, 92),  # GhostNet 1.3
    ],
)
def test_to_multiple(channels: float, divisor: int, expected: int) -> None:
    assert to_multiple(channels, divisor) == expected

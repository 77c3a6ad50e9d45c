"""Whether a graph is exported."""

import pytest
import torch
from torch import Tensor, nn

from public.runtime.tracing import is_exporting


class Told(nn.Module):
    """Adds 1 in an export, else nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x + is_exporting()


def test_neither_a_call_nor_a_compilation_is_an_export() -> None:
    """torch 2.11.0's own function takes compilations for exports."""
    zero = torch.zeros(1)
    assert Told()(zero) == 0
    assert torch.compile(Told(), backend="eager", fullgraph=True)(zero) == 0


@pytest.mark.parametrize("strict", [True, False])
def test_an_export_is_one(strict: bool) -> None:
    program = torch.export.export(Told(), (torch.zeros(1),), strict=strict)
    assert program.module()(torch.zeros(1)) == 1
    assert not is_exporting()

"""What traces the code that runs, where torch's own answer is wrong."""

import torch

# torch 2.11's function is always true within torch.compile; those of 2.12 to 2.14 read what is read here.
_COMPILING_PASSES_FOR_EXPORTING = torch.__version__ < "2.12"  # compared as a version


def is_exporting() -> bool:
    """Whether `torch.export` makes a graph of the code that runs; within `torch.compile` it is no export."""
    if _COMPILING_PASSES_FOR_EXPORTING:
        return torch.compiler._is_exporting_flag
    return torch.compiler.is_exporting()  # noqa: TID251

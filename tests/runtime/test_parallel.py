"""What is put around a training module; one CPU needs nothing."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from public.runtime import parallel
from public.runtime.distributed import DistributedContext
from public.runtime.parallel import check_sync_batch_norm, wrap
from tests.conftest import ROOT

PLAIN = {"sync_batch_norm": False, "parallel": "distributed", "compiled": False, "channels_last": False}


def wrapped(module: nn.Module, context: DistributedContext, **options: Any) -> nn.Module:
    """With everything switched off but what is stated."""
    arguments: dict[str, Any] = PLAIN | options
    return wrap(module, context, **arguments)


def test_one_process_on_the_cpu_is_left_bare(context: DistributedContext) -> None:
    """For data_parallel too: there are no GPUs to spread over."""
    module = nn.Conv2d(3, 4, 3)
    assert wrapped(module, context) is module
    assert wrapped(module, context, parallel="data_parallel") is module


def test_data_parallel_is_put_around_in_one_place(context: DistributedContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where two GPUs are visible; torch's own, with no GPU behind it, hands the call through."""
    monkeypatch.setattr(parallel, "num_replicas", lambda kind, context: 2 if kind == "data_parallel" else 1)
    module = nn.Linear(3, 4)
    spread = wrapped(module, context, parallel="data_parallel")
    assert isinstance(spread, nn.DataParallel)
    assert spread.module is module
    assert torch.equal(spread(torch.ones(2, 3)), module(torch.ones(2, 3)))
    assert wrapped(module, context) is module
    found = [path for path in (ROOT / "public").rglob("*.py") if re.search(r"\bDataParallel\(", path.read_text())]
    assert found == [ROOT / "public" / "runtime" / "parallel.py"]


@pytest.mark.parametrize(("visible", "expected"), [(0, 1), (1, 1), (2, 2)])
def test_how_many_parts_there_are(visible: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there are GPUs, in one process on them; one in any other case."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    cpu, cuda = (DistributedContext(rank=0, size=1, device=torch.device(kind)) for kind in ("cpu", "cuda"))
    assert parallel.num_replicas("data_parallel", cuda) == expected
    assert parallel.num_replicas("data_parallel", cpu) == 1
    assert parallel.num_replicas("data_parallel", replace(cuda, size=2)) == 1
    assert parallel.num_replicas("distributed", cuda) == 1


def test_a_graph_lies_within_what_is_put_around(context: DistributedContext) -> None:
    """The module itself is compiled, so that its keys stay and what is around it is no part of the graph."""
    compiled: list[nn.Module] = []

    class Compiled(nn.Linear):
        def compile(self, *args: Any, **kwargs: Any) -> None:
            compiled.append(self)

    module = Compiled(3, 4)
    assert wrapped(module, context, compiled=True) is module
    assert compiled == [module]


def test_channels_last(context: DistributedContext) -> None:
    """The convolution's weights change their layout."""
    module = nn.Conv2d(3, 4, 3)
    wrapped(module, context, channels_last=True)
    assert module.weight.is_contiguous(memory_format=torch.channels_last)


def test_synchronized_batch_norm_needs_gpus(context: DistributedContext) -> None:
    """Refused on a CPU, where torch has none."""
    check_sync_batch_norm(False, context)
    check_sync_batch_norm(True, replace(context, device=torch.device("cuda")))
    with pytest.raises(ValueError, match="sync_batch_norm=True needs GPUs"):
        check_sync_batch_norm(True, context)

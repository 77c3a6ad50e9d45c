"""What `python -m benchmarks.gpu` checks on a card: the numbers of a CPU, precisions, resuming, wrappers, graphs."""

import copy
import io
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils._pytree import tree_leaves, tree_map

from benchmarks.gpu_steps import CLASSIFICATION, SGD, TWO_STAGES, Setting, Step, Training, float32_products, total
from benchmarks.random_batches import random_batch
from public.datasets.batches import DetectionBatch
from public.datasets.locations import REPOSITORY
from public.optim.options import AdamWOptions
from public.runtime.device import synchronize, use_deterministic_kernels

OUR_CODE = REPOSITORY / "public"


def moved(values: Any, device: torch.device) -> Any:
    """Nested tuples of tensors on a device; what is no tensor stays."""
    return tree_map(lambda x: x.detach().to(device) if isinstance(x, Tensor) else x, values)


def difference(found: Any, expected: Any) -> float:
    """The largest difference between two nests of tensors, as a share of the largest value of each tensor."""
    pairs = zip(*(tree_leaves(moved(x, torch.device("cpu"))) for x in (found, expected)), strict=True)
    shares = [
        float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))
        for a, b in pairs
        if isinstance(b, Tensor) and b.numel()
    ]
    return max(shares, default=0.0)


# ---- against a CPU --------------------------------------------------------------------------------------------------


def against_cpu(name: str, setting: Setting) -> dict[str, Any]:
    """Outputs of a network, and losses and detections from the CPU's outputs, all in float32.

    From a network's own outputs, which differ in the last bits, the order of two close scores could change, and with it
    what is proposed: so that both sides are asked the same.
    """
    torch.manual_seed(0)
    cpu = torch.device("cpu")
    ours = Step(name, setting.backbone)
    theirs, batch = copy.deepcopy(ours).to(setting.device), random_batch(2, 7, (setting.canvas, setting.canvas), cpu)
    moved_batch = DetectionBatch(*moved(tuple(batch), setting.device))
    with float32_products("ieee"), torch.no_grad():
        outputs = ours.outputs(batch.images)
        moved_outputs, expected = moved(outputs, setting.device), ours.losses(outputs, batch)
        with setting.on_device():
            found = {
                "outputs": difference(theirs.outputs(moved_batch.images), outputs),
                "losses": difference(theirs.losses(moved_outputs, moved_batch), expected),
            }
            if name != CLASSIFICATION:
                kept = theirs.model.detector.decode(moved_outputs, moved_batch.sizes)
                found["detections"] = difference(kept, ours.model.detector.decode(outputs, batch.sizes))
    return {"differences": found, "passed": found["losses"] < 1e-4 and max(found.values()) < 1e-2}


# ---- steps ----------------------------------------------------------------------------------------------------------


def precisions(name: str, setting: Setting) -> dict[str, Any]:
    """Ten steps on one batch in float32, bf16 and fp16: the first losses agree, and each learns the batch."""
    losses = {
        word: Training(name, setting, dtype, AdamWOptions(lr=1e-4, weight_decay=0.0)).run([0] * 10)
        for word, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16))
    }
    first = losses["fp32"][0]
    passed = all(abs(x[0] / first - 1) < 0.03 and x[-1] < x[0] for x in losses.values())
    return {"first_and_last_loss": {word: [x[0], x[-1]] for word, x in losses.items()}, "passed": passed}


def resume(name: str, setting: Setting) -> dict[str, Any]:
    """Six steps, and three of which the state is written, read by a new one and three more: equal to the last bit.

    Kernels without a fixed order of additions are named by torch and reported.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        use_deterministic_kernels()
        try:
            whole = Training(name, setting, torch.float32, SGD)
            losses = whole.run(range(6))
            before = Training(name, setting, torch.float32, SGD)
            before.run(range(3))
            torch.save(before.state(), file := io.BytesIO())
            file.seek(0)
            after = Training(name, setting, torch.float32, SGD)
            after.load(torch.load(file, weights_only=True, map_location=setting.device))
            resumed = after.run(range(3, 6))
        finally:
            torch.use_deterministic_algorithms(False)
    pairs = zip(tree_leaves(whole.state()), tree_leaves(after.state()), strict=True)
    same = all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)
    unordered = sorted(
        {str(one.message).split(" does not have")[0] for one in caught if "determin" in str(one.message)}
    )
    return {"losses": losses[3:], "resumed": resumed, "unordered": unordered, "passed": same and resumed == losses[3:]}


# ---- wrappers -------------------------------------------------------------------------------------------------------


class InParts(nn.Module):
    """What several GPUs do with a batch, on one: the losses of each of its parts, with the statistics of a part.

    Args:
        step: that takes the fields of a batch.
        number: of the parts.
    """

    def __init__(self, step: nn.Module, number: int) -> None:
        super().__init__()
        self.step, self.number = step, number

    def forward(self, *batch: Tensor) -> dict[str, Tensor]:
        """The fields of a batch -> the named losses, a value for each part."""
        parts = zip(*(field.chunk(self.number) for field in batch), strict=True)
        losses = [self.step(*part) for part in parts]
        return {name: torch.stack([one[name] for one in losses]) for name in losses[0]}


def wrappers(name: str, setting: Setting) -> dict[str, Any]:
    """DDP in a process group of one, with SyncBN on a GPU, and nn.DataParallel on all GPUs: the losses of none.

    On one GPU nn.DataParallel only calls the module, and SyncBN in a group of one exchanges nothing: that a network
    can be wrapped is then all that is shown. On several nn.DataParallel has the losses of as many parts.
    """
    on_gpu, count = setting.device.type == "cuda", torch.cuda.device_count()
    ids = [setting.device.index or 0] if on_gpu else None

    def ddp(step: nn.Module) -> nn.Module:
        return DistributedDataParallel(step, device_ids=ids, gradient_as_bucket_view=True)

    # Each beside the one whose losses it has to have.
    ways: dict[str, tuple[Callable[[nn.Module], nn.Module], str]] = {
        "none": (lambda step: step, "none"),
        "DDP": (ddp, "none"),
    }
    if on_gpu:
        ways["DDP, SyncBN"] = (lambda step: ddp(nn.SyncBatchNorm.convert_sync_batchnorm(step)), "none")
        ways["in parts"] = (lambda step: InParts(step, count), "in parts")
        ways["nn.DataParallel"] = (lambda step: DataParallel(step, device_ids=list(range(count))), "in parts")
    backend = "nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
    try:
        losses = {}
        for word, (way, _) in ways.items():
            training = Training(name, setting, torch.float32, SGD)
            losses[word] = training.run(range(3), way(training.step))
    finally:
        dist.destroy_process_group()
    pairs = [(a, b) for word, (_, other) in ways.items() for a, b in zip(losses[word], losses[other], strict=True)]
    agree = all(abs(a / b - 1) < 1e-3 for a, b in pairs)
    return {"losses": losses, "backend": backend, **wrappers_outcome(agree, count if on_gpu else 0)}


def wrappers_outcome(agree: bool, num_gpus: int) -> dict[str, Any]:
    """Whether the wrapped networks have the losses that they have to have, and what that does not show."""
    if not agree:
        return {"passed": False}
    if num_gpus < 2:
        return {"outcome": "not shown", "why": f"{('no', 'one')[num_gpus]} GPU: replication not shown"}
    return {"passed": True, "why": "nn.DataParallel on all GPUs; of DDP and SyncBN, in one process, no exchange"}


# ---- what a GPU alone has -------------------------------------------------------------------------------------------


def host_waits(name: str, setting: Setting) -> dict[str, Any]:
    """How often torch sees the host wait in the third step; not at all but for `nms` of two-stage detectors."""
    setting.only_on_cuda("the host's waits for a device")
    training = Training(name, setting, torch.bfloat16, SGD)
    batches = [training.batch(number) for number in range(3)]
    for batch in batches[:2]:
        training.update(batch)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with waiting_lines() as lines:
            training.update(batches[2])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return {"waits": len(lines), "lines": lines, "passed": are_expected(name, lines)}


def are_expected(name: str, lines: Sequence[str]) -> bool:
    """Whether a step waits at the one line of `nms` if it has two stages, and else at none."""
    expected = ["suppression.py"] if name in TWO_STAGES else []
    return [line.partition(":")[0] for line in lines] == expected


@contextmanager
def waiting_lines() -> Iterator[list[str]]:
    """Gathers where torch warns of a host wait: the innermost line of ours, which may have called torch's Python."""
    lines: list[str] = []

    def note(message: Any, category: Any, filename: str, lineno: int, *_: Any) -> None:
        if "synchron" in str(message):
            stack = [(frame.filename, frame.lineno) for frame in traceback.extract_stack()]
            ours = [place for place in stack if Path(place[0]).is_relative_to(OUR_CODE)]
            path, number = ours[-1] if ours else (filename, lineno)
            lines.append(f"{Path(path).name}:{number}")

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        yield lines


def cuda_graph(name: str, setting: Setting) -> dict[str, Any]:
    """A whole step as one CUDA graph: its losses are those of steps without, and how much faster it is."""
    setting.only_on_cuda("CUDA graphs")
    training = Training(name, setting, torch.bfloat16, SGD)
    batch = training.batch(0)
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            _plain_update(training, batch)
    torch.cuda.current_stream().wait_stream(beside)
    other = Training(name, setting, torch.bfloat16, SGD)
    other.load(copy.deepcopy(training.state()))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = _plain_update(training, batch)
    replayed, plain = [], []
    for _ in range(5):
        graph.replay()
        replayed.append(loss.item())
        plain.append(_plain_update(other, batch).item())
    seconds = [_seconds(one, setting.device) for one in (graph.replay, lambda: _plain_update(other, batch))]
    passed = all(abs(a / b - 1) < 2e-2 for a, b in zip(replayed, plain, strict=True))
    return {"replayed": replayed, "plain": plain, "times_as_fast": round(seconds[1] / seconds[0], 3), "passed": passed}


def _plain_update(training: Training, batch: DetectionBatch) -> Tensor:
    """Forward, backward and optimizer: what a graph can hold."""
    training.optimizer.zero_grad(set_to_none=True)
    loss = total(training.step(*batch))
    loss.backward()
    training.optimizer.step()
    return loss.detach()


def _seconds(run: Callable[[], Any], device: torch.device) -> float:
    """Of one of ten."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(10):
        run()
    synchronize(device)
    return (time.perf_counter() - start) / 10

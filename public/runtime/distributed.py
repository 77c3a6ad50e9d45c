"""One process or many: starting them, knowing one's place among them, and adding numbers up over all of them."""

import contextlib
import math
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import PrefixStore, Store  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.rendezvous import rendezvous

from public.config.checks import require
from public.config.names import first_line
from public.runtime.device import choose_device, count_gpus, num_cores

LONGEST_WAIT = timedelta(hours=12)
"""How long a process waits for the others at a barrier. The main one may be downloading and unpacking a data set:
COCO's 18 GB take ten hours at 500 kB/s, and gloo's own limit of 30 minutes would end the run. A process that dies is
noticed at once all the same: its connections close."""
LONGEST_START = timedelta(minutes=30)
"""How long the processes of a run wait for each other to start: torch's own limit."""


_LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class DistributedContext:
    """This process's place among all processes of the run."""

    rank: int
    """0 for the process that writes files."""
    size: int
    """Number of processes."""
    device: torch.device
    """The device of this process."""
    control: Any = None
    """A gloo group for decisions taken on the CPU; None in one process."""
    restarted: bool = False
    """Whether the launcher started the processes before: some of them died, and it began again."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes logs, pictures and checkpoints."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Adds `values` (on any device) up over all processes; every process gets the result."""
        if self.size > 1:
            # NCCL adds what is on the GPU; sums that lie on the CPU go over gloo.
            dist.all_reduce(values, group=self.control if values.device.type == "cpu" else None)
        return values

    def start_max(self, values: torch.Tensor) -> Any:
        """Starts putting the largest of all processes into `values`, on the CPU; they are there after its `wait()`."""
        return dist.all_reduce(values, dist.ReduceOp.MAX, group=self.control, async_op=True)

    def gather(self, value: Any) -> list[Any]:
        """Every process's `value`, in the order of ranks, on every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def broadcast_buffers(self, module: nn.Module) -> None:
        """Gives every process the main one's buffers (batch norm's statistics, which each keeps for itself)."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0, group=self.control if buffer.device.type == "cpu" else None)

    def barrier(self) -> None:
        """Waits until every process is here."""
        if self.size > 1:
            dist.barrier(group=self.control)


def under_launcher() -> bool:
    """Whether torchrun or torch.distributed.launch started this process.

    Raises:
        ValueError: the environment says so in part, or gives this process no place.
    """
    missing = [name for name in _LAUNCHER if name not in os.environ]
    if missing:
        size = os.environ.get("WORLD_SIZE", "1")
        require(
            size == "1",
            f"the environment has WORLD_SIZE={size}, as in one of several processes, and lacks {', '.join(missing)}: "
            "start the run with torchrun, which sets all of them, or unset WORLD_SIZE.",
        )
        return False
    size = _number_of_launcher("WORLD_SIZE", 1, math.inf)
    for name in ("RANK", "LOCAL_RANK"):
        _number_of_launcher(name, 0, size - 1)
    _number_of_launcher("MASTER_PORT", 0, 65535)
    return True


def _number_of_launcher(name: str, lowest: float, highest: float) -> float:
    value = os.environ[name]
    bounds = f"{lowest} or more" if highest == math.inf else f"from {lowest} to {highest}"
    is_number = value.isascii() and value.isdecimal() and lowest <= int(value) <= highest
    require(is_number, f"the environment has {name}={value}, which a launcher sets to a whole number {bounds}.")
    return int(value)


def processes_to_start(device: str, parallel: str, processes: int | None) -> int:
    """How many processes `python train.py` has to start; 1 means that this one suffices.

    Args:
        device: runtime.device.
        parallel: the config's `parallel`.
        processes: runtime.processes; None for one per visible GPU.

    Raises:
        ValueError: torch cannot use the GPUs, or see `under_launcher`.
    """
    if under_launcher() or parallel == "data_parallel":
        return 1
    if processes is not None:
        return processes
    return 1 if device == "cpu" else max(1, count_gpus())


def start_processes(num_processes: int, script: str, args: Sequence[str]) -> int:
    """Runs `script` in several processes of this machine, on a free port, through torch's own elastic launcher.

    Returns:
        The exit code of the run: 0, that of the first process that failed, or 128 + the signal that stopped it.
    """
    from torch.distributed import run as elastic  # slow to import, and only needed here
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    options = ["--standalone", f"--nproc-per-node={num_processes}", script, *args]
    # Each process would otherwise use every core for itself; torchrun's own default is one thread each.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, num_cores() // num_processes)))
    try:
        elastic.run(elastic.parse_args(options))
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


@contextlib.contextmanager
def join_process_group(device: str, parallel: str = "distributed") -> Iterator[DistributedContext]:
    """Joins the processes that a launcher started, or stands alone; leaves them at the end.

    Args:
        device: runtime.device.
        parallel: the config's `parallel`.

    Raises:
        ValueError: a launcher started several processes for nn.DataParallel, or there is no GPU for this one; or the
            processes cannot meet where the environment says.
    """
    size = int(os.environ["WORLD_SIZE"]) if under_launcher() else 1
    if size > 1 and parallel == "data_parallel":
        raise ValueError(
            f"parallel='data_parallel' runs in one process, and a launcher started {size}. "
            "Start it with `python train.py`, or use --parallel distributed."
        )
    if size == 1:
        restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
        yield DistributedContext(rank=0, size=1, device=choose_device(device), restarted=restarted)
        return
    own_device = choose_device(device, int(os.environ["LOCAL_RANK"]))
    on_gpu = own_device.type == "cuda"
    store, rank = _meet()
    restarted = rank == 0 and store.check([_MAIN])
    attempt = agree_on_attempt(store, rank, size)
    # This group keeps the backend's own minutes: it adds up gradients, which all processes have at about the same time.
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=PrefixStore(attempt, store),
        rank=rank,
        world_size=size,
        device_id=own_device if on_gpu else None,
    )
    control = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
    context = DistributedContext(rank=rank, size=size, device=own_device, control=control)
    yield replace(context, restarted=any(context.gather(restarted)))
    # Not after an error: the others would still be waiting for this process, and it for them.
    dist.destroy_process_group()


def _meet() -> tuple[Store, int]:
    """Where the processes find each other, and this one's number."""
    try:
        store, rank, _ = next(rendezvous("env://", timeout=LONGEST_START))
    except (dist.DistNetworkError, dist.DistStoreError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise ValueError(
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} cannot meet the others at {where} "
            f"(MASTER_ADDR and MASTER_PORT, which lie on the machine of process 0): {first_line(error)}"
        ) from error
    return store, rank


def is_first_to_fail() -> bool:
    """Whether no other process of the run has asked this; to be asked once, by a process that ends with an error.

    The others find out the same, or that this one is gone: nobody has to read that.
    """
    if not dist.is_initialized():
        return True
    try:
        # In the launcher's store, which is still there where other processes are gone.
        return dist.distributed_c10d._get_default_store().add("public/failed", 1) == 1
    except RuntimeError:  # it is not: the launcher has ended
        return True


_MAIN = "public/main"
"""In the launcher's store: the name that the main process gave itself."""


def agree_on_attempt(store: Store, rank: int, size: int) -> str:
    """A name that the processes of a run agree on, and that those which a launcher started before them never had.

    After a failure torchrun starts all processes again and gives them the store of those that died, where their
    addresses still are: whoever reads one before it is overwritten connects to nobody, and the new start fails too, or
    hangs. Everything that a start writes therefore lies below a name of its own. TORCHELASTIC_RESTART_COUNT is no such
    name: where only one of two machines saw the failure, their counts differ.

    Args:
        store: of the launcher.
        rank: of this process.
        size: number of processes.

    Raises:
        TimeoutError: some of the processes did not come within `LONGEST_START`.
    """
    own = uuid.uuid4().hex
    if rank == 0:
        store.set(_MAIN, own)
        members = [store.get(f"{_MAIN}/{own}/{other}").decode() for other in range(1, size)]  # waits for each
        store.set(f"{_MAIN}/{own}/members", " ".join(members))
        return own
    deadline = time.monotonic() + LONGEST_START.total_seconds()
    while time.monotonic() < deadline:
        main = store.get(_MAIN).decode()  # waits for the first; one that is dead never hears of this process
        members_key = f"{_MAIN}/{main}/members"
        store.set(f"{_MAIN}/{main}/{rank}", own)
        if store.check([members_key]) and own in store.get(members_key).decode().split():
            return main
        time.sleep(0.02)
    raise TimeoutError(f"process {rank} waited {LONGEST_START} for the main process of {size}.")

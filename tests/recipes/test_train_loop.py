"""One step of the loop: numbers by hand, accumulation, clipping, and losses that are not finite; and its length."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from public.optim.ema import AveragedWeights
from public.optim.step import NonFiniteLossError
from public.recipes import train_loop
from public.recipes.train_loop import train_step
from public.runtime.distributed import DistributedContext

pytestmark = pytest.mark.usefixtures("no_plots")


class Product(nn.Module):
    """loss = mean of weight . x over the batch, so that the gradient is the mean of x."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weights))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """[B, number of weights] -> one loss."""
        return {"product": (x @ self.weight).mean()}


class Stepper:
    """Plain gradient descent by the loop's own step, on all of the task's parameters."""

    def __init__(
        self,
        task: nn.Module,
        context: DistributedContext,
        dtype: torch.dtype = torch.float32,
        *,
        clip_grad_norm: float | None = None,
        ema: AveragedWeights | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        prepare: Callable[[Any, int], Any] = lambda parts, step: parts,
    ) -> None:
        self.optimizer = optimizer or torch.optim.SGD(task.parameters(), lr=123.0)
        self.scaler = torch.amp.GradScaler("cpu", enabled=dtype == torch.float16)
        state = SimpleNamespace(network=task, optimizer=self.optimizer, scaler=self.scaler, ema=ema)
        config = SimpleNamespace(clip_grad_norm=clip_grad_norm)
        own = SimpleNamespace(prepare=prepare)
        self.run: Any = SimpleNamespace(state=state, config=config, task=own, wrapped=task, context=context, parts=list)

    def step(self, parts: Sequence[Any], *, lr: float, step: int) -> dict[str, float]:
        """The losses before the update."""
        self.run.global_step = step
        return train_step(self.run, parts, lr)


def test_one_step_by_hand(context: DistributedContext) -> None:
    """w = (1, 2), x = (3, 4) and (5, 6): losses 11 and 17, mean 14; gradient (4, 5); w - 0.1 g = (0.6, 1.5)."""
    task = Product(1.0, 2.0)
    stepper = Stepper(task, context)
    losses = stepper.step([(torch.tensor([[3.0, 4.0], [5.0, 6.0]]),)], lr=0.1, step=0)
    assert losses == {"product": 14.0}
    torch.testing.assert_close(task.weight.detach(), torch.tensor([0.6, 1.5]))
    assert task.weight.grad is None, "the next step starts from no gradient"
    assert stepper.optimizer.param_groups[0]["lr"] == 0.1


class Classifier(nn.Module):
    """A small network without batch norm, two named losses."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 5))

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """[B, 3, 8, 8], [B] -> cross entropy and a penalty."""
        logits = self.network(images)
        return {"cross_entropy": F.cross_entropy(logits, labels), "penalty": 0.01 * logits.square().mean()}


def test_four_accumulated_chunks_equal_one_batch(context: DistributedContext) -> None:
    """Losses and weights after three steps agree to float rounding."""
    images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(16) % 5
    results = []
    for num_chunks in (1, 4):
        task = Classifier()
        stepper = Stepper(task, context)
        chunks = list(zip(images.chunk(num_chunks), labels.chunk(num_chunks), strict=True))
        losses = [stepper.step(chunks, lr=0.1, step=step) for step in range(3)]
        results.append((losses, task.state_dict()))
    (whole_losses, whole), (parts_losses, parts) = results
    assert whole_losses[0].keys() == {"cross_entropy", "penalty"}
    for a, b in zip(whole_losses, parts_losses, strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (1.0, (-0.06, -0.08)),  # norm 5 -> 1: the gradient (3, 4) becomes (0.6, 0.8)
        (2.5, (-0.15, -0.2)),
        (10.0, (-0.3, -0.4)),  # below the limit nothing changes
        (None, (-0.3, -0.4)),
    ],
)
def test_clipping_by_hand(context: DistributedContext, limit: float | None, expected: tuple[float, float]) -> None:
    """Gradient (3, 4), whose norm is 5; lr 0.1 from zero weights."""
    task = Product(0.0, 0.0)
    Stepper(task, context, clip_grad_norm=limit).step([(torch.tensor([[3.0, 4.0]]),)], lr=0.1, step=0)
    torch.testing.assert_close(task.weight.detach(), torch.tensor(expected), rtol=1e-5, atol=1e-7)


def test_clipping_sees_the_sum_of_the_accumulated_gradients(context: DistributedContext) -> None:
    """Chunks with gradients (6, 0) and (0, 8), mean (3, 4), norm 5: clipped to 1 once, not each."""
    task = Product(0.0, 0.0)
    chunks = [(torch.tensor([[6.0, 0.0]]),), (torch.tensor([[0.0, 8.0]]),)]
    Stepper(task, context, clip_grad_norm=1.0).step(chunks, lr=0.1, step=0)
    torch.testing.assert_close(task.weight.detach(), torch.tensor([-0.06, -0.08]), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_changes_nothing(context: DistributedContext, bad: float) -> None:
    """The error names step, learning rate and loss; weights, momentum and average are those before the step."""
    task = Product(1.0)
    optimizer = torch.optim.SGD(task.parameters(), lr=1.0, momentum=0.9)
    ema = AveragedWeights(task, 0.9)
    stepper = Stepper(task, context, ema=ema, optimizer=optimizer)
    stepper.step([(torch.tensor([[0.5]]),)], lr=0.1, step=6)
    momentum = optimizer.state[task.weight]["momentum_buffer"].clone()
    with pytest.raises(NonFiniteLossError, match=rf"not finite at step 7 \(lr 0\.05\): product={bad}\."):
        stepper.step([(torch.tensor([[bad]]),)], lr=0.05, step=7)
    assert task.weight.item() == pytest.approx(0.95)
    assert torch.equal(optimizer.state[task.weight]["momentum_buffer"], momentum)
    assert (ema.num_averaged, ema.state_dict()["weight"].item()) == (1, pytest.approx(0.95))


def test_one_bad_chunk_or_one_bad_loss_is_enough(context: DistributedContext) -> None:
    """All named losses are reported, the finite ones too."""

    class TwoLosses(Product):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return super().forward(x) | {"fine": torch.tensor(2.0)}

    task = TwoLosses(1.0)
    chunks = [(torch.tensor([[1.0]]),), (torch.tensor([[float("inf")]]),)]
    with pytest.raises(NonFiniteLossError, match=r"product=inf, fine=2\.0"):
        Stepper(task, context).step(chunks, lr=0.1, step=0)
    assert task.weight.item() == 1.0


def test_the_average_follows_every_step(context: DistributedContext) -> None:
    """Gradient 1, lr 0.1, from 1: weights 0.9, 0.8; average 0.9, then 0.5 x 0.9 + 0.5 x 0.8 = 0.85."""
    task = Product(1.0)
    ema = AveragedWeights(task, 0.5)
    stepper = Stepper(task, context, ema=ema)
    for step in range(2):
        stepper.step([(torch.tensor([[1.0]]),)], lr=0.1, step=step)
    assert ema.state_dict()["weight"].item() == pytest.approx(0.85)


def test_losses_of_several_gpus_are_averaged(context: DistributedContext) -> None:
    """Under nn.DataParallel a loss is a vector with one mean per GPU: (2, 4) counts as 3, gradient 3 at w = 1."""

    class Gathered(Product):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"product": x @ self.weight}

    task = Gathered(1.0)
    assert Stepper(task, context).step([(torch.tensor([[2.0], [4.0]]),)], lr=0.1, step=0) == {"product": 3.0}
    assert task.weight.item() == pytest.approx(0.7)


def test_fp16_scales_the_loss_and_gives_the_same_step(context: DistributedContext) -> None:
    """The scale (65,536) is divided out before clipping and stepping; other precisions have none."""
    task = Product(0.0, 0.0)
    stepper = Stepper(task, context, dtype=torch.float16, clip_grad_norm=1.0)
    assert stepper.scaler.get_scale() == 65536.0
    assert stepper.step([(torch.tensor([[3.0, 4.0]]),)], lr=0.1, step=0) == {"product": 0.0}
    torch.testing.assert_close(task.weight.detach(), torch.tensor([-0.06, -0.08]), rtol=1e-5, atol=1e-7)
    assert not Stepper(task, context, dtype=torch.bfloat16).scaler.is_enabled()


def test_fp16_skips_a_step_whose_gradients_overflow(context: DistributedContext) -> None:
    """A finite loss with an infinite gradient: the weights stay, the scale is halved, the run continues."""
    task = Product(0.0)
    stepper = Stepper(task, context, dtype=torch.float16)
    stepper.step([(torch.tensor([[3e38]]),)], lr=0.1, step=0)  # 65,536 x 3e38 is infinite in float32
    assert (task.weight.item(), stepper.scaler.get_scale()) == (0.0, 32768.0)


def test_gradients_are_exchanged_once_an_update(context: DistributedContext) -> None:
    """Of 3 chunks the first two run without synchronization, as DDP's no_sync does it."""

    class Synchronized(Product):
        def __init__(self) -> None:
            super().__init__(1.0)
            self.synchronizing, self.seen = True, list[bool]()

        @contextlib.contextmanager
        def no_sync(self) -> Iterator[None]:
            self.synchronizing = False
            yield
            self.synchronizing = True

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            self.seen.append(self.synchronizing)
            return super().forward(x)

    task = Synchronized()
    Stepper(task, context).step([(torch.ones(1, 1),)] * 3, lr=0.1, step=0)
    assert task.seen == [False, False, True]


def test_what_is_attached_to_the_optimizer_sees_true_gradients(context: DistributedContext) -> None:
    """In fp16 the loss is scaled by 65,536; hooks of the optimizer's step find (3, 4) all the same."""
    task = Product(0.0, 0.0)
    stepper = Stepper(task, context, dtype=torch.float16)
    seen: list[list[float]] = []
    stepper.optimizer.register_step_pre_hook(lambda *_: seen.append(task.weight.grad.tolist()))  # pyright: ignore
    stepper.step([(torch.tensor([[3.0, 4.0]]),)], lr=0.1, step=0)
    assert seen == [[3.0, 4.0]]


def test_prepare_gets_the_number_of_the_step(context: DistributedContext) -> None:
    """It turns the parts into what the task takes: here x times the number of the step."""
    task = Product(1.0)
    stepper = Stepper(task, context, prepare=lambda parts, step: [(step * x,) for (x,) in parts])
    assert stepper.step([(torch.tensor([[2.0]]),)], lr=0.0, step=7) == {"product": 14.0}


def test_the_loop_is_on_one_page() -> None:
    """150 lines at most, and the stages of an epoch stand in it in the order in which they happen."""
    text = Path(train_loop.__file__).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    epoch, step = (
        text[text.index("def train_epoch(") : text.index("def train_step(")],
        text[text.index("def train_step(") :],
    )
    for part, stages in (
        (
            step,
            (
                "task.prepare",
                "run.wrapped(",
                "backward()",
                "check_finite",
                "clip_grad_norm_",
                "scaler.step",
                "ema.update",
            ),
        ),
        (epoch, ("run.batches()", "train_step(", "add_losses", "write_scalars", "run.save", "stop_if_asked")),
    ):
        places = [part.index(stage) for stage in stages]
        assert places == sorted(places)

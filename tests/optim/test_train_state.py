"""What a stopped run takes up again, and which checkpoints it refuses."""

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from public.config.record import to_record
from public.config.run import RunConfig
from public.optim.ema import AveragedWeights
from public.optim.options import ConstantOptions, SGDOptions
from public.optim.train_state import TrainState
from public.runtime.checkpoint import load_checkpoint, save_checkpoint
from public.runtime.distributed import DistributedContext
from tests.recipes.tiny_detection import TINY

CONFIG = RunConfig(
    name="tiny",
    epochs=2,
    batch_size=8,
    optimizer=SGDOptions(lr=0.1, weight_decay=0.0),
    schedule=ConstantOptions(),
)
IDENTITY: dict[str, Any] = {"config": to_record(CONFIG), "class_names": ["a", "b"], "num_images": 100}


class Pair(DistributedContext):
    """Two processes that say the same."""

    def gather(self, value: Any) -> list[Any]:
        """What both say."""
        return [value] * 2


def new_state(seed: int, steps: int = 0) -> TrainState:
    """Network, momentum and average after some steps."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    state = TrainState(network, optimizer, torch.amp.GradScaler("cpu", enabled=False), AveragedWeights(network, 0.9))
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.randn(8, 3)).square().sum().backward()
        optimizer.step()
        assert state.ema is not None
        state.ema.update(network)
        state.add_losses({"loss": 0.5})
    return state


def test_a_resumed_state_goes_on_bit_for_bit(tmp_path: Path, context: DistributedContext) -> None:
    """Weights, statistics, momentum, average, counters, and the next random numbers."""
    state = new_state(0, steps=3)
    state.finish_epoch({"epoch": 1, "top1": 0.25})
    state.add_losses({"loss": 1.5})
    state.save(tmp_path / "latest.pth", context, IDENTITY)
    expected = torch.rand(3)
    again = new_state(1)
    assert again.resume(tmp_path / "latest.pth", context, IDENTITY)
    assert torch.equal(torch.rand(3), expected)
    first, second = state._to_dict(), again._to_dict()
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    assert (again.epoch, again.step, again.loss_sums, again.history) == (1, 1, {"loss": 1.5}, state.history)


def test_without_a_checkpoint_nothing_happens(tmp_path: Path, context: DistributedContext) -> None:
    """A first run starts from its own weights."""
    state = new_state(0)
    assert state.resume(tmp_path / "latest.pth", context, IDENTITY) is False
    assert (state.epoch, state.step, state.best) == (0, 0, None)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, context: DistributedContext) -> None:
    """Every differing field and the classes are named; nothing is loaded."""
    new_state(0, steps=1).save(tmp_path / "latest.pth", context, IDENTITY)
    state = new_state(1)
    before = {name: value.clone() for name, value in state.network.state_dict().items()}
    other = IDENTITY | {"config": to_record(replace(CONFIG, seed=3)), "class_names": ["a", "c"]}
    classes = r"classes: 2 classes \(a, b\) -> 2 classes \(a, c\); gone: b; new: c"
    with pytest.raises(ValueError, match=rf"latest\.pth cannot be resumed, .*: seed: 0 -> 3; {classes}\. .*--fresh"):
        state.resume(tmp_path / "latest.pth", context, other)
    assert all(torch.equal(before[name], value) for name, value in state.network.state_dict().items())


@pytest.mark.parametrize("batch_size", [8, 4])
def test_a_run_that_began_with_another_rate_is_told_its_rate(
    tmp_path: Path, context: DistributedContext, batch_size: int
) -> None:
    """One begun before the rate followed the batch has the row's, 0.1; with that typed it resumes. Of another batch
    size the rate is not what is missing."""
    new_state(0).save(tmp_path / "latest.pth", context, IDENTITY)
    now = replace(CONFIG, batch_size=batch_size, optimizer=SGDOptions(lr=0.05, weight_decay=0.0))
    with pytest.raises(ValueError, match=r"optimizer\.lr: 0\.1 -> 0\.05\.") as refusal:
        new_state(0).resume(tmp_path / "latest.pth", context, IDENTITY | {"config": to_record(now)})
    assert ("(its learning rate: --optimizer.lr 0.1;" in str(refusal.value)) == (batch_size == 8)
    assert new_state(0).resume(tmp_path / "latest.pth", context, IDENTITY)


def test_smaller_passes_over_the_same_batches_are_told(
    tmp_path: Path, context: DistributedContext, caplog: pytest.LogCaptureFixture
) -> None:
    """What helps a run that found no memory; together with another setting it is refused as that is."""
    new_state(0, steps=1).save(tmp_path / "latest.pth", context, IDENTITY)
    parts = replace(CONFIG, accumulation_steps=2)
    assert new_state(0).resume(tmp_path / "latest.pth", context, IDENTITY | {"config": to_record(parts)})
    assert "latest.pth goes on with accumulation_steps: 1 -> 2: the same global batches in other parts" in caplog.text
    other = IDENTITY | {"config": to_record(replace(parts, seed=3))}
    with pytest.raises(ValueError, match=r"accumulation_steps: 1 -> 2; seed: 0 -> 3"):
        new_state(0).resume(tmp_path / "latest.pth", context, other)


@pytest.mark.parametrize(("done", "epochs", "is_told"), [(2, 4, True), (1, 4, False), (2, 1, False)])
def test_a_finished_run_with_more_epochs_is_told_how(
    tmp_path: Path, context: DistributedContext, done: int, epochs: int, is_told: bool
) -> None:
    """Its weights are a start of another run; one that is not finished has another way, its own settings."""
    state = new_state(0, steps=1)
    for epoch in range(done):
        state.finish_epoch({"epoch": epoch + 1})
    state.save(tmp_path / "latest.pth", context, IDENTITY)
    with pytest.raises(ValueError, match=rf"epochs: 2 -> {epochs}") as error:
        new_state(0).resume(
            tmp_path / "latest.pth", context, IDENTITY | {"config": to_record(replace(CONFIG, epochs=epochs))}
        )
    way = f"to train on from its weights: --initial-weights {tmp_path / 'best.pth'} --name tiny_more."
    assert (way in str(error.value)) is is_told


def test_the_way_of_a_finished_detector(tmp_path: Path, context: DistributedContext) -> None:
    """Whose row starts from a backbone's weights, which would be refused beside those of a whole network."""
    config = replace(TINY, backbone_weights="some.pth")
    state = new_state(0)
    for epoch in range(config.epochs):
        state.finish_epoch({"epoch": epoch + 1})
    identity = IDENTITY | {"config": to_record(config)}
    state.save(tmp_path / "latest.pth", context, identity)
    with pytest.raises(ValueError, match=r"--initial-weights \S+ --backbone-weights None --name tiny_more\.$") as error:
        new_state(0).resume(
            tmp_path / "latest.pth", context, identity | {"config": to_record(replace(config, epochs=99))}
        )
    told = re.findall(r"--initial-weights (\S+) --backbone-weights None", str(error.value))
    replace(config, initial_weights=told[0], backbone_weights=None)  # is accepted
    with pytest.raises(ValueError, match=r"give one of them \(--backbone-weights None leaves a row's out\)"):
        replace(config, initial_weights=told[0])


def test_a_checkpoint_of_another_task_is_refused(tmp_path: Path, context: DistributedContext) -> None:
    """A loss of one's own changes the result as a setting does."""
    new_state(0).save(tmp_path / "latest.pth", context, IDENTITY)
    with pytest.raises(ValueError, match=r"differ from the present ones: task: the usual -> experiment:loss\.Own\."):
        new_state(0).resume(tmp_path / "latest.pth", context, IDENTITY | {"task": "experiment:loss.Own"})


def test_a_checkpoint_whose_config_cannot_be_read_is_refused(tmp_path: Path, context: DistributedContext) -> None:
    """In one sentence that says what to do."""
    new_state(0).save(tmp_path / "latest.pth", context, IDENTITY | {"config": to_record(CONFIG) | {"format": 99}})
    with pytest.raises(ValueError, match=r"latest\.pth cannot be resumed: the record has format 99, .*--fresh\.$"):
        new_state(0).resume(tmp_path / "latest.pth", context, IDENTITY)


def test_a_checkpoint_that_lacks_something_is_refused(tmp_path: Path, context: DistributedContext) -> None:
    """Of our format, but not written by a run."""
    save_checkpoint(tmp_path / "latest.pth", {"config": to_record(CONFIG), "model": {}})
    with pytest.raises(ValueError, match=r"latest\.pth is not a whole checkpoint of a run: it has no class_names"):
        new_state(0).resume(tmp_path / "latest.pth", context, IDENTITY)


def test_another_number_of_images_is_told(
    tmp_path: Path, context: DistributedContext, caplog: pytest.LogCaptureFixture
) -> None:
    """The data set grew: the run continues, with a warning."""
    new_state(0).save(tmp_path / "latest.pth", context, IDENTITY)
    assert new_state(0).resume(tmp_path / "latest.pth", context, IDENTITY | {"num_images": 101})
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "was trained on 100 images, and there are 101 now" in record.getMessage()


def test_other_images_are_told(tmp_path: Path, context: DistributedContext, caplog: pytest.LogCaptureFixture) -> None:
    """As many as before; by a number of training images that changed it is said already. An old run tells nothing."""
    data = IDENTITY | {"digests": {"training": "1", "validation": "2"}}
    new_state(0).save(tmp_path / "latest.pth", context, data)
    for digests, others in (("12", ""), ("32", "training"), ("13", "validation"), ("34", "training and validation")):
        now = dict(zip(("training", "validation"), digests, strict=True))
        caplog.clear()
        assert new_state(0).resume(tmp_path / "latest.pth", context, data | {"digests": now})
        assert bool(others) == bool(caplog.records)
        assert not others or f"latest.pth goes on with other {others} images than before" in caplog.text
    caplog.clear()
    assert new_state(0).resume(
        tmp_path / "latest.pth", context, data | {"num_images": 99, "digests": {"training": "3"}}
    )
    assert len(caplog.records) == 1
    new_state(0).save(tmp_path / "latest.pth", context, IDENTITY)
    caplog.clear()
    assert new_state(0).resume(tmp_path / "latest.pth", context, data)
    assert not caplog.records


def test_another_number_of_processes_is_told(
    tmp_path: Path, context: DistributedContext, caplog: pytest.LogCaptureFixture
) -> None:
    """Each process has random generators of its own: two cannot take up one's."""
    new_state(0).save(tmp_path / "latest.pth", context, IDENTITY)
    for rank in (1, 0):  # which the main process says alone
        assert not caplog.records
        two = Pair(rank=rank, size=2, device=torch.device("cpu"))
        assert new_state(0).resume(tmp_path / "latest.pth", two, IDENTITY)
    assert "was written by 1 processes, and 2 resume" in caplog.text


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([False], r"latest\.pth is seen by 1 of 2 processes: the run folder must lie where all machines see it"),
        ([True, (7, 3)], r"latest\.pth is not the same on all machines, .* \[\(0, 0\), \(7, 3\)\]"),
    ],
)
def test_machines_without_a_shared_disk_are_refused(
    tmp_path: Path, context: DistributedContext, others: list[Any], message: str
) -> None:
    """They would train from different weights without a word: DDP does not send them again."""
    new_state(0).save(tmp_path / "latest.pth", context, IDENTITY)
    answers = iter(others)

    class Far(DistributedContext):
        """The other process's answers."""

        def gather(self, value: Any) -> list[Any]:
            return [value, next(answers)]

    far = Far(rank=0, size=2, device=torch.device("cpu"))
    with pytest.raises(ValueError, match=message):
        new_state(0).resume(tmp_path / "latest.pth", far, IDENTITY)


@pytest.mark.parametrize("was_fp16", [True, False])
def test_another_precision_is_told(
    tmp_path: Path, context: DistributedContext, caplog: pytest.LogCaptureFixture, was_fp16: bool
) -> None:
    """What "auto" means on another GPU: only fp16 has a loss scale, which then starts new."""
    states = [new_state(0), new_state(0)]
    states[0].scaler, states[1].scaler = (torch.amp.GradScaler("cpu", enabled=on) for on in (was_fp16, not was_fp16))
    states[0].save(tmp_path / "latest.pth", context, IDENTITY)
    assert states[1].resume(tmp_path / "latest.pth", context, IDENTITY)
    assert f"was {'' if was_fp16 else 'not '}trained in fp16, unlike the run that resumes" in caplog.text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_replace_nothing(tmp_path: Path, context: DistributedContext, value: float) -> None:
    """The checkpoint before them is the one to resume from."""
    path, state = tmp_path / "latest.pth", new_state(0, steps=1)
    assert state.save(path, context, IDENTITY) is True
    written = path.read_bytes()
    with torch.no_grad():
        state.network.get_parameter("0.bias")[2] = value
    with pytest.raises(FloatingPointError, match=r"not finite after epoch 0, step 1, .*latest\.pth stays as it was"):
        state.save(path, context, IDENTITY)
    assert path.read_bytes() == written


def test_only_the_main_process_writes(tmp_path: Path) -> None:
    """The others only give their random generators."""
    other = DistributedContext(rank=1, size=1, device=torch.device("cpu"))
    new_state(0).save(tmp_path / "latest.pth", other, IDENTITY)
    assert not (tmp_path / "latest.pth").exists()


def test_mean_losses_are_over_the_epochs_steps() -> None:
    """(1 + 3) / 2 = 2, and the next epoch starts from none."""
    state = new_state(0)
    state.add_losses({"box": 1.0, "class": 0.5})
    state.add_losses({"box": 3.0, "class": 0.5})
    assert state.mean_losses() == {"box": 2.0, "class": 0.5}
    state.finish_epoch({"epoch": 1})
    assert (state.epoch, state.step, state.mean_losses()) == (1, 0, {})


@pytest.mark.parametrize(
    ("metric", "old", "new", "expected"),
    [("top1", 0.5, 0.6, True), ("top1", 0.5, 0.5, False), ("loss", 0.5, 0.4, True), ("loss", 0.5, 0.6, False)],
)
def test_is_better(metric: str, old: float, new: float, expected: bool) -> None:
    """A lower loss, a higher accuracy; a tie keeps the earlier one; the first row is always the best so far."""
    state = new_state(0)
    assert state.is_better({metric: new}, metric)
    state.best = {metric: old}
    assert state.is_better({metric: new}, metric) is expected


def test_a_checkpoint_has_the_network_and_its_average(tmp_path: Path, context: DistributedContext) -> None:
    """And the lr, for people to read."""
    state = new_state(0, steps=2)
    state.save(tmp_path / "best.pth", context, IDENTITY)
    checkpoint = load_checkpoint(tmp_path / "best.pth")
    assert checkpoint["model"].keys() == checkpoint["ema"].keys() == state.network.state_dict().keys()
    assert checkpoint["schedule"] == {"lr": 0.1}


def spoil(part: str, value: Any) -> Any:
    """A function that puts a value into a checkpoint; part is a path like metrics.history."""

    def spoiled(state: dict[str, Any]) -> None:
        *keys, last = part.split(".")
        for key in keys:
            state = state[key]
        state[last] = value

    return spoiled


SPOILED = {
    "epoch": spoil("epoch", 99),
    "epoch_text": spoil("epoch", "1"),
    "step": spoil("step", -1),
    "no_rows": spoil("metrics.history", []),
    "rows": spoil("metrics.history", 7),
    "best": spoil("metrics.best", {"epoch": 5}),
    "metrics": spoil("metrics", {}),
    "losses": spoil("metrics.loss_sums", {"loss": "much"}),
    "model": spoil("model", {}),
    "model_more": lambda state: state["model"].update(other=torch.zeros(1)),
    "model_shape": lambda state: state["model"].update({"0.bias": torch.zeros(7)}),
    "ema": spoil("ema", None),
    "optimizer": spoil("optimizer", {}),
    "groups": spoil("optimizer.param_groups", []),
    "momentum": lambda state: state["optimizer"]["state"][0].update(momentum_buffer=torch.zeros(7)),
    "rng": spoil("rng", [{}]),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_whole_checkpoint_with_wrong_insides_is_refused(
    tmp_path: Path, context: DistributedContext, name: str
) -> None:
    """Its checksums are right: one sentence, whatever is wrong."""
    path, state = tmp_path / "latest.pth", new_state(0, steps=1)
    state.finish_epoch({"epoch": 1})
    state.save(path, context, IDENTITY)
    new_state(0).resume(path, context, IDENTITY)
    content = load_checkpoint(path)
    SPOILED[name](content)
    save_checkpoint(path, content)
    with pytest.raises(
        ValueError, match=r"latest\.pth is whole but holds something that this run never wrote"
    ) as error:
        new_state(0).resume(path, context, IDENTITY)
    assert "\n" not in str(error.value)


def test_a_damaged_checkpoint_says_how_to_go_on(tmp_path: Path, context: DistributedContext) -> None:
    """Only a run that resumes can start over."""
    (tmp_path / "latest.pth").touch()
    remedy = r": it is empty\. Remove it to start over, or put the run's best\.pth in its place to resume from there\.$"
    with pytest.raises(ValueError, match=rf"latest\.pth cannot be read as a checkpoint{remedy}"):
        new_state(0).resume(tmp_path / "latest.pth", context, IDENTITY)


def test_a_link_to_nothing_is_refused(tmp_path: Path, context: DistributedContext) -> None:
    """A run would start over without a word, and its first checkpoint replace the link."""
    (tmp_path / "latest.pth").symlink_to(tmp_path / "gone.pth")
    with pytest.raises(ValueError, match=r"latest\.pth is a link to .*gone\.pth, which is not there"):
        new_state(0).resume(tmp_path / "latest.pth", context, IDENTITY)
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError, match=r"folder is a folder; expected is a file"):
        new_state(0).resume(tmp_path / "folder", context, IDENTITY)


def test_a_best_checkpoint_that_is_gone_is_told(
    tmp_path: Path, context: DistributedContext, caplog: pytest.LogCaptureFixture
) -> None:
    """Else no later epoch would be written unless it beat one that nobody has."""
    state = new_state(0, steps=1)
    state.best = {"epoch": 1, "top1": 0.5}
    state.finish_epoch(state.best)
    state.save(tmp_path / "latest.pth", context, IDENTITY)
    again = new_state(0)
    assert again.resume(tmp_path / "latest.pth", context, IDENTITY)
    assert again.best is None
    assert "best.pth is gone, the weights of epoch 1" in caplog.text


def test_a_newer_checkpoint_says_so(tmp_path: Path) -> None:
    """It is no bare weights."""
    torch.save({"format": "public.checkpoint/2"}, tmp_path / "latest.pth")
    with pytest.raises(ValueError, match=r"has the format 'public.checkpoint/2' of a newer version"):
        load_checkpoint(tmp_path / "latest.pth")

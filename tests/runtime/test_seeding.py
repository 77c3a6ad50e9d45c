"""Random numbers by coordinates: published vectors, independence, and the state of the stateful generators."""

import contextlib
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from public.runtime.seeding import (
    _splitmix64,
    batch_of_step,
    drawing_for,
    epoch_order,
    get_rng_states,
    sample_hashes,
    sample_seed,
    seed_everything,
    set_rng_states,
    uniforms,
)

STEP = 0x9E3779B97F4A7C15


def splitmix64(state: int) -> int:
    """The generator's output for one state, in python's unbounded integers."""
    z = (state + STEP) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def test_splitmix64_gives_the_published_outputs() -> None:
    """The test vector of seed 1234567: its n-th output belongs to the state seed + n x step, from n = 0."""
    states = np.array([(1234567 + n * STEP) % 2**64 for n in range(5)], dtype=np.uint64)
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert _splitmix64(states).tolist() == published
    assert [splitmix64(int(state)) for state in states] == published


@pytest.mark.parametrize(("seed", "epoch", "index"), [(0, 0, 0), (1, 2, 3), (2**63, 10**6, 2**40), (-1, 0, 7)])
def test_sample_hashes_chain_the_coordinates(seed: int, epoch: int, index: int) -> None:
    """mix(key ^ mix(index)) with key = mix(mix(seed) ^ epoch); a negative seed counts modulo 2**64."""
    key = splitmix64(splitmix64(seed % 2**64) ^ epoch)
    expected = splitmix64(key ^ splitmix64(index))
    assert sample_hashes(seed, epoch, np.array([index])).tolist() == [expected]
    assert sample_seed(seed, epoch, index) == expected >> 1
    draws = [(splitmix64((expected + n * STEP) % 2**64) >> 11) / 2**53 for n in range(3)]
    assert uniforms(seed, epoch, np.array([index]), 3).tolist() == [draws]


def test_a_sample_does_not_depend_on_its_neighbors() -> None:
    """Alone, in another order or in another batch, a sample's draws are the same."""
    indices = np.array([5, 0, 99, 7])
    together = uniforms(3, 4, indices, 6)
    alone = np.concatenate([uniforms(3, 4, indices[i : i + 1], 6) for i in range(4)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(uniforms(3, 4, indices[::-1], 6), together[::-1])
    np.testing.assert_array_equal(uniforms(3, 4, indices, 2), together[:, :2])


def test_samples_of_several_epochs() -> None:
    """Each with the draws of its own epoch."""
    epochs, indices = np.array([0, 3, 3]), np.array([5, 5, 6])
    alone = [uniforms(1, int(e), np.array([i]), 4)[0] for e, i in zip(epochs, indices, strict=True)]
    np.testing.assert_array_equal(uniforms(1, epochs, indices, 4), np.stack(alone))


def test_batches_of_repeated_samples_by_hand() -> None:
    """Batches of 6 with 3 copies hold 2 samples; copies of epoch 2 draw as epochs 6, 7 and 8."""
    order = np.array([4, 7, 1, 0, 2, 9, 8])
    epochs, samples = batch_of_step(order, 2, 1, 6, repeats=3)
    assert samples.tolist() == [1, 0, 1, 0, 1, 0]
    assert epochs.tolist() == [6, 6, 7, 7, 8, 8]
    epochs, samples = batch_of_step(order, 2, 1, 3)
    assert (epochs.tolist(), samples.tolist()) == ([2, 2, 2], [0, 2, 9])


def test_hashes_tell_all_coordinates_apart() -> None:
    """8 seeds x 8 epochs x 500 samples: 32,000 different hashes, so that seed 1 epoch 2 is not seed 2 epoch 1."""
    indices = np.arange(500)
    hashes = np.stack([sample_hashes(seed, epoch, indices) for seed in range(8) for epoch in range(8)])
    assert hashes.dtype == np.uint64
    assert len(np.unique(hashes)) == 8 * 8 * 500


def test_uniforms_are_uniform_and_uncorrelated() -> None:
    """200,000 draws: ten bins of 20,000 +- 5 standard deviations (134 each); correlation within 5 / sqrt(50,000)."""
    draws = uniforms(0, 0, np.arange(50_000), 4)
    assert draws.dtype == np.float64
    assert draws.min() >= 0
    assert draws.max() < 1
    counts = np.histogram(draws, bins=10, range=(0, 1))[0]
    assert np.abs(counts - 20_000).max() < 5 * 134.2
    correlation = np.corrcoef(np.concatenate([draws[:-1].T, draws[1:].T]))
    assert np.abs(correlation - np.eye(8)).max() < 5 / np.sqrt(50_000)


def test_epoch_order_is_a_permutation_of_its_own() -> None:
    """Every image once; another order for another epoch or seed; the same order when asked again."""
    orders = [epoch_order(seed, epoch, 100) for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        assert order.dtype == np.int64
        assert sorted(order.tolist()) == list(range(100))
    assert len({tuple(order) for order in orders}) == 4
    np.testing.assert_array_equal(epoch_order(1, 1, 100), orders[3])


def test_epoch_order_leaves_the_global_generators_alone() -> None:
    """Neither order nor draws take anything from a generator whose state a checkpoint keeps."""
    seed_everything(3)
    expected = draw_from_each()
    seed_everything(3)
    epoch_order(0, 0, 50)
    uniforms(0, 0, np.arange(50), 3)
    assert draw_from_each() == expected


def draw_from_each() -> tuple[float, float, float, list[float]]:
    """One number of python's and numpy's generators, a Gaussian pair's second half, and three of torch's."""
    return random.random(), random.gauss(0, 1), float(np.random.standard_normal()), torch.rand(3).tolist()  # noqa: NPY002


def test_drawing_for_a_sample() -> None:
    """Within the block torch draws as after manual_seed(sample_seed); afterwards it goes on as if nothing had been."""
    torch.manual_seed(sample_seed(3, 4, 5))
    expected = torch.rand(4)
    torch.manual_seed(0)
    undisturbed = torch.rand(4)
    torch.manual_seed(0)
    with drawing_for(3, 4, 5):
        assert torch.equal(torch.rand(4), expected)
    with contextlib.suppress(ZeroDivisionError), drawing_for(3, 4, 6):
        assert not torch.equal(torch.rand(4), expected)
        raise ZeroDivisionError
    assert torch.equal(torch.rand(4), undisturbed)


@pytest.mark.parametrize("seed", [0, 7, -1, 2**33])
def test_seed_everything(seed: int) -> None:
    """The same seed gives the same draws from all generators, another seed others."""
    seed_everything(seed)
    first = draw_from_each()
    seed_everything(seed)
    assert draw_from_each() == first
    seed_everything(seed + 1)
    assert all(a != b for a, b in zip(draw_from_each(), first, strict=True))


def test_rng_states_go_through_a_weights_only_file(tmp_path: Path) -> None:
    """Taken, written, read with weights_only=True and put back, every generator goes on as it would have."""
    seed_everything(3)
    draw_from_each()  # leaves half a Gaussian pair waiting in python's and numpy's generators
    torch.save(get_rng_states(), tmp_path / "rng.pt")
    expected = [draw_from_each() for _ in range(3)]
    seed_everything(99)
    set_rng_states(torch.load(tmp_path / "rng.pt", weights_only=True))
    assert [draw_from_each() for _ in range(3)] == expected


class FakeGpus:
    """torch.cuda's random generators of some GPUs, the first of which is the present one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, num_gpus: int, has_process_group: bool = False) -> None:
        self.states = [torch.tensor([100 + device]) for device in range(num_gpus)]
        monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: num_gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
        monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: self.states[0])
        monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: list(self.states))
        monkeypatch.setattr(torch.cuda, "set_rng_state", self.set_state)
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: has_process_group)

    def set_state(self, state: Tensor, device: int = 0) -> None:
        """As torch.cuda.set_rng_state."""
        self.states[device] = state

    def numbers(self) -> list[int]:
        """The states."""
        return [int(state) for state in self.states]


@pytest.mark.parametrize(("num_after", "expected"), [(1, [100]), (2, [100, 101]), (4, [100, 101, 102, 0])])
def test_all_gpus_of_one_process(
    num_after: int, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nn.DataParallel draws on all three: all are kept, and put back onto as many as there are."""
    FakeGpus(monkeypatch, 3)
    torch.save(get_rng_states(), tmp_path / "rng.pt")
    after = FakeGpus(monkeypatch, num_after)
    after.states = [torch.tensor([0])] * num_after
    set_rng_states(torch.load(tmp_path / "rng.pt", weights_only=True))
    assert after.numbers() == expected


def test_one_process_of_several_keeps_its_own_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would otherwise start up the others' GPUs; checkpoints from before look the same."""
    FakeGpus(monkeypatch, 2, has_process_group=True)
    states = get_rng_states()
    assert states["cuda"].tolist() == [100]
    after = FakeGpus(monkeypatch, 2)
    after.states = [torch.tensor([0]), torch.tensor([1])]
    set_rng_states(states)
    assert after.numbers() == [100, 1]


def test_states_of_gpus_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are left aside; and a process that has used no GPU has none to keep."""
    FakeGpus(monkeypatch, 2)
    states = get_rng_states()
    none = FakeGpus(monkeypatch, 0)
    set_rng_states(states)
    assert none.numbers() == []
    assert get_rng_states()["cuda"] is None

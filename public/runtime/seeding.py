"""Random numbers that depend on (seed, epoch, sample) alone.

A stateful generator makes the draws of one image depend on every image before it, so a resumed run, or one with
another number of workers, goes another way. Here each sample's draws are a hash of its coordinates instead.
"""

import contextlib
import random
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

# SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"): step and mixing constants.
_STEP = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB
_64_BITS = 2**64 - 1
_State = TypeVar("_State", int, np.ndarray)


def _splitmix64(state: _State) -> _State:
    """One SplitMix64 output for a state, or for each of uint64 states (arrays wrap around silently, which is meant)."""
    z = (state + _STEP) & _64_BITS
    z = ((z ^ (z >> 30)) * _MIX_1) & _64_BITS
    z = ((z ^ (z >> 27)) * _MIX_2) & _64_BITS
    return z ^ (z >> 31)


def _hash(seed: int, epoch: _State, index: _State) -> _State:
    key = _splitmix64(_splitmix64(seed & _64_BITS) ^ epoch)
    return _splitmix64(key ^ _splitmix64(index))


def sample_hashes(seed: int, epoch: int | np.ndarray, indices: np.ndarray) -> np.ndarray:
    """A 64-bit hash for each sample of an epoch.

    Args:
        seed: the run's seed.
        epoch: the epoch, 0-based, or integers [B] for samples of several.
        indices: integers [B], each sample's number in its data set.

    Returns:
        uint64 [B].
    """
    return _hash(seed, np.atleast_1d(epoch).astype(np.uint64), np.asarray(indices).astype(np.uint64))


def uniforms(seed: int, epoch: int | np.ndarray, indices: np.ndarray, count: int) -> np.ndarray:
    """`count` independent draws from [0, 1) for each sample: float64 [B, count]."""
    counters = np.arange(count, dtype=np.uint64) * _STEP  # [count]
    bits = _splitmix64(sample_hashes(seed, epoch, indices)[:, None] + counters)  # [B, count]
    return (bits >> 11).astype(np.float64) * 2.0**-53


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """The seed under which one sample's transforms draw from torch's own generator."""
    # In Python's integers: for one sample numpy's calls would take a twentieth of its decoding.
    return _hash(seed, epoch & _64_BITS, index & _64_BITS) >> 1


@contextlib.contextmanager
def drawing_for(seed: int, epoch: int, index: int) -> Iterator[None]:
    """Within the block, torch's global CPU generator gives one sample's draws; afterwards it is as it was before.

    torch.random.fork_rng does the same for every device and takes 0.2 ms, a fifth of an image's decoding.
    """
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(sample_seed(seed, epoch, index))
    try:
        yield
    finally:
        generator.set_state(state)


def epoch_order(seed: int, epoch: int, num_samples: int) -> np.ndarray:
    """The order of an epoch: a permutation of 0 .. num_samples - 1, int64."""
    generator = torch.Generator().manual_seed(sample_seed(seed, epoch, num_samples))
    return torch.randperm(num_samples, generator=generator).numpy()


def batch_of_step(
    order: np.ndarray, epoch: int, step: int, batch_size: int, repeats: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The samples of one step, and in the place of the epoch a number from which each makes its draws.

    Repeated augmentation, Berman et al. 2019 (MultiGrain), https://arxiv.org/abs/1902.05509, section 3.2, and Hoffer et
    al. 2019, https://arxiv.org/abs/1901.09335: a batch holds each of its batch_size / repeats samples several times,
    augmented differently. An epoch keeps its number of steps and sees 1 / repeats of the data set (as in the former
    paper). The copies lie batch_size / repeats places apart, so that several processes have different ones.

    Args:
        order: from `epoch_order`.
        epoch: the epoch, 0-based.
        step: of the epoch, 0-based.
        batch_size: of all processes together, a multiple of `repeats`.
        repeats: how many times each sample is in the batch.

    Returns:
        int64 [batch_size]: epoch * repeats + the number of the copy, which is the epoch itself without repeats.
        int64 [batch_size]: the samples.
    """
    distinct = batch_size // repeats
    samples = order[step * distinct : (step + 1) * distinct]
    return epoch * repeats + np.repeat(np.arange(repeats), distinct), np.tile(samples, repeats)


def seed_everything(seed: int) -> None:
    """Seeds python, numpy's global generator and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries that we call draw from the global generator
    torch.manual_seed(seed)


def get_rng_states() -> dict[str, Any]:
    """Every global generator's state, in types that a weights-only load accepts.

    Of the GPUs: the present one's as a tensor where there are several processes, each with its own GPU; else a list of
    all visible ones', which nn.DataParallel draws from.
    """
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": [version, list(internal), gauss],
        "numpy": [
            str(name),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            position,
            has_gauss,
            cached,
        ],
        "torch": torch.get_rng_state(),
        "cuda": _cuda_states(),
    }


def _cuda_states() -> Tensor | list[Tensor] | None:
    if not torch.cuda.is_initialized():
        return None
    has_own_gpu = dist.is_available() and dist.is_initialized()  # and should leave the other processes' alone
    return torch.cuda.get_rng_state() if has_own_gpu else torch.cuda.get_rng_state_all()


def set_rng_states(states: dict[str, Any]) -> None:
    """Puts back what `get_rng_states` took; of several GPUs, for as many as there are."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    cuda = states["cuda"]
    if cuda is None or not torch.cuda.is_available():
        return
    if isinstance(cuda, Tensor):
        torch.cuda.set_rng_state(cuda)
    else:
        for device, state in zip(range(torch.cuda.device_count()), cuda, strict=False):
            torch.cuda.set_rng_state(state, device)

"""What many tests share: one process on the CPU, a tiny image folder, a tiny config, and the small real data."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from public.config.calls import SIZE, Call
from public.config.classification import ClassificationConfig
from public.datasets.cifar100 import Cifar100Data
from public.optim.options import MultistepOptions, SGDOptions
from public.runtime.distributed import DistributedContext
from public.transforms.batch import BatchRandomCrop, BatchRandomHorizontalFlip

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def package_logger() -> Iterator[logging.Logger]:
    """The package's logger, which pytest's caplog can hear, put back afterwards as it was."""
    logger = logging.getLogger("public")
    handlers, level, propagate = list(logger.handlers), logger.level, logger.propagate
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.INFO)
    yield logger
    for handler in logger.handlers:
        handler.close()
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run as `python train.py` does, even where a launcher's variables are in the environment."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def context() -> DistributedContext:
    """One process on the CPU."""
    return DistributedContext(rank=0, size=1, device=torch.device("cpu"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of small real data sets and weights; a test that needs it is skipped where it is absent."""
    folder = Path(os.environ.get("REAL_DATA", ROOT / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set REAL_DATA")
    return folder


@pytest.fixture
def no_plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """matplotlib's figures are saved as one white pixel, but in tests that are marked `plots`.

    Drawing them takes a third of the time of a short run; `tests/evaluation` tests what they show.
    """
    if request.node.get_closest_marker("plots") is None:
        pixel = Image.new("RGB", (1, 1), "white")
        monkeypatch.setattr(Figure, "savefig", lambda self, file, **options: pixel.save(file, format="png"))


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """train/ with 6 + 5 and val/ with 3 + 4 noise images [10, 12] of two classes, as PNG files."""
    rng = np.random.default_rng(0)
    for split, counts in {"train": {"bird": 6, "cat": 5}, "val": {"bird": 3, "cat": 4}}.items():
        for name, count in counts.items():
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "images"


@pytest.fixture
def config() -> ClassificationConfig:
    """A small row whose every section is filled in."""
    return ClassificationConfig(
        name="tiny",
        network="resnet18cifar",
        epochs=10,
        batch_size=16,
        data=Cifar100Data(
            folder="CIFAR100",
            train_transforms=(Call(BatchRandomHorizontalFlip), Call(BatchRandomCrop, size=SIZE, padding=4)),
        ),
        optimizer=SGDOptions(lr=0.1, weight_decay=5e-4),
        schedule=MultistepOptions(milestones=(4, 8), warmup_epochs=1),
    )


@pytest.fixture
def small_disk() -> Callable[[int], AbstractContextManager[None]]:
    """`with small_disk(n)`: no file can grow beyond n bytes, and writing further fails as on a full disk."""
    resource = pytest.importorskip("resource", reason="needs POSIX resource limits")

    @contextlib.contextmanager
    def limited(num_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited

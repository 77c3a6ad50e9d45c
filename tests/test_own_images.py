"""imagenet_experiments/own_images_finetune on class folders as people have them: trained for an epoch, tested."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from public.config.command_line import parse_config
from public.config.experiment import load_configs
from public.datasets.batches import DataError
from public.datasets.classification import build_eval_data
from public.recipes.classification import ClassificationTask, train
from public.runtime.checkpoint import load_checkpoint
from public.runtime.distributed import DistributedContext
from public.test_scripts.classification import main
from public.test_scripts.test_on_imagenet import IMAGENET
from tests.datasets.written import voc_object, write_voc

pytestmark = pytest.mark.usefixtures("no_plots")

EXPERIMENT = Path(__file__).parents[1] / "imagenet_experiments" / "own_images_finetune"
QUICK = [
    *("--initial-weights", "None", "--epochs", "1", "--schedule.warmup-epochs", "0", "--batch-size", "8"),
    *("--data.input-size", "32", "--runtime.num-workers", "0", "--runtime.device", "cpu", "--precision", "fp32"),
]


def write_flowers(folder: Path, counts: dict[str, int], seed: int) -> None:
    """Noise of two classes: dark daisies and bright roses."""
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            low = 0 if name == "daisy" else 180
            pixels = rng.integers(low, low + 60, (40, 44, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.jpg")


LAYOUTS = {
    "class folders": ((".", {"daisy": 12, "rose": 8}),),
    "train alone": (("train", {"daisy": 12, "rose": 8}),),
    "train and val": (("train", {"daisy": 10, "rose": 7}), ("val", {"daisy": 2, "rose": 1})),
    "train, valid and test": (
        ("train", {"daisy": 10, "rose": 7}),
        ("valid", {"daisy": 2, "rose": 1}),
        ("test", {"daisy": 1, "rose": 1}),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_command_trains_and_another_tests(
    tmp_path: Path, context: DistributedContext, capsys: pytest.CaptureFixture[str], layout: str
) -> None:
    """17 images to train on and 3 to test on, in two steps; test.sh finds the same three from the checkpoint alone."""
    folder = tmp_path / "flowers"
    for seed, (split, counts) in enumerate(LAYOUTS[layout]):
        write_flowers(folder / split, counts, seed)
    arguments = ["--data.folder", str(folder), *QUICK]
    config, _ = parse_config(load_configs(EXPERIMENT), arguments, ClassificationTask.kinds)
    assert train(config, tmp_path / "run", context) == 0
    best = tmp_path / "run" / "checkpoints" / "best.pth"
    checkpoint = load_checkpoint(best)
    assert (checkpoint["num_images"], checkpoint["class_names"]) == (17, ["daisy", "rose"])
    top1 = checkpoint["metrics"]["best"]["top1"]
    main(IMAGENET, ["--weights", str(best), "--device", "cpu", "--num-workers", "0"])
    assert f"({round(3 * top1)} of 3)" in capsys.readouterr().out


@pytest.mark.parametrize("fraction", [0.15, None])
def test_data_with_boxes_is_called_so(tmp_path: Path, context: DistributedContext, fraction: float | None) -> None:
    """And the experiment named that trains on it; with training's folder as with an evaluation's."""
    write_voc(tmp_path, {"000001": voc_object("cat", 1, 2, 15, 12)})
    data = replace(load_configs(EXPERIMENT)["mobilenet_v2"].data, folder=str(tmp_path / "Own"), val_fraction=fraction)
    message = r"holds data with boxes, .*VOC.*, which detection_experiments/own_data_finetune trains on; expected for a"
    with pytest.raises(DataError, match=message):
        build_eval_data(data, batch_size=1, num_workers=0, context=context)

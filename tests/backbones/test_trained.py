"""A checkpoint of ours becomes a classifier: its network, options, size, weights and classes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from public.backbones.build import build_from_options
from public.backbones.residual_network import ResNetOptions
from public.backbones.trained import load_classifier
from public.config.calls import SIZE, Call
from public.config.classification import ClassificationConfig
from public.config.experiment import Experiment
from public.config.record import to_record
from public.datasets.classification import build_eval_data
from public.datasets.imagenet import ImageFolderData
from public.optim.options import ConstantOptions
from public.recipes.classification import ClassificationTask, train
from public.runtime.checkpoint import load_checkpoint, save_checkpoint
from public.runtime.distributed import DistributedContext
from tests.old_runs.make import old_checkpoint, write_old_run

pytestmark = pytest.mark.usefixtures("no_plots")

NAMES = ["cat", "dog", "owl"]


@pytest.fixture
def row(config: ClassificationConfig) -> ClassificationConfig:
    """A network with swish on images of 24 pixels."""
    shown = (Call(v2.Resize, size=(SIZE, SIZE)),)
    data = ImageFolderData(folder="x", input_size=24, train_transforms=shown, val_transforms=shown)
    return replace(config, data=data, network_options=ResNetOptions(activation="swish"))


def saved(folder: Path, row: ClassificationConfig, **entries: Any) -> Path:
    """Its checkpoint, untrained; the averaged weights are not the trained ones."""
    torch.manual_seed(0)
    model, ema = (build_from_options(row.network, 3, row.network_options).state_dict() for _ in range(2))
    record = entries.pop("config", None) or to_record(row)
    state = {"config": record, "class_names": NAMES, "model": model, "ema": ema, **entries}
    assert save_checkpoint(folder / "best.pth", state)
    return folder / "best.pth"


@pytest.mark.slow
def test_probabilities_by_hand(row: ClassificationConfig, tmp_path: Path) -> None:
    """Resized to 24 pixels, normalized, through the averaged weights, softmax: from an array and from a file alike."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cat.png")
    path = saved(tmp_path, row)
    classify = load_classifier(path, device="cpu")
    assert classify.class_names == NAMES
    assert classify.device == torch.device("cpu")
    network = build_from_options(row.network, 3, row.network_options).eval()
    network.load_state_dict(torch.load(path, weights_only=True)["ema"])
    small = v2.functional.resize(torch.from_numpy(pixels).permute(2, 0, 1), [24, 24])
    mean, std = (torch.tensor(values)[:, None, None] for values in (row.data.mean, row.data.std))
    with torch.inference_mode():
        expected = network(((small / 255 - mean) / std)[None]).softmax(dim=1)[0].numpy()
    found = classify(pixels)
    assert (found.dtype, found.shape) == (np.float32, (3,))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.array_equal(classify(tmp_path / "cat.png"), found)
    assert np.array_equal(classify(str(tmp_path / "cat.png")), found)


@pytest.mark.slow
def test_a_trained_run_gives_what_its_evaluation_gave(
    row: ClassificationConfig, image_folder: Path, context: DistributedContext, tmp_path: Path
) -> None:
    """Of the same files: the probabilities of the loader's batches, and the top-1 and loss that training logged."""
    row = replace(row.with_epochs(6), batch_size=4, ema_decay=0.5, precision="fp32", schedule=ConstantOptions())
    data = replace(row.data, folder=str(image_folder))
    row = replace(row, data=data, runtime=replace(row.runtime, device="cpu", num_workers=0))
    assert train(row, tmp_path / "run", context) == 0
    best = tmp_path / "run" / "checkpoints" / "best.pth"
    classify = load_classifier(best, device="cpu")
    files = sorted((image_folder / "val").glob("*/*.png"))
    found = np.stack([classify(file) for file in files])  # [7, 2]
    batches = list(build_eval_data(data, batch_size=4, num_workers=0, context=context).loader)
    labels = torch.cat([batch.labels for batch in batches]).numpy()
    assert [classify.class_names[label] for label in labels] == [file.parent.name for file in files]
    network = ClassificationTask.build_network(row, 2)
    network.load_state_dict(load_checkpoint(best)["ema"])
    evaluated = ClassificationTask.inference(network, row, torch.float32).eval()
    with torch.inference_mode():
        expected = torch.cat([evaluated(batch.images).softmax(dim=1) for batch in batches]).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert np.ptp(found[:, 0]) > 1e-3, "the images do matter"
    assert np.array_equal(found.argmax(axis=1), expected.argmax(axis=1))
    logged = load_checkpoint(best)["metrics"]["best"]
    assert (found.argmax(axis=1) == labels).mean() == pytest.approx(logged["top1"])
    assert -np.log(found[np.arange(7), labels]).mean() == pytest.approx(logged["loss"], rel=1e-4)


@pytest.mark.slow
def test_transforms_of_an_experiments_own(row: ClassificationConfig, tmp_path: Path) -> None:
    """Found in the folder that the caller names, and applied: a negative of an image is seen as the image was."""
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "negative.py").write_text("class Negative:\n    def __call__(self, image):\n        return 255 - image\n")
    experiment = Experiment(folder)
    negative = Call(experiment.find("experiment:negative.Negative"))
    own = replace(row, data=replace(row.data, val_transforms=(negative, *row.data.val_transforms)))
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    plain = load_classifier(saved(tmp_path, row), device="cpu")
    path = saved(folder, own, config=to_record(own, experiment))
    with pytest.raises(ValueError, match=r"negative\.Negative is a class of the experiment's own folder"):
        load_classifier(path, device="cpu")
    for given in (folder, str(folder)):
        classify = load_classifier(path, device="cpu", experiment=given)
        np.testing.assert_array_equal(classify(255 - pixels), plain(pixels))


@pytest.mark.slow
def test_network_layout_and_precision(row: ClassificationConfig, tmp_path: Path) -> None:
    """Those of the run, but for what is asked for here."""
    classifier = load_classifier(
        saved(tmp_path, replace(row, channels_last=True)), device="cpu", precision="bf16"
    ).image_classifier
    assert any(isinstance(module, nn.SiLU) for module in classifier.modules())
    assert classifier.dtype == torch.bfloat16
    assert not classifier.training
    kernels = [p for p in classifier.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)


@pytest.mark.slow
def test_data_decoded_by_pil(row: ClassificationConfig, tmp_path: Path) -> None:
    """The transforms get a PIL image, as they did in training: a box filter there, which is not the tensors'."""
    assert isinstance(row.data, ImageFolderData)
    pixels = np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8)
    plain = load_classifier(saved(tmp_path, row), device="cpu")
    pil = load_classifier(saved(tmp_path, replace(row, data=replace(row.data, decoder="pil"))), device="cpu")
    assert (plain.on_pil, pil.on_pil) == (False, True)
    resized = np.asarray(v2.Resize((24, 24))(Image.fromarray(pixels)))
    np.testing.assert_array_equal(pil(pixels), pil(np.ascontiguousarray(resized)))


@pytest.mark.slow
def test_what_is_no_classifiers_checkpoint(row: ClassificationConfig, tmp_path: Path) -> None:
    """No file, a detector's, bare weights, an experiment's own task: one sentence each."""
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*best\.pth"):
        load_classifier(tmp_path / "best.pth")
    with pytest.raises(ValueError, match=r"is the checkpoint of a fcos detector; expected a classifier's"):
        load_classifier(write_old_run("fcos", tmp_path / "fcos"))
    with pytest.raises(ValueError, match=r"was trained by experiment:loss\.Own, a task of its experiment's own"):
        load_classifier(saved(tmp_path, row, task="experiment:loss.Own"))
    torch.save({"weight": torch.zeros(1)}, tmp_path / "bare.pth")
    with pytest.raises(ValueError, match="it may be bare weights"):
        load_classifier(tmp_path / "bare.pth")


@pytest.mark.slow
def test_a_checkpoint_of_format_1(tmp_path: Path) -> None:
    """Written before configs were made of options: its network, classes and averaged weights."""
    classify = load_classifier(write_old_run("classification", tmp_path / "run"), device="cpu")
    checkpoint, own = old_checkpoint("classification"), classify.image_classifier.network.state_dict()
    assert own.keys() == checkpoint["ema"].keys()
    assert all(torch.equal(own[key], checkpoint["ema"][key]) for key in own)
    assert classify.class_names == checkpoint["class_names"]
    assert classify(np.zeros((50, 70, 3), np.uint8)).sum() == pytest.approx(1, rel=1e-5)

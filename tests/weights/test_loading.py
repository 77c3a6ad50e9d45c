"""Weights from dicts and files: what loads, what is refused and in which words."""

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from public.backbones.catalog import build_backbone, build_features
from public.backbones.mobilenet_v2 import mobilenet_v2
from public.weights.loading import load_weights
from public.weights.reading import read_weights

REAL_DATA = Path(os.environ.get("REAL_DATA", Path(__file__).parents[2] / "../shared/data"))
REAL_MOBILENET = REAL_DATA / "weights" / "mobilenet_v2-b0353104.pth"

needs_real_weights = pytest.mark.skipif(
    not REAL_MOBILENET.is_file(), reason=f"no real weights at {REAL_MOBILENET}; set REAL_DATA"
)


class Tiny(nn.Module):
    """Eight tensors: conv (1), norm (2 weights, 2 statistics, 1 counter) and classifier (2)."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, bias=False)
        self.norm = nn.BatchNorm2d(5)
        self.fc = nn.Linear(5, num_classes)


def _same(model: nn.Module, weights: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())


# what loads


def test_the_report_names_everything() -> None:
    source, model = Tiny(), Tiny()
    report = load_weights(model, source.state_dict())
    assert report.loaded == list(model.state_dict())
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], {})
    assert report.skipped == []
    assert str(report) == "8 tensors loaded"
    assert _same(model, source.state_dict())


def test_other_classes_load_when_allowed() -> None:
    source, model = Tiny(4), Tiny(9)
    before = model.fc.weight.clone()
    report = load_weights(model, source.state_dict(), allow_mismatched=["fc."])
    assert report.mismatched == {
        "fc.weight": "float32 [4, 5] given, float32 [9, 5] expected",
        "fc.bias": "float32 [4] given, float32 [9] expected",
    }
    assert len(report.loaded) == 6
    assert torch.equal(model.fc.weight, before)
    assert torch.equal(model.conv.weight, source.conv.weight)
    assert "6 tensors loaded; 2 mismatched (fc.weight: float32 [4, 5] given" in str(report)


def test_missing_and_unexpected_load_when_allowed() -> None:
    weights = Tiny().state_dict()
    weights["head.weight"] = weights.pop("fc.weight")
    weights["head.bias"] = weights.pop("fc.bias")
    report = load_weights(Tiny(), weights, allow_missing=("fc.",), allow_unexpected="head.")
    assert report.missing == ["fc.weight", "fc.bias"]
    assert report.unexpected == ["head.weight", "head.bias"]


@pytest.mark.parametrize("num_classes", [4, 9])
def test_what_is_skipped_keeps_the_networks_values(num_classes: int) -> None:
    """As many classes or others: the class layer is not loaded, and nothing of it is refused."""
    source, model = Tiny(4), Tiny(num_classes)
    before = model.fc.weight.clone()
    report = load_weights(model, source.state_dict(), skip=("fc.",))
    assert torch.equal(model.fc.weight, before)
    assert torch.equal(model.conv.weight, source.conv.weight)
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], {})
    assert str(report) == "6 tensors loaded; 2 skipped (fc.weight, fc.bias)"


def test_what_is_skipped_may_be_missing_or_unexpected() -> None:
    """The source has another layer in its place; keys elsewhere are refused as ever."""
    weights = Tiny().state_dict()
    del weights["fc.weight"], weights["fc.bias"]
    weights["fc.2.weight"] = torch.zeros(3)
    assert load_weights(Tiny(), weights, skip="fc.").skipped == ["fc.weight", "fc.bias", "fc.2.weight"]
    with pytest.raises(ValueError, match=r"does not fit: 1 missing \(fc.bias\)\. If"):
        load_weights(Tiny(), weights, skip=["fc.weight", "fc.2."])
    with pytest.raises(
        ValueError, match=r"does not fit: 2 missing \(fc.weight, fc.bias\); 1 unexpected \(fc.2.weight\)"
    ):
        load_weights(Tiny(), weights, skip="f.")


def test_half_precision_weights_become_the_networks_precision() -> None:
    source, model = Tiny(), Tiny()
    load_weights(
        model,
        {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in source.state_dict().items()},
    )
    assert model.conv.weight.dtype == torch.float32
    assert torch.equal(model.conv.weight, source.conv.weight.half().float())


def test_a_state_dict_halved_entry_by_entry_loads_with_its_counters() -> None:
    """`{key: tensor.half()}` halves batch norm's count of steps too; above 65504 nothing is left of it."""
    weights = {key: tensor.half() for key, tensor in Tiny().state_dict().items()}
    for given, expected in ((7.0, 7), (1e9, 65504)):
        weights["norm.num_batches_tracked"] = torch.tensor(given).half()
        model = Tiny()
        assert len(load_weights(model, weights).loaded) == 8
        assert model.norm.num_batches_tracked is not None
        assert int(model.norm.num_batches_tracked) == expected
    index = nn.Module()
    index.register_buffer("index", torch.arange(3))
    with pytest.raises(ValueError, match=r"float16 \[3\] given, int64 \[3\] expected"):  # what the network reads
        load_weights(index, {"index": torch.arange(3).half()})


def test_the_counter_of_batch_norm_may_be_absent() -> None:
    """Files from before torch 0.4.1 have none; frozen norms of others have none."""
    weights = Tiny().state_dict()
    del weights["norm.num_batches_tracked"]
    assert load_weights(Tiny(), weights).missing == []
    frozen = nn.Module()
    frozen.register_buffer("norm_weight", torch.zeros(5))
    assert load_weights(frozen, {"norm_weight": torch.ones(5), "num_batches_tracked": torch.tensor(3)}).unexpected == []


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model_state_dict": state, "optimizer_state_dict": {"state": {}}},
        lambda state: {"model": state, "args": None},
        lambda state: {"format": "public.checkpoint/1", "model": state, "ema": None, "epoch": 1},
        lambda state: {"format": "public.checkpoint/1", "model": {}, "ema": state},
        lambda state: {f"module.{key}": tensor for key, tensor in state.items()},
        lambda state: {"state_dict": {f"module._orig_mod.{key}": tensor for key, tensor in state.items()}},
        lambda state: {key.replace("fc.", "fc._orig_mod."): tensor for key, tensor in state.items()},
    ],
    ids=[
        "bare",
        "state_dict",
        "model_state_dict",
        "model",
        "ours",
        "ema",
        "ddp",
        "ddp_compiled",
        "partly_compiled",
    ],
)
def test_wrappings_are_opened(wrap: Any, tmp_path: Path) -> None:
    source, model = Tiny(), Tiny()
    wrapped = wrap(dict(source.state_dict()))
    torch.save(wrapped, tmp_path / "weights.pth")
    load_weights(model, tmp_path / "weights.pth")
    assert _same(model, source.state_dict())
    assert list(read_weights(wrapped)) == list(source.state_dict())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda raw, average: {"format": "public.checkpoint/1", "model": raw, "ema": average.module.state_dict()},
        lambda raw, average: average.state_dict(),
        lambda raw, average: {"model": raw, "model_ema": average.state_dict(), "args": argparse.Namespace(lr=0.1)},
        lambda raw, average: {"model": raw, "model_ema": {f"module.{k}": v for k, v in average.state_dict().items()}},
        lambda raw, average: {"state_dict": raw, "state_dict_ema": average.module.state_dict(), "arch": "resnet18"},
    ],
    ids=["ours", "AveragedModel", "torchvision", "ddp", "timm"],
)
def test_the_average_goes_before_the_raw_weights(wrap: Any, tmp_path: Path) -> None:
    raw, average, model = Tiny(), AveragedModel(Tiny()), Tiny()
    average.update_parameters(raw)
    average.update_parameters(Tiny())  # now neither is the other
    torch.save(wrap(raw.state_dict(), average), tmp_path / "weights.pth")
    load_weights(model, tmp_path / "weights.pth")
    assert _same(model, average.module.state_dict())
    assert not torch.equal(model.fc.weight, raw.fc.weight)


def test_the_report_names_the_entry_of_a_checkpoint() -> None:
    raw, average = Tiny().state_dict(), AveragedModel(Tiny()).state_dict()
    report = load_weights(Tiny(), {"model": raw, "model_ema": average})
    assert str(report) == "8 tensors loaded from 'model_ema'"
    assert str(load_weights(Tiny(), average)) == "8 tensors loaded"


def test_safetensors(tmp_path: Path) -> None:
    source, model = Tiny(), Tiny()
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    load_weights(model, str(tmp_path / "model.safetensors"))
    assert _same(model, source.state_dict())


@pytest.mark.slow
@needs_real_weights
def test_real_mobilenet_v2_weights() -> None:
    """All 314 tensors load; the logits are torchvision's with the same file."""
    ours, reference = mobilenet_v2().eval(), torchvision.models.mobilenet_v2().eval()
    reference.load_state_dict(torch.load(REAL_MOBILENET, weights_only=True))
    report = load_weights(ours, REAL_MOBILENET)
    assert len(report.loaded) == 314
    assert not report.missing + report.unexpected + list(report.mismatched)
    images = torch.randn(2, 3, 97, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert (ours(images) - reference(images)).abs().max() < 1e-5


@pytest.mark.slow
@needs_real_weights
def test_real_mobilenet_v2_weights_as_features() -> None:
    features = build_features("mobilenet_v2", ["c3", "c4", "c5"])
    report = load_weights(features, REAL_MOBILENET, allow_unexpected=features.unused_prefixes)
    assert features.unused_prefixes == ("features.18.", "classifier.")
    assert len(report.unexpected) == 5 + 2  # one convolution and its norm without the counter, the classifier
    assert not report.missing


# what is refused


def test_another_shape_is_refused_and_nothing_is_changed() -> None:
    model = Tiny(9)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    words = r"the given dict into Tiny does not fit: 2 mismatched \(fc.weight: float32 \[4, 5\] given, float32 \["
    with pytest.raises(ValueError, match=words):
        load_weights(model, Tiny(4).state_dict())
    assert _same(model, before)


def test_another_kind_of_number_is_refused() -> None:
    weights = Tiny().state_dict()
    weights["conv.weight"] = torch.zeros(5, 3, 3, 3, dtype=torch.int8)
    with pytest.raises(ValueError, match=r"int8 \[5, 3, 3, 3\] given, float32 \[5, 3, 3, 3\] expected"):
        load_weights(Tiny(), weights)


def test_missing_and_unexpected_are_refused_with_counts_and_names() -> None:
    weights = Tiny().state_dict()
    for key in ("a", "b", "c", "d", "e", "f"):
        weights[f"{key}.weight"] = torch.zeros(1)
    del weights["fc.bias"]
    words = r"1 missing \(fc.bias\); 6 unexpected \(a.weight, b.weight, c.weight, d.weight and 2 more\)\. If"
    with pytest.raises(ValueError, match=words):
        load_weights(Tiny(), weights)


def test_an_allowance_covers_what_it_names_and_no_more() -> None:
    with pytest.raises(ValueError, match=r"does not fit: 1 missing \(conv.weight\)\."):
        load_weights(Tiny(), {"norm.weight": torch.zeros(5)}, allow_missing=["norm.", "fc."])
    with pytest.raises(ValueError, match=r"2 mismatched \(fc.weight"):  # a lone string is not its letters
        load_weights(Tiny(9), Tiny().state_dict(), allow_mismatched="f.c.")


def test_another_network_is_refused_even_if_all_is_allowed() -> None:
    words = r"not one of the 2 keys \(x, y\) is among the 8 expected \(conv.weight, norm.weight, .* and 4 more\)"
    with pytest.raises(ValueError, match=words):
        load_weights(Tiny(), {"x": torch.zeros(1), "y": torch.zeros(1)}, allow_missing=[""], allow_unexpected=[""])


def test_another_network_is_called_so_where_next_to_nothing_fits() -> None:
    """No advice to allow it: a network that keeps its random values would be the result."""
    network = build_backbone("resnet18", 10)
    own = network.state_dict()
    for weights, count in (({"conv1.weight": torch.zeros(3, 3)}, 0), ({key: own[key] for key in list(own)[:6]}, 5)):
        words = rf"does not fit: it has {count} of the 102 tensors expected, so that it is of another network \(.*\)\.$"
        with pytest.raises(ValueError, match=words):
            load_weights(network, weights)


def test_a_name_before_every_key_is_told() -> None:
    """As Lightning and others write it: what is in the way, and not that the network is another."""
    weights = {f"net.model.{key}": tensor for key, tensor in Tiny().state_dict().items()}
    words = r"expected .*\. Without 'net\.model\.', with which each begins, 8 of them are: save the file without it\.$"
    with pytest.raises(ValueError, match=words):
        load_weights(Tiny(), weights)
    with pytest.raises(ValueError, match=r"Is this another network's file\?$"):
        load_weights(Tiny(), weights | {"loss.weight": torch.zeros(1)})


def test_the_way_out_is_named_for_python_and_the_command_line() -> None:
    words = (
        r"If that is meant, allow it: the classes of a detector with --new-class-head on the command line of "
        r"train\.py; anything, from Python, by the beginnings of the keys, with load_weights' allow_missing, "
        r"allow_unexpected, allow_mismatched or skip\.$"
    )
    with pytest.raises(ValueError, match=words):
        load_weights(Tiny(9), Tiny().state_dict())


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no weights at .*none\.pth: there is no such file\. Give the path of"):
        load_weights(Tiny(), tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match=rf"^{tmp_path} is a folder; expected is a file, such as a run's chec"):
        load_weights(Tiny(), tmp_path)
    missing = r"no weights at torchvison:resnet18: .*torchvision:<model>\[\.<weights>\] or timm:<model>"
    with pytest.raises(FileNotFoundError, match=missing):
        load_weights(Tiny(), "torchvison:resnet18")


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello world", b"<html>404</html>", bytes(range(256)) * 8])
def test_files_of_other_things(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    kind = "safetensors" if path.suffix == ".safetensors" else r"torch\.save"
    why = f"{kind} did not write it, or " if content or kind == "safetensors" else r"it is empty\. Expected is what"
    with pytest.raises(ValueError, match=rf"{name} \({len(content)} bytes\) cannot be read as weights: {why}"):
        read_weights(path)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "weights.safetensors"])
def test_files_cut_short(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".safetensors":
        save_file(Tiny().state_dict(), path)
    else:
        torch.save(Tiny().state_dict(), path, _use_new_zipfile_serialization=name == "zip.pth")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    words = r"cannot be read as weights: .*it is cut off or damaged\. Expected is what torch.save or safetensors writes"
    with pytest.raises(ValueError, match=words):
        read_weights(path)


def test_a_file_damaged_in_the_middle(tmp_path: Path) -> None:
    """Of a tensor: torch alone would load it."""
    torch.save({"weight": torch.ones(5000)}, tmp_path / "weights.pth")
    content = (tmp_path / "weights.pth").read_bytes()
    (tmp_path / "weights.pth").write_bytes(content.replace(torch.ones(1000).numpy().tobytes(), bytes(4000), 1))
    assert torch.load(tmp_path / "weights.pth", weights_only=True)["weight"].sum() == 4000
    with pytest.raises(ValueError, match=r"cannot be read as weights: it is cut off or damaged"):
        read_weights(tmp_path / "weights.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_objects_are_refused(tmp_path: Path, zipped: bool) -> None:
    content = {"state_dict": Tiny().state_dict(), "args": argparse.ArgumentParser}
    torch.save(content, tmp_path / "unsafe.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"unsafe\.pth .*: it pickles argparse\.ArgumentParser, which could run code"):
        read_weights(tmp_path / "unsafe.pth")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "holds no tensors by name but an empty dict; expected a state dict"),
        (
            {"epoch": 3, "net": {}},
            r"a dict of epoch, net; .* under ema, model_ema, state_dict_ema, model, state_dict, model_state_dict",
        ),
        ([torch.zeros(1)], "holds no tensors by name but a list"),
        (torch.zeros(3), "holds no tensors by name but a Tensor"),
        ({"model": {}, "ema": None}, "an empty dict"),
        ({"net": {}, "rng": torch.zeros(1)}, r"mixes tensors by name with others: 'net' \(dict\)"),
        ({0: torch.zeros(1)}, r"mixes tensors by name with others: 0 \(Tensor\)"),
    ],
)
def test_files_without_a_state_dict(tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=words):
        read_weights(tmp_path / "other.pth")

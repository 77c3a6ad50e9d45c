"""Run folders as commit 20741d7 wrote them, for tests that they still evaluate, load and go on.

Beside this file lie, written by that commit:

- records_format1.json: the record of every row of every experiment, {"folder/row": record}.
- classification_format1.json, fcos_format1.json, faster_rcnn_format1.json: three real runs of two epochs, stopped after
  one step of the second: {"data": a folder and the numbers that its writer in `sample_layouts` was given after seed 0,
  "config": config.json, "checkpoint": latest.pth}. Every name, number, dtype and shape is that of the run; tensors of
  floats (megabytes even with the smallest backbone) are drawn anew by `old_checkpoint`, always the same.

A test writes a run folder with `write_old_run("fcos", folder)`, which can be evaluated and loaded; where the run is to
go on, it also writes its images below DATA_ROOT with `write_old_data("fcos", root)`.

To store another run's checkpoint: `python -m tests.old_runs.make latest.pth`, which prints it.
"""

import base64
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from public.datasets import sample_layouts

HERE = Path(__file__).parent
OLD_RUNS = ("classification", "fcos", "faster_rcnn")
DATA_SETS = {"ILSVRC2012": "write_imagenet", "COCO2017": "write_coco", "VOCdataset": "write_voc"}
SMALLEST_DRAWN = 2
"""Elements from which on a tensor of floats is drawn instead of stored."""


def old_records() -> dict[str, dict[str, Any]]:
    """The record of every row of every experiment, by 'folder/row'."""
    return json.loads((HERE / "records_format1.json").read_text(encoding="utf-8"))


def old_checkpoint(name: str) -> dict[str, Any]:
    """What `torch.save` was given in one of OLD_RUNS, with drawn weights; see the module's docstring."""
    return _decoded(_stored(name)["checkpoint"], torch.Generator().manual_seed(0))


def write_old_run(name: str, folder: Path) -> Path:
    """Writes the run folder of one of OLD_RUNS, as far as anything reads it; gives its latest.pth."""
    checkpoint = old_checkpoint(name)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(_stored(name)["config"], indent=2) + "\n", encoding="utf-8")
    rows = checkpoint["metrics"]["history"]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    # best.pth was written at the end of the first epoch: what has come since is not yet in its counters.
    best = checkpoint | {"step": 0, "metrics": checkpoint["metrics"] | {"loss_sums": {}}}
    torch.save(best, folder / "checkpoints" / "best.pth")
    torch.save(checkpoint, folder / "checkpoints" / "latest.pth")
    return folder / "checkpoints" / "latest.pth"


def write_old_data(name: str, data_root: Path) -> None:
    """Writes the images that one of OLD_RUNS was trained on below a DATA_ROOT."""
    folder, *sizes = _stored(name)["data"]
    getattr(sample_layouts, DATA_SETS[folder])(data_root / folder, 0, *sizes)


def _stored(name: str) -> dict[str, Any]:
    return json.loads((HERE / f"{name}_format1.json").read_text(encoding="utf-8"))


def _encoded(value: Any) -> Any:
    """As JSON: what JSON does not have becomes a dict with one key that begins with '!'."""
    if isinstance(value, Tensor):
        drawn = value.is_floating_point() and value.numel() >= SMALLEST_DRAWN
        return {"!drawn": [str(value.dtype).removeprefix("torch."), *value.shape]} if drawn else _bytes_of(value)
    if isinstance(value, tuple):
        return {"!tuple": [_encoded(item) for item in value]}
    if isinstance(value, list):
        return [_encoded(item) for item in value]
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: _encoded(item) for key, item in value.items()}
        return {"!pairs": [[_encoded(key), _encoded(item)] for key, item in value.items()]}
    assert value is None or isinstance(value, bool | int | float | str), type(value)
    return value


def _bytes_of(tensor: Tensor) -> dict[str, str]:
    file = io.BytesIO()
    np.save(file, tensor.numpy())
    return {"!npy": base64.b64encode(file.getvalue()).decode()}


def _decoded(value: Any, generator: torch.Generator, name: str = "") -> Any:
    """The value that `_encoded` was given, its large tensors drawn."""
    if isinstance(value, list):
        return [_decoded(item, generator, name) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"!drawn": [dtype, *shape]}:
            return _drawn(name, shape, generator).to(getattr(torch, dtype))
        case {"!npy": text}:
            return torch.from_numpy(np.load(io.BytesIO(base64.b64decode(text))))
        case {"!tuple": items}:
            return tuple(_decoded(item, generator, name) for item in items)
        case {"!pairs": pairs}:
            return {_decoded(k, generator): _decoded(v, generator, name) for k, v in pairs}
        case _:
            return {key: _decoded(item, generator, key) for key, item in value.items()}


def _drawn(name: str, shape: list[int], generator: torch.Generator) -> Tensor:
    """Float32 weights that a network can resume from: `name` is the last key of the tensor."""
    if name in ("momentum_buffer", "exp_avg", "exp_avg_sq"):
        return 1e-3 * torch.randn(shape, generator=generator).abs()
    if len(shape) > 1:
        return torch.randn(shape, generator=generator) / math.sqrt(math.prod(shape[1:]))
    return torch.zeros(shape) if name.endswith(("bias", "running_mean")) else torch.ones(shape)


if __name__ == "__main__":
    print(json.dumps(_encoded(torch.load(sys.argv[1], map_location="cpu", weights_only=True))))

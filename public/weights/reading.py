"""From a file, a dict or a published name to plain tensors by key.

Nothing but tensors and plain values is ever unpickled (`weights_only=True`, safetensors). Whole training
checkpoints of this project and of others are opened, and the prefixes that wrappers leave are taken off.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file
from torch import Tensor

from public.config.checks import require_file
from public.runtime.checkpoint import FORMAT, check_entries, read_torch_file
from public.weights.published import fetch_published

WeightsSource = str | Path | Mapping[str, Any]

# Where training checkpoints keep the network; the first that is there and not None counts. Averages go first: a run
# that averages its weights is evaluated on them. Ours call them "ema", torchvision's scripts "model_ema", timm's
# "state_dict_ema".
_NETWORK_ENTRIES = ("ema", "model_ema", "state_dict_ema", "model", "state_dict", "model_state_dict")


class Read(NamedTuple):
    """What a source of weights holds."""

    weights: dict[str, Tensor]
    """The state dict, on the CPU, its keys without the prefixes of wrappers."""
    entry: str | None
    """Under which name of a training checkpoint it was; None where the source is the state dict."""
    class_names: list[str] | None = None
    """What the weights' classes are called, where the source is a checkpoint of ours."""


def read_weights(source: WeightsSource) -> dict[str, Tensor]:
    """The state dict of a source, see `read_source`."""
    return read_source(source).weights


def read_source(source: WeightsSource) -> Read:
    """Reads weights, on the CPU.

    Args:
        source: the path of a `.pth`, `.pt` or `.safetensors` file; `torchvision:<model>[.<weights>]`;
            `timm:<model>`; or a dict. File and dict are a state dict, or a training checkpoint with one under
            the first of `ema`, `model_ema`, `state_dict_ema`, `model`, `state_dict`, `model_state_dict`.

    Returns:
        The state dict without the prefixes of DataParallel, DDP and AveragedModel (`module.`, beside whose keys stands
        a count, `n_averaged`) and compile (`_orig_mod.`), and where it was.

    Raises:
        FileNotFoundError: no such file, or a download that failed.
        ValueError: not a file of weights, a damaged one, a pickle with more than weights in it, or no tensors inside.
    """
    where = describe_source(source)
    if isinstance(source, Mapping):
        return _only_tensors(source, where)
    library, _, model = str(source).partition(":")
    if library in ("torchvision", "timm"):
        return _only_tensors(fetch_published(library, model), where)
    return _only_tensors(_read_file(Path(source)), where)


def describe_source(source: WeightsSource) -> str:
    """What messages call a source of weights."""
    return "the given dict" if isinstance(source, Mapping) else str(source)


def _read_file(path: Path) -> Any:
    require_file(
        path,
        f"no weights at {path}: there is no such file. Give the path of a .pth, .pt or .safetensors file, "
        "torchvision:<model>[.<weights>] or timm:<model>.",
    )
    try:
        return _read_safetensors(path) if path.suffix == ".safetensors" else read_torch_file(path)
    except ValueError as error:
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as weights: {error}. Expected is what torch.save or "
            "safetensors writes."
        ) from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # foreign bytes fail anywhere
        raise ValueError("safetensors did not write it, or it is cut off or damaged") from error


def _only_tensors(content: Any, where: str) -> Read:
    """The state dict inside, its keys cleaned; refuses anything which is not one."""
    entry = _network_entry(content)
    state = content if entry is None else content[entry]
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(
            f"{where} holds no tensors by name but {_outline(state)}; expected a state dict, or a checkpoint "
            f"with one under {', '.join(_NETWORK_ENTRIES)}."
        )
    others = [
        f"{key!r} ({type(value).__name__})"
        for key, value in state.items()
        if not (isinstance(key, str) and isinstance(value, Tensor))
    ]
    if others:
        raise ValueError(f"{where} mixes tensors by name with others: {some(others)}; expected a state dict.")
    is_ours = entry is not None and content.get("format") == FORMAT
    if is_ours:
        check_entries(where, content, ())
    return Read(_clean_keys(dict(state)), entry, content.get("class_names") if is_ours else None)


def _network_entry(content: Any) -> str | None:
    """Where a checkpoint keeps its network; None where the content is no checkpoint."""
    if not isinstance(content, Mapping):
        return None
    return next((entry for entry in _NETWORK_ENTRIES if isinstance(content.get(entry), Mapping)), None)


def _clean_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Takes `_orig_mod.` off wherever a part was compiled, `module.` where it stands before every key.

    torch's AveragedModel counts in `n_averaged`, beside the keys of the module: the count goes with the prefix.
    """
    state = {key.replace("_orig_mod.", ""): tensor for key, tensor in state.items()}
    while inner := [key for key in state if key != "n_averaged"]:
        if not all(key.startswith("module.") for key in inner):
            break
        state = {key.removeprefix("module."): state[key] for key in inner}
    return state


def _outline(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dict of {some([str(key) for key in content])}" if content else "an empty dict"
    return f"a {type(content).__name__}"


def some(names: list[str], limit: int = 4) -> str:
    """The first few names of a list, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more

"""What a network of timm is like: found by running it without numbers, and by nothing that timm states about it.

timm states channels and strides of the feature maps in its `feature_info`, and not everywhere rightly; some networks
give maps [B, H, W, C]. So a network is built on the meta device, where tensors have shapes and no memory, and sees
images of two heights: the axis of a map that grows is its height, and how much it grows is the stride. The graph of
such a run tells which weights a map is computed with.
"""

import math
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from public.config.names import first_line, nearest_names
from public.weights.published import import_timm

Size = tuple[int, int]
"""Height and width, pixels."""
Shapes = list[tuple[int, ...]]
"""Of the maps, in timm's order."""


class Map(NamedTuple):
    """A feature map of a network."""

    place: int
    """Among those that timm offers."""
    stride: int
    """Pixels of the image to one step."""
    is_channels_last: bool
    """Whether it comes as [B, H, W, C]."""
    channels: int
    weights: frozenset[str]
    """Names, in timm's network of features, of the parameters that it is computed with."""


class _Grid(NamedTuple):
    """Where a map lies on the image: the first fields of a `Map`."""

    place: int
    stride: int
    is_channels_last: bool


class FeatureMaps(NamedTuple):
    """The feature maps of a network."""

    by_level: dict[str, Map]
    """`c{i}` is the deepest of those with stride 2**i, shallow to deep. Maps of other strides have no level."""
    multiple: int
    """Where both sides of an image are multiples of it, each map has exactly side / stride; 1: all others have
    ceil(side / stride)."""
    fixed_size: Size | None
    """Of the only images that the network takes; None: it takes others too."""


# ---- networks --------------------------------------------------------------------------------------------------------


def check_timm_name(name: str) -> None:
    """Raises ValueError where timm has no such network, naming the nearest, or is not installed."""
    timm = import_timm(f"network timm:{name}")
    if not timm.is_model(name):
        raise ValueError(f"timm has no network {name!r}; {nearest_names(name, timm.list_models())}.")


def create(name: str, **settings: Any) -> Any:
    """timm's network with new weights, which takes images of any size where timm can make it so.

    Args:
        name: as timm calls it, with or without the tag of its weights.
        settings: what `timm.create_model` takes; None leaves one at the network's own.
    """
    return import_timm(f"network timm:{name}").create_model(name, **_free_of_size(name), **settings)


def probe(name: str, **settings: Any) -> Any:
    """As `create`, in evaluation mode, and leaves the random numbers as they are.

    It is on the meta device, where it takes no memory; on the CPU, where it cannot be built without numbers.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return create(name, **settings).eval()
        except (NotImplementedError, RuntimeError):
            return create(name, **settings).eval()


@cache
def _free_of_size(name: str) -> dict[str, bool]:
    """The setting that lets a network take other images than those of the size that it was made for, if it has one."""
    timm = import_timm(f"network timm:{name}")
    for settings in ({"dynamic_img_size": True}, {"strict_img_size": False}):
        try:
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                timm.create_model(name, **settings)
        except TypeError:  # it has no such argument
            continue
        except (NotImplementedError, RuntimeError):  # it has, and needs numbers: see `probe`
            pass
        return settings
    return {}


@cache
def native_size(name: str) -> Size:
    """Height and width in pixels of the images that a network was made for."""
    _, height, width = import_timm(f"network timm:{name}").get_pretrained_cfg(name).input_size
    return height, width


@cache
def classifier_prefixes(name: str) -> tuple[str, ...]:
    """What the keys of the layers begin with whose shapes follow the number of classes."""
    two, three = (probe(name, num_classes=number).state_dict() for number in (2, 3))
    layers = (key.rpartition(".")[0] for key, tensor in two.items() if tensor.shape != three[key].shape)
    return tuple(f"{layer}." for layer in dict.fromkeys(layers))


# ---- feature maps ----------------------------------------------------------------------------------------------------


@cache
@torch.inference_mode(False)
@torch.enable_grad()
def feature_maps(name: str) -> FeatureMaps:
    """Measures the feature maps of a network.

    Raises:
        ValueError: timm gives none of it, or none that lies on a grid of 1, 2, 4, 8, ... pixels.
    """
    network, size = _network_of_all_maps(name), native_size(name)
    shapes = _shapes_at(network, size) or []
    for growth in (256, size[0]):  # maps in windows want whole multiples of the size
        taller = _shapes_at(network, (size[0] + growth, size[1]))
        if taller is not None:
            break
    grids: dict[str, _Grid] = {}
    for place, shape in enumerate(shapes):
        grid = _grid_of_one_size(place, shape, size) if taller is None else _grid(place, shape, taller[place], growth)
        if grid is not None:  # the last of a stride counts
            grids[f"c{grid.stride.bit_length() - 1}"] = grid
    multiple = 1
    if taller is not None:
        multiple, grids = _exact(network, grids, size)
    if not grids:
        raise ValueError(
            f"timm:{name} cannot be a backbone: none of its feature maps has a step for every 2, 4, 8, ... pixels. For "
            f"images of {size[0]}x{size[1]} they are {', '.join(str(list(shape)) for shape in shapes)}."
        )
    used = _weights_of(network, [grid.place for grid in grids.values()], size)
    maps = (
        Map(*grid, shapes[grid.place][3 if grid.is_channels_last else 1], used[grid.place]) for grid in grids.values()
    )
    by_level = sorted(zip(grids, maps, strict=True), key=lambda item: item[1].stride)
    return FeatureMaps(dict(by_level), multiple, size if taller is None else None)


def _network_of_all_maps(name: str) -> nn.Module:
    """timm's network of features, with every map that it offers: on the meta device, if it runs there."""
    try:
        settings = {"features_only": True, "out_indices": tuple(range(len(probe(name).feature_info)))}
        network = probe(name, **settings)
        recurrent = any(isinstance(module, nn.RNNBase) for module in network.modules())  # there it takes a minute
        if recurrent or _shapes_at(network, native_size(name)) is None:
            with torch.random.fork_rng(devices=[]):
                network = create(name, **settings).eval()
        return network
    except (AttributeError, AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"timm:{name} cannot be a backbone: timm gives no feature maps of it ({first_line(error)})."
        ) from error


def image_for(network: nn.Module, size: Size) -> Tensor:
    """A black image [1, 3, H, W], where the network is."""
    return torch.zeros(1, 3, *size, device=next(network.parameters()).device)


def _shapes_at(network: nn.Module, size: Size) -> Shapes | None:
    """The shapes of the maps for an image of this size; None where the network does not take it."""
    try:
        return [tuple(x.shape) for x in network(image_for(network, size))]
    except Exception:  # each network refuses a size by an error of its own kind
        return None


def _grid(place: int, shape: tuple[int, ...], taller: tuple[int, ...], growth: int) -> _Grid | None:
    """The grid of a map, from its shape and that for an image which is taller by so many pixels."""
    axis = next((axis for axis in (1, 2) if len(shape) == 4 and shape[axis] != taller[axis]), None)
    return None if axis is None else _grid_along(place, axis, growth, taller[axis] - shape[axis])


def _grid_of_one_size(place: int, shape: tuple[int, ...], size: Size) -> _Grid | None:
    """The same where there is one size alone: it is square, so two axes are equal, and the third counts channels."""
    axis = next((axis for axis in (2, 1) if len(shape) == 4 and shape[axis] == shape[axis + 1]), None)
    return None if axis is None else _grid_along(place, axis, size[0], shape[axis])


def _grid_along(place: int, axis: int, pixels: int, steps: int) -> _Grid | None:
    stride, rest = divmod(pixels, steps) if steps > 0 else (0, 1)
    return _Grid(place, stride, axis == 1) if rest == 0 and stride.bit_count() == 1 else None


def _exact(network: nn.Module, grids: dict[str, _Grid], size: Size) -> tuple[int, dict[str, _Grid]]:
    """The multiple of whose sides most maps have as many steps as they should, and those maps."""
    found: tuple[int, dict[str, _Grid]] = (1, {})
    for multiple, canvas in ((1, (97, 131)), *((m, (3 * m, 5 * m)) for m in (32, 64, size[0]))):
        shapes = _shapes_at(network, canvas)
        exact = {level: g for level, g in grids.items() if shapes is not None and _fits(shapes[g.place], g, canvas)}
        if len(exact) > len(found[1]):
            found = (multiple, exact)
        if len(exact) == len(grids):
            break
    return found


def _fits(shape: tuple[int, ...], grid: _Grid, canvas: Size) -> bool:
    steps = shape[1:3] if grid.is_channels_last else shape[2:4]
    return steps == tuple(math.ceil(side / grid.stride) for side in canvas)


def _weights_of(network: nn.Module, places: list[int], size: Size) -> dict[int, frozenset[str]]:
    """The names of the parameters that each of these maps is computed with: those at the ends of its graph."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    maps: list[Tensor] = network(image_for(network, size))
    return {place: frozenset(names[id(p)] for p in _leaves(maps[place]) if id(p) in names) for place in places}


def _leaves(x: Tensor) -> Iterator[Tensor]:
    """The tensors with gradients that a tensor was computed from."""
    seen: set[Any] = set()
    waiting: list[Any] = [x.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # where a leaf's gradient is accumulated
            yield node.variable
        waiting += (before for before, _ in node.next_functions)

"""From scored candidates to detections, for a whole batch at once.

The candidates of an image, of all levels and classes, lie in one row of [B, N], filled up where it has fewer. Where
shapes are fixed (`public.geometry.fixed_shapes`) N is known beforehand; on a CPU it is what the image with the most
candidates has, which in a trained network are few.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from public.datasets.batches import ImageSizes
from public.detectors.detector import Detections
from public.geometry.fixed_shapes import shapes_are_fixed
from public.geometry.labels import PADDING
from public.runtime.tracing import is_exporting


class Pairs(NamedTuple):
    """Pairs of a place and a class that are above a threshold, by falling score, all [B, n]."""

    scores: Tensor
    """float32; -inf in what only fills up."""
    places: Tensor
    """int64, where in a level; 0 in what only fills up."""
    labels: Tensor
    """int64, the class; PADDING in what only fills up."""


def best_places(scores: Tensor, limit: int, order: Tensor | None = None) -> Tensor:
    """Where the best of each row are, best first; of equals the first in the row, or in `order`.

    Args:
        scores: float32 [B, N].
        limit: how many, at most N.
        order: int64 [B, N], from 0 to below 2^32.

    Returns:
        int64 [B, min(limit, N)].
    """
    if is_exporting():
        return best_places_op(scores, limit, order)
    return _best_places(scores, limit, order)


@torch.library.custom_op("public::best_places", mutates_args=())
def best_places_op(scores: Tensor, limit: int, order: Tensor | None = None) -> Tensor:
    """`best_places` as one node of a graph, which `public.apps.export_graph` writes as ONNX's TopK."""
    return _best_places(scores, limit, order)


@best_places_op.register_fake
def _(scores: Tensor, limit: int, order: Tensor | None = None) -> Tensor:
    return torch.empty(scores.shape[0], min(limit, scores.shape[1]), dtype=torch.int64, device=scores.device)


def _best_places(scores: Tensor, limit: int, order: Tensor | None) -> Tensor:
    """See `best_places`."""
    # The bits of a float32 as a whole number rise with it, but for those of negative ones, which fall.
    scores = scores.float().nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    bits = (scores + 0.0).view(torch.int32)  # -0 is 0
    bits = torch.where(bits < 0, bits ^ torch.iinfo(torch.int32).max, bits).long()
    if order is None:
        order = torch.arange(scores.shape[1], device=scores.device)
    return ((bits << 32) - order).topk(min(limit, scores.shape[1])).indices


def best_pairs(
    best: Tensor, scores_at: Callable[[Tensor, Tensor], Tensor], threshold: float, limit: int, num_classes: int
) -> Pairs:
    """The best pairs of a place and a class in each image, of those above a threshold.

    At a place the best class has the best score, so the best k pairs lie at the best k places by best class: only those
    are looked at class by class.

    Args:
        best: float32 [B, P], the score of each place's best class.
        scores_at: images and places, int64 [...] each -> float32 [..., C].
        threshold: see above.
        limit: k.
        num_classes: C.
    """
    found = _best_pairs if shapes_are_fixed(best.device) else _few_best_pairs
    return found(best, scores_at, threshold, limit, num_classes)


def _best_pairs(
    best: Tensor, scores_at: Callable[[Tensor, Tensor], Tensor], threshold: float, limit: int, num_classes: int
) -> Pairs:
    """See `best_pairs`: the best k, above the threshold or not, of which those that are not only fill up."""
    places = best_places(best, limit)  # [B, m]
    images = torch.arange(best.shape[0], device=best.device)[:, None].expand_as(places)
    scores = scores_at(images, places).flatten(1)  # [B, m * C]
    chosen = best_places(scores, limit)  # [B, n]
    scores = scores.gather(1, chosen)
    enough = scores > threshold
    return Pairs(
        torch.where(enough, scores, -torch.inf),
        torch.where(enough, places.gather(1, chosen // num_classes), 0),
        torch.where(enough, chosen % num_classes, PADDING),
    )


def _few_best_pairs(
    best: Tensor, scores_at: Callable[[Tensor, Tensor], Tensor], threshold: float, limit: int, num_classes: int
) -> Pairs:
    """See `best_pairs`: the way of a CPU, which looks at what is above the threshold alone."""
    batch_size = len(best)
    images, places = torch.nonzero(best > threshold, as_tuple=True)
    chosen = best_of_group(best[images, places], images, limit)
    images, places = images[chosen], places[chosen]  # [m]
    scores = scores_at(images, places)  # [m, C]
    # k places have k pairs at least as good as the last of them, so no pair below it is among the best k.
    enough = torch.bincount(images, minlength=batch_size) == limit  # [B]
    last = best.new_full((batch_size,), torch.inf).scatter_reduce(0, images, best[images, places], "amin")  # [B]
    limits = torch.where(enough, last, threshold)[images]  # [m]
    rows, labels = torch.nonzero((scores > threshold) & (scores >= limits[:, None]), as_tuple=True)
    chosen = best_of_group(scores[rows, labels], images[rows], limit)
    rows, labels = rows[chosen], labels[chosen]  # [n]
    by_image = ByImage(images[rows], batch_size)
    return Pairs(
        by_image.of(scores[rows, labels], -torch.inf), by_image.of(places[rows], 0), by_image.of(labels, PADDING)
    )


class ByImage:
    """A flat list as one row for each image, as long as the longest, in the order of the list.

    Args:
        images: int64 [n], the image of each entry.
        batch_size: B.
    """

    def __init__(self, images: Tensor, batch_size: int) -> None:
        ranks = rank_in_group(images)  # [n]
        self._shape = (batch_size, int(ranks.max()) + 1 if len(ranks) else 1)
        self._places = (images, ranks)

    def of(self, values: Tensor, filling: float) -> Tensor:
        """[n, ...] -> [B, N, ...]."""
        rows = values.new_full((*self._shape, *values.shape[1:]), filling)
        return rows.index_put_(self._places, values)


def rank_in_group(groups: Tensor) -> Tensor:
    """How many earlier entries are of the same group: int64 [n] -> int64 [n]. (7, 3, 7, 7) -> (0, 0, 1, 2)."""
    order = torch.argsort(groups, stable=True)  # [n]
    place = torch.arange(len(groups), device=groups.device)
    in_order = groups[order]
    is_first = torch.ones_like(in_order, dtype=torch.bool)
    is_first[1:] = in_order[1:] != in_order[:-1]
    first = torch.where(is_first, place, 0).cummax(0).values  # [n], where the entry's group begins
    return torch.empty_like(place).index_copy_(0, order, place - first)


def best_of_group(scores: Tensor, groups: Tensor, limit: int) -> Tensor:
    """The entries that are among the `limit` best of their group, best first.

    Args:
        scores: float [n].
        groups: int64 [n].
        limit: how many of each group stay.

    Returns:
        int64 [m], indices by falling score.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    return order[rank_in_group(groups[order]) < limit]


def rows_at(values: Tensor, places: Tensor) -> Tensor:
    """[B, N, ...], int64 [B, n] -> [B, n, ...]."""
    return values[torch.arange(places.shape[0], device=places.device)[:, None], places]


def clip_to_content(boxes: Tensor, content_sizes: Tensor) -> Tensor:
    """Cuts boxes [..., 4] on the canvas at the edges of the image that lies on it, of height and width [..., 2]."""
    limits = content_sizes.to(boxes.dtype).flip(-1)  # w h
    return torch.minimum(boxes.clamp(min=0), torch.cat([limits, limits], dim=-1))


def to_original(boxes: Tensor, sizes: ImageSizes) -> Tensor:
    """Boxes [B, N, 4] from the canvas to the original images."""
    original = sizes.original.to(boxes.dtype).flip(1).repeat(1, 2)[:, None]  # [B, 1, 4], w h w h
    content = sizes.content.to(boxes.dtype).flip(1).repeat(1, 2)[:, None]
    return torch.minimum(boxes * (original / content), original)  # rounding may lead 1e-4 px outside


def pack(boxes: Tensor, scores: Tensor, labels: Tensor, sizes: ImageSizes, max_detections: int) -> Detections:
    """The best of each image, in the original images; of equals those of the first class, then the first.

    Args:
        boxes: float32 [B, N, 4], on the canvas.
        scores: float32 [B, N].
        labels: int64 [B, N], PADDING where there is nothing, or nothing any more.
        sizes: of the images.
        max_detections: D.
    """
    num_candidates = labels.shape[1]
    there = labels != PADDING
    order = labels.clamp(min=0) * num_candidates + torch.arange(num_candidates, device=labels.device)
    best = best_places(torch.where(there, scores, -torch.inf), max_detections, order)  # [B, k]
    there, missing = there.gather(1, best), max_detections - best.shape[1]
    packed = Detections(
        torch.where(there[..., None], to_original(rows_at(boxes, best), sizes), 0),
        torch.where(there, scores.gather(1, best), 0),
        torch.where(there, labels.gather(1, best), PADDING),
    )
    if missing <= 0:
        return packed
    return Detections(
        F.pad(packed.boxes, (0, 0, 0, missing)),
        F.pad(packed.scores, (0, missing)),
        F.pad(packed.labels, (0, missing), value=PADDING),
    )

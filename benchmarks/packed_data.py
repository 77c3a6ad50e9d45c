"""Packed images, shrunk and as they are, and the folder they came from, against torchvision's reference pipeline.

    python -m benchmarks.packed_data

Everything is as in `benchmarks.imagenet_pipeline`, the peer too: torchvision's ImageFolder with its reference's PIL
transforms, at the same number of workers. It reads the folder; ours read the folder, its packed copy, and a packed copy
that is shrunk. The photos at hand are smaller than ImageNet's, of which most are 500 x 375: they are enlarged to that
shorter side first. That leaves them smoother than real ones, and so the peer's files cheaper to decode.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from PIL import Image

from benchmarks.compare import Comparison, alternate, benchmark_device, find_data, report
from benchmarks.imagenet_pipeline import Options as PipelineOptions
from benchmarks.imagenet_pipeline import OurBatches, PeerBatches, part_of, speed
from public.datasets.image_folder import ImageList, list_images
from public.datasets.packed import PackedImages, Shrinking
from public.datasets.packing import pack_split

CLAIMS = {"packed and shrunk": 3.0, "packed": 1.6, "folder": 1.6}
"""Least multiple of torchvision's images/s, for each way of ours."""


@dataclass(frozen=True, kw_only=True)
class Options(PipelineOptions):
    """What the command line can set."""

    source_side: int = 375
    """Pixels to which the shorter side of smaller images is enlarged; larger images stay as they are."""
    shorter_side: int = 256
    """Of the shrunk copy."""
    quality: int = 90
    """Of the shrunk copy's JPEGs, and of enlarged ones."""


def enlarged_copy(images: ImageList, folder: Path, options: Options) -> ImageList:
    """Writes the images to a folder of class folders, enlarged where they are smaller than asked for."""
    for index, file in enumerate(images.files.tolist()):
        target = (folder / file.decode()).with_suffix(".jpg")
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(images.path(index)) as image:
            scale = options.source_side / min(image.size)
            if scale <= 1:
                target.write_bytes(images.read(index))
                continue
            size = round(image.width * scale), round(image.height * scale)
            image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(target, quality=options.quality)
    return list_images(folder.parent, folder.name)


def measure(folder: Path, options: Options, device: torch.device) -> Comparison:
    """The speed of all four ways.

    Args:
        folder: of class folders; packed copies are written beside it.
        options: of the command line.
        device: that takes the batches.
    """
    images = list_images(folder.parent, folder.name)
    shrinking = Shrinking(options.shorter_side, options.quality)
    packed, shrunk = folder.with_name("packed.lmdb"), folder.with_name("shrunk.lmdb")
    for target, how in ((packed, None), (shrunk, shrinking)):
        assert not pack_split(images, target, how, options.num_workers)
    sources = {"packed and shrunk": PackedImages(shrunk), "packed": PackedImages(packed), "folder": images}
    loaders = {name: OurBatches(source, options, device) for name, source in sources.items()}
    ways = {name: lambda batches=batches: speed(batches, device) for name, batches in loaders.items()}
    peer = PeerBatches(folder, list(range(len(images.files))), options, device)
    return alternate(ways | {"torchvision": lambda: speed(peer, device)}, options.rounds, "images/s")


def main(options: Options) -> None:
    """Measures, prints and appends to results.jsonl, one line for each way of ours."""
    device = benchmark_device()
    folder, data = find_data("imagenet_like/val", "ILSVRC2012/train", options.data)
    images = list_images(folder.parent, folder.name)
    total = len(images.files)
    chosen = list(range(0, total, max(1, total // options.images)))[: options.images]
    with tempfile.TemporaryDirectory() as scratch:
        enlarged_copy(part_of(images, chosen), Path(scratch) / "images", options)
        comparison = measure(Path(scratch) / "images", options, device)
    sizes = f"{data}, at least {options.source_side} pixels high and wide, shrunk to {options.shorter_side}"
    for name, claimed in CLAIMS.items():
        speeds = {way: comparison.speeds[way] for way in (name, "torchvision")}
        pair = Comparison(unit=comparison.unit, speeds=speeds)
        report(f"packed_data, {name}", pair, claimed, device, f"{sizes}, {options.num_workers} workers")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

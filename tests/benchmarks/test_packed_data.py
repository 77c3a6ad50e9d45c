"""The images that the packed ways and the peer are measured with."""

from pathlib import Path

from PIL import Image

from benchmarks.packed_data import Options, enlarged_copy
from public.datasets.image_folder import list_images


def test_small_images_are_enlarged_and_large_ones_left_alone(image_folder: Path, tmp_path: Path) -> None:
    """12 x 10 grows to a shorter side of 40, 48 x 40; 50 x 60 keeps its bytes."""
    large = image_folder / "val/cat/large.jpg"
    Image.new("RGB", (50, 60), (9, 99, 199)).save(large)
    images = enlarged_copy(list_images(image_folder, "val"), tmp_path / "copy", Options(source_side=40))
    assert images.class_names == ["bird", "cat"]
    assert images.labels.tolist() == [0] * 3 + [1] * 5
    for index, file in enumerate(images.files.tolist()):
        with Image.open(images.path(index)) as image:
            assert image.size == ((50, 60) if file == b"cat/large.jpg" else (48, 40))
    assert (tmp_path / "copy/cat/large.jpg").read_bytes() == large.read_bytes()

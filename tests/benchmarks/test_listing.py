"""The tree on which listing is measured."""

from pathlib import Path

from benchmarks.listing import Options, same_files, write_tree
from public.datasets.image_folder import list_images


def test_both_ways_find_the_same_files(tmp_path: Path) -> None:
    """Three classes of 5: names that sort otherwise than their numbers, in one order."""
    write_tree(tmp_path / "train", Options(classes=3, images=5))
    images = list_images(tmp_path, "train")
    assert images.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert images.files.tolist() == sorted(images.files.tolist())
    assert same_files(tmp_path / "train")

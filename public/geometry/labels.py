"""What a label says that is no class: of an object of a batch, of a target, of a detection. Classes count from 0."""

BACKGROUND = -1
"""No class at all: a place where no class is right, a row that only fills up."""
PADDING = BACKGROUND
"""The same, said of rows: an image has fewer objects, or fewer detections, than the batch has rows."""
IGNORED = -2
"""Takes no part: a region (a COCO crowd, a difficult VOC object) that is neither object nor background, or a place from
which nothing is learned. As a value of a heatmap it says the same of a cell."""

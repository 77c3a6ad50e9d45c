"""A metric as somebody would add it: the share of the images in which the best detection is of a class that is there.

What `tests/test_contributing.py` copies to `public/evaluation/`.
"""

import numpy as np

from public.datasets.predictions import Predictions, rows_of_images
from public.evaluation.evaluator import Curves, DetectionResult, Evaluator


class HitEvaluator(Evaluator):
    """Judges whole images; no box is looked at."""

    kind = "hits"
    metrics = ("hit_rate",)
    panels = (("hits", ("hit_rate",)),)
    report_names = ("hits.txt",)

    def evaluate(self, predictions: Predictions) -> DetectionResult:
        """hit_rate."""
        annotations = self.annotations
        offsets, hits = annotations.offsets, 0
        for image in range(annotations.num_images):
            own = np.flatnonzero(rows_of_images(predictions, annotations) == image)
            if len(own):
                best = predictions.labels[own[predictions.scores[own].argmax()]]
                hits += int(best in annotations.labels[offsets[image] : offsets[image + 1]])
        metrics = {"hit_rate": hits / annotations.num_images}
        names = annotations.class_names
        return DetectionResult(metrics, [], [], names, Curves(np.array([0.0, 1.0]), np.full((len(names), 2), np.nan)))

    def reports(self, result: DetectionResult) -> dict[str, str]:
        """One line."""
        return {"hits.txt": f"{result.metrics['hit_rate']:.3f}\n"}

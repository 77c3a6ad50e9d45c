"""What an evaluation leaves in a run folder: pictures, curves, the table by class, and the detections themselves."""

from pathlib import Path

from public.config.detection import DetectionData
from public.datasets.annotations import DetectionAnnotations
from public.datasets.formats import format_of
from public.datasets.predictions import Predictions
from public.evaluation.detection import EVALUATORS, format_table
from public.evaluation.evaluator import DetectionResult, Evaluator
from public.evaluation.pictures import draw_grid, draw_precision_recall, grid_entries
from public.runtime.run_folder import going_on_when_disk_is_full, replace_text


def write_report(
    folder: Path,
    result: DetectionResult,
    predictions: Predictions,
    annotations: DetectionAnnotations,
    *,
    data: DetectionData,
    evaluator: Evaluator,
    picture: str = "pictures.jpg",
) -> None:
    """Writes everything; a full disk is one warning for each kind of file.

    Args:
        folder: made if missing.
        result: of the evaluator.
        predictions: for the split.
        annotations: of the split.
        data: of which it is; its format writes the detections.
        evaluator: gives the files of its rules; those that an evaluation by other rules may have left are removed.
        picture: name of the picture grid.
    """
    others = {name: None for one in EVALUATORS.values() for name in one.report_names}
    for name, text in {"table.txt": format_table(result), **others, **evaluator.reports(result)}.items():
        with going_on_when_disk_is_full(name):
            folder.mkdir(parents=True, exist_ok=True)
            if text is None:
                (folder / name).unlink(missing_ok=True)
            else:
                replace_text(folder / name, text)
    draw_precision_recall(folder / "precision_recall.png", result)
    draw_grid(folder / picture, grid_entries(annotations, predictions), annotations.class_names)
    format_of(data).write(folder, predictions, annotations)

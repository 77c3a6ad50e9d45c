"""What an evaluation leaves in a run folder: pictures, curves, the table by class, and the detections themselves."""

from pathlib import Path

from public.datasets.annotations import DetectionAnnotations
from public.evaluation.detection import format_coco_record, format_table
from public.evaluation.pictures import draw_grid, draw_precision_recall, grid_entries
from public.evaluation.predictions import DetectionResult, Predictions, write_coco_json, write_voc_files
from public.runtime.run_folder import going_on_when_disk_is_full, replace_text


def write_report(
    folder: Path,
    result: DetectionResult,
    predictions: Predictions,
    annotations: DetectionAnnotations,
    *,
    dataset: str,
    rules: str,
    picture: str = "pictures.jpg",
) -> None:
    """Writes everything; a full disk is one warning for each kind of file.

    Args:
        folder: made if missing.
        result: of an evaluator.
        predictions: for the split.
        annotations: of the split.
        dataset: 'coco' writes predictions.json, 'voc' comp4_det_test_<class>.txt.
        rules: those of the evaluator: 'coco' writes record_mAP.txt, others remove it.
        picture: name of the picture grid.
    """
    record = format_coco_record(result) if rules == "coco" else None
    for name, text in {"table.txt": format_table(result), "record_mAP.txt": record}.items():
        with going_on_when_disk_is_full(name):
            folder.mkdir(parents=True, exist_ok=True)
            if text is None:  # an evaluation before this one, by COCO's rules, may have left it
                (folder / name).unlink(missing_ok=True)
            else:
                replace_text(folder / name, text)
    draw_precision_recall(folder / "precision_recall.png", result)
    draw_grid(folder / picture, grid_entries(annotations, predictions), annotations.class_names)
    if dataset == "coco":
        write_coco_json(folder / "predictions.json", predictions, annotations)
    else:
        write_voc_files(folder, predictions, annotations)

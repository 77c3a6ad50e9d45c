"""Training an object detector: the whole story, from top to bottom.

An experiment's train.py calls `main` with the rows of its config.py. `train` builds data, detector and optimizer,
goes on from a checkpoint if there is one, and loops over epochs (`run_epochs`, which classification shares). What it
calls lies in the earlier folders of `public/`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from public.backbones.catalog import check_backbone_name
from public.config.detection import DetectionConfig, DetectionDataConfig
from public.config.record import environment_record, to_record
from public.datasets.batches import DetectionBatch
from public.datasets.detection import DetectionTrainData, build_train_data
from public.datasets.detection_loaders import on_larger_canvas
from public.detectors.catalog import build_detector, check_detector_name
from public.detectors.detector import Detector, ImageDetector
from public.evaluation.complexity import count
from public.evaluation.detection import Evaluator, evaluate_detector, format_table, metrics_evaluator
from public.evaluation.report import write_report
from public.optim.ema import AveragedWeights
from public.optim.optimizers import build_optimizer
from public.optim.train_state import TrainState
from public.optim.update import Parts, Updater
from public.recipes.run import Run, evaluation_batches, log_start, run_epochs, run_experiment
from public.runtime.device import choose_precision, device_name, use_deterministic_kernels
from public.runtime.distributed import World
from public.runtime.interruption import Interruption
from public.runtime.parallel import check_data_parallel, check_sync_batch_norm, num_replicas, wrap
from public.runtime.run_folder import RunFolder
from public.runtime.seeding import seed_everything
from public.weights.loading import load_weights

logger = logging.getLogger(__name__)

PANELS = {
    "coco": (("AP", ("AP", "AP50", "AP75")), ("AP by size", ("AP_small", "AP_medium", "AP_large"))),
    "voc": (("mAP", ("mAP50", "mAP50_11point", "mAP50_95")),),
}


def main(configs: Mapping[str, DetectionConfig], script: str, argv: Sequence[str] | None = None) -> None:
    """Runs an experiment from its command line: see `run_experiment`."""
    run_experiment(configs, train, script, argv)


class DetectionTask(nn.Module):
    """Detector and losses in one module: what DDP, nn.DataParallel and torch.compile wrap."""

    def __init__(self, image_detector: ImageDetector) -> None:
        super().__init__()
        self.image_detector = image_detector

    def forward(self, *fields: Tensor) -> dict[str, Tensor]:
        """The fields of a DetectionBatch, and the normalisers [B, K], equal in each row -> the named losses."""
        *batch_fields, normalisers = fields
        batch = DetectionBatch(*batch_fields)
        outputs = self.image_detector.outputs(batch.images)
        return self.image_detector.detector.loss(outputs, batch, normalisers[0])


def train(config: DetectionConfig, path: Path, world: World, *, fresh: bool = False) -> int:
    """Trains one row.

    Args:
        config: the row.
        path: the run folder.
        world: this process's place.
        fresh: start over, keeping an old run folder aside.

    Returns:
        The exit code: 0 after the last epoch, 128 + the signal that stopped the run before it.

    Raises:
        ValueError: a setting, the data, the weights or the checkpoint do not fit; the message says which and how.
        NonFiniteLossError: a loss became infinite or NaN.
    """
    # ---- checks and data --------------------------------------------------------------------------------------------
    check_data_parallel(config.parallel, config.local_batch_size(world.size), world)
    check_sync_batch_norm(config.sync_batch_norm, world)
    check_detector_name(config.network)
    check_backbone_name(config.detector.backbone)
    data = build_train_data(config, world)

    # ---- detector and optimizer -------------------------------------------------------------------------------------
    seed_everything(config.seed)
    if config.runtime.deterministic:
        use_deterministic_kernels()
    class_names = data.annotations.class_names
    detector = build_detector(config.network, num_classes=len(class_names), **config.detector.options())
    folder = RunFolder(path, world.is_main)
    # A checkpoint holds all that the weights to start from gave; they may be gone by then.
    reports = [] if folder.will_go_on(fresh) else load_initial_weights(detector, config)
    dtype = choose_precision(config.precision, world.device)
    task = DetectionTask(image_detector_of(detector, config, dtype))
    wrapped = wrap(
        task,
        world,
        sync_batch_norm=config.sync_batch_norm,
        parallel=config.parallel,
        compiled=config.compile,
        channels_last=config.channels_last,
    )
    optimizer = build_optimizer(detector, config.optimizer)
    ema = AveragedWeights(detector, config.ema_decay) if config.ema_decay is not None else None
    updater = Updater(
        wrapped,
        detector,
        optimizer,
        world,
        dtype=dtype,
        clip_grad_norm=config.clip_grad_norm,
        ema=ema,
        prepare=with_normalisers(detector, world, num_replicas(config.parallel, world)),
    )
    evaluated = task.image_detector if ema is None else image_detector_of(ema.network, config, dtype).to(world.device)

    # ---- resume -----------------------------------------------------------------------------------------------------
    folder.open(fresh)  # only now: a mistake above moves no old run aside
    for report in reports:
        logger.info(report)
    world.barrier()  # nobody looks for latest.pth before an old folder is out of the way
    run = Run(
        config=config,
        world=world,
        loader=data.train,
        class_names=class_names,
        num_images=data.annotations.num_images,
        folder=folder,
        state=TrainState(detector, optimizer, updater.scaler, ema),
        interruption=Interruption(world, config.runtime.save_every_minutes),
        best_metric=config.best_metric,
        panels=(("loss", loss_columns(detector)), ("learning rate", ("lr",)), *PANELS[config.data.rules]),
        category_ids=data.annotations.category_ids,
    )
    resumed = run.state.resume(folder.latest, world, run.identity)
    folder.write_history(run.state.history, run.global_step)
    folder.write_json("config.json", to_record(config))
    folder.write_json("environment.json", environment_record(device_name(world.device), world.size))
    if world.is_main:
        height, width = config.canvas_size
        size = f"{count(detector, config.canvas_size, macs_behind=detector.decode_macs)} at {width}x{height}"
        summary = f"{config.network} on {config.detector.backbone}, {size}"
        log_start(run, summary, data.val_annotations.num_images, str(dtype).removeprefix("torch."), resumed)

    # ---- the loop ---------------------------------------------------------------------------------------------------
    evaluator = metrics_evaluator(config.data.rules)(data.val_annotations)
    return run_epochs(run, wrapped, updater, lambda: evaluate_epoch(run, evaluated, data, evaluator, config.data))


def load_initial_weights(detector: Detector, config: DetectionConfig) -> list[str]:
    """Loads the whole detector's weights, or the backbone's from classification; says what was loaded and left out."""
    reports = []
    if config.initial_weights is not None:
        left_out = detector.class_prefixes if config.new_class_head else ()
        report = load_weights(detector, config.initial_weights, leave_out=left_out)
        reports.append(f"initial weights {config.initial_weights}: {report}")
    if config.backbone_weights is not None:
        report = load_weights(detector.body, config.backbone_weights, allow_unexpected=detector.body.left_out)
        reports.append(f"backbone weights {config.backbone_weights}: {report}")
    return reports


def image_detector_of(detector: nn.Module, config: DetectionConfig, dtype: torch.dtype) -> ImageDetector:
    """The detector with the config's normalisation and layout around it."""
    assert isinstance(detector, Detector)
    mean, std = config.data.mean, config.data.std
    return ImageDetector(detector, mean=mean, std=std, dtype=dtype, channels_last=config.channels_last)


def on_one_canvas(parts: Parts, world: World) -> Parts:
    """The parts of a process's batch with the images extended to the largest canvas of all processes.

    An image's outputs, and what is drawn for its anchors, then depend on its global batch and not on who has it.
    """
    if world.size == 1:
        return parts
    sides = world.gather(tuple(parts[0][0].shape[-2:]))  # the parts of a process share a canvas
    canvas = (max(height for height, _ in sides), max(width for _, width in sides))
    return [(on_larger_canvas(images, canvas), *others) for images, *others in parts]


def with_normalisers(detector: Detector, world: World, replicas: int) -> Callable[[Parts, int], Parts]:
    """What puts the parts of a global batch on canvases of one size, and adds the batch's normalisers to each.

    The losses of all parts are averaged in the end, over accumulation steps, processes and the GPUs of
    nn.DataParallel: dividing each by total / number of parts makes that average the sum over the batch / total.
    """

    @torch.no_grad()
    def prepare(parts: Parts, _step: int) -> Parts:
        parts = on_one_canvas(parts, world)
        own = torch.stack([detector.normalisers(DetectionBatch(*part)) for part in parts]).sum(dim=0)  # [K]
        total = world.sum(own).clamp(min=1)
        share = total / (len(parts) * world.size * replicas)
        return [(*part, share.expand(len(part[0]), -1)) for part in parts]  # [B, K]: DataParallel cuts along B

    return prepare


def loss_columns(detector: Detector) -> tuple[str, ...]:
    """The columns of metrics.jsonl that hold the losses."""
    return ("train_loss", *(f"train_{name}" for name in detector.loss_names))


def evaluate_epoch(
    run: Run,
    image_detector: ImageDetector,
    data: DetectionTrainData,
    evaluator: Evaluator,
    config: DetectionDataConfig,
) -> dict[str, float]:
    """Evaluates over all processes, and writes pictures, curves and the table by class."""
    run.world.broadcast_buffers(image_detector)
    batches, after_batch = evaluation_batches(run, data.val)
    image_detector.eval()
    result, predictions = evaluate_detector(image_detector, batches, evaluator, run.world, after_batch=after_batch)
    if run.world.is_main:
        write_report(
            run.folder.path / "evaluation",
            result,
            predictions,
            data.val_annotations,
            dataset=config.dataset,
            rules=config.rules,
            picture=f"epoch_{run.state.epoch + 1:03d}.jpg",
        )
        logger.info("\n" + format_table(result).rstrip())
    return result.metrics

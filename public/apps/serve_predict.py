"""The networks of the page, and `POST /api/predict`: what `public.apps.predict.load` says of a picture, bit for bit."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from torch import nn

from public.apps.predict_model import DetectionPredictor, Predictor, Prepared, check_settings
from public.apps.predict_outputs import Names
from public.apps.predict_results import Detected, Result
from public.apps.serve_api import Endpoint, Parameter, share
from public.apps.serve_guard import limited
from public.config.names import first_line, nearest_names
from public.datasets.decoding import DECODING_ERRORS, TooManyPixels, decode_encoded

MOST_AT_ONCE = 8
"""Requests whose bodies and pictures are in memory; others wait, unread."""
A_FORM = (
    "expected is one file, in a field called image (curl -F image=@photo.jpg); parameters stand in the address, as in "
    "/api/predict?score_threshold=0.5."
)
"""How a picture is sent in one."""


class Limits(NamedTuple):
    """What is asked for at most."""

    megabytes: float
    """Of a request."""
    pixels: int
    """Of a picture."""
    seconds: float
    """Until an answer."""


class Network(NamedTuple):
    """One that answers."""

    name: str
    weights: str
    predictor: Predictor
    score_threshold: float | None
    """Where nothing else is asked for; None for a classifier."""

    def described(self) -> dict[str, Any]:
        """As the page takes it."""
        return {
            "name": self.name,
            "weights": self.weights,
            "task": self.predictor.task,
            "device": str(self.predictor.device),
            "computed_by": self.predictor.computed_by,
            "class_names": self.predictor.class_names,
            "score_threshold": self.score_threshold,
        }


def named_networks(predictors: Sequence[tuple[str, Predictor]]) -> list[Network]:
    """Each with a short name of its own: that of its run folder, or of its file.

    Args:
        predictors: weights, as they were given, and what was made of them. From now on a detector gives all it finds.
    """
    names, networks = Names(), []
    for weights, predictor in predictors:
        threshold = None
        if isinstance(predictor, DetectionPredictor):
            threshold, predictor.score_threshold = predictor.score_threshold, 0.0
        networks.append(Network(names.take(_short_name(weights)), weights, predictor, threshold))
    return networks


def _short_name(weights: str) -> str:
    path = Path(weights).absolute()
    if not path.is_file():
        return weights  # torchvision:resnet50
    return path.parent.parent.name if path.parent.name == "checkpoints" else path.stem


class Networks:
    """Answers for pictures, which one thread gives to the networks, one after the other: each has all cores."""

    def __init__(self, networks: Sequence[Network], limits: Limits) -> None:
        self.networks, self.limits = {one.name: one for one in networks}, limits
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._slots = asyncio.Semaphore(MOST_AT_ONCE)

    def about(self) -> dict[str, Any]:
        """What the page starts from."""
        return {
            "networks": [one.described() for one in self.networks.values()],
            "limits": self.limits._asdict(),
        }

    async def predict(self, request: Request, weights: str | None, score_threshold: float | None) -> dict[str, Any]:
        """The answer of one network; raises HTTPException, or ValueError where it has no threshold."""
        network = self._network(weights)
        check_settings({"score_threshold": score_threshold}, [network.predictor.task])
        try:
            async with asyncio.timeout(self.limits.seconds), self._slots:
                name, encoded = await self._picture(request)
                start = time.perf_counter()
                prepared = await run_in_threadpool(self._prepared, network.predictor, encoded, name)
                times = {"decode": 1e3 * (time.perf_counter() - start)}
                loop = asyncio.get_running_loop()
                result, own = await loop.run_in_executor(self._thread, timed, network.predictor, prepared)
        except TimeoutError as error:
            raise HTTPException(503, f"no answer within {self.limits.seconds:g} s (--max-seconds).") from error
        threshold = network.score_threshold if score_threshold is None else score_threshold
        shown = result.above(threshold) if isinstance(result, Detected) and threshold is not None else result
        said = {"weights": network.name, "task": network.predictor.task, "score_threshold": threshold}
        return shown.to_dict() | said | {"milliseconds": times | own}

    def _network(self, name: str | None) -> Network:
        if not self.networks:
            raise HTTPException(404, "there is no network: start the server with --weights.")
        if name is None:
            return next(iter(self.networks.values()))
        if name not in self.networks:
            raise HTTPException(404, f"there are no weights {name!r}; {nearest_names(name, self.networks)}.")
        return self.networks[name]

    async def _picture(self, request: Request) -> tuple[str, bytes]:
        """The name and the content of the file in a request."""
        request = Request(request.scope, limited(request.receive, self.limits.megabytes))
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            return "picture", await request.body()
        try:
            async with request.form(max_files=1, max_fields=0) as form:
                file = form.get("image")
                if isinstance(file, UploadFile):
                    return file.filename or "picture", await file.read()
                got = "the form has no file in a field called image"
        except HTTPException as error:
            if error.status_code != 400:
                raise
            got = f"the form cannot be read ({str(error.detail).rstrip('.')})"
        raise HTTPException(400, f"{got}; {A_FORM}")

    def _prepared(self, predictor: Predictor, encoded: bytes, name: str) -> Prepared:
        """A picture as the network takes it; raises HTTPException."""
        try:
            pixels = decode_encoded(encoded, max_pixels=self.limits.pixels)
        except DECODING_ERRORS as error:
            status = 413 if isinstance(error, TooManyPixels) else 400
            raise HTTPException(status, f"{name} cannot be read as an image: {first_line(error)}.") from error
        return predictor.prepare(pixels, name)

    def endpoints(self) -> list[Endpoint]:
        """Of the tab Try."""
        return [
            Endpoint(
                method="GET",
                path="/api/about",
                says="The networks, and what is asked for at most.",
                example="ADDRESS/api/about",
                answer={
                    "networks": "a list: name, weights, task, device, computed_by, class_names, score_threshold",
                    "limits": "megabytes of a request, pixels of a picture, seconds until an answer",
                },
                handle=self.about,
            ),
            Endpoint(
                method="POST",
                path="/api/predict",
                says="What a network finds in a picture, with the same numbers as public.apps.predict. The picture is "
                "the field image of a form, or the body itself (--data-binary @street.jpg).",
                example="-F image=@street.jpg ADDRESS/api/predict",
                parameters=(
                    Parameter("weights", "name of the network, see /api/about; without it the first"),
                    Parameter(
                        "score_threshold",
                        "of a detector, 0..1: weaker detections are left out; without it the network's own",
                        share("score_threshold"),
                    ),
                ),
                answer=PREDICTED,
                handle=self.predict,
            ),
        ]


PREDICTED = {
    "image": "name of the file that was sent",
    "height": "of the picture, pixels, upright as its EXIF orientation says",
    "width": "likewise",
    "predictions": "the surest first, each with class, label (0-based), score (0..1) and, of a detector, x1 y1 x2 y2 "
    "in pixels of the picture: pixel i covers i..i+1",
    "weights": "name of the network",
    "task": "classification or detection",
    "score_threshold": "that was used; null for a classifier",
    "milliseconds": "decode: reading and resizing the picture; forward: the network; boxes: choosing them",
}


def timed(predictor: Predictor, prepared: Prepared) -> tuple[Result, dict[str, float]]:
    """A result, and the milliseconds of the network and of what makes boxes of its outputs."""
    marks = [time.perf_counter()]

    def mark(*_: Any) -> None:
        if predictor.device.type == "cuda":
            torch.cuda.synchronize(predictor.device)
        marks.append(time.perf_counter())

    module = _before_boxes(predictor)
    hook = None if module is None else module.register_forward_hook(mark)
    try:
        (result,) = predictor.predict([prepared])
    finally:
        if hook is not None:
            hook.remove()
    mark()
    lengths = [1e3 * (end - begin) for begin, end in itertools.pairwise(marks)]
    return result, dict(zip(("forward", "boxes")[: len(lengths)], lengths, strict=True))


def _before_boxes(predictor: Predictor) -> nn.Module | None:
    """The module whose outputs become boxes; None where there are no boxes, or another engine makes both at once."""
    module = getattr(getattr(getattr(predictor, "network", None), "image_detector", None), "detector", None)
    return module if isinstance(module, nn.Module) else None

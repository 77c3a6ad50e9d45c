"""Use a trained network from Python.

from public.apps.predict import load

(result,) = load("best.pth")("street.jpg")        # a Classified or a Detected
"""

from public.apps.predict_model import Predictor, PredictorOptions, load
from public.apps.predict_results import Classified, Detected, Result

__all__ = ["Classified", "Detected", "Predictor", "PredictorOptions", "Result", "load"]

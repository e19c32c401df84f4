"""BentoML around the predictor, for comparison, with its adaptive batching left out: a request has its own batch."""

from typing import Any

import bentoml

from defectnet.model.predictor import Predictor
from defectnet.query import Query
from defectnet.released import released_model


@bentoml.service(traffic={"timeout": 60})
class Service:
    """One worker, as BentoML starts it by itself."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        self.predictor = Predictor.load(released_model())
        self.predictor.warm_up()

    @bentoml.api
    def predict(self, spectra: list[dict[str, Any]]) -> dict[str, Any]:
        """Answer the body of `POST /v1/predict`."""
        queries = [Query.from_json(item) for item in spectra]
        return {"predictions": [prediction.to_dict() for prediction in self.predictor.predict(queries)]}

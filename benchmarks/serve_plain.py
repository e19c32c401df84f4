"""The plain way, for comparison: FastAPI and uvicorn around the predictor, a thread a request, no batching."""

from typing import Any

import torch
from fastapi import FastAPI

from defectnet.model.predictor import Predictor
from defectnet.query import Query
from defectnet.released import released_model

app = FastAPI()
torch.set_num_threads(1)
predictor = Predictor.load(released_model())
predictor.warm_up()


@app.get("/ping")
def ping() -> str:
    """Say that it runs."""
    return "ready"


@app.post("/predict")
def predict(body: dict[str, Any]) -> dict[str, Any]:
    """Answer the body of `POST /v1/predict`."""
    queries = [Query.from_json(item) for item in body["spectra"]]
    return {"predictions": [prediction.to_dict() for prediction in predictor.predict(queries)]}

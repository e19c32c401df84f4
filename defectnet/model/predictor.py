"""From queries to predictions: the one path that the command line, the service and batch scoring share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from defectnet.elements import VOCABULARY
from defectnet.errors import DefectNetError
from defectnet.host import Host
from defectnet.io.tables import PREDICTIONS_SCHEMA, SPECTRA_SCHEMA, conform
from defectnet.model.artifact import ModelConfig, load_artifact, read_card
from defectnet.model.calibration import ModeCalibration, interval_factor, ood_score, probabilities
from defectnet.model.features import element_index, host_vector
from defectnet.model.network import DefectNetwork, Inputs
from defectnet.model.prior import expectations
from defectnet.query import Query, iterate_rows
from defectnet.spectrum import Spectrum

__all__ = ["ElementVerdict", "Prediction", "Predictor"]

# Spectra that pass through the network together: larger batches are no faster on a CPU, and need more memory.
_BATCH = 64
# Without a candidate list, elements below this probability are left out of the answer.
_RULED_OUT = 0.01
# Above this out-of-distribution score, which 1 % of the spectra of unseen hosts exceed, a warning is given.
_OOD_WARNING = 0.5
# What a query needs of the spectra table; the labels stay unread.
_COLUMNS = ("sample_id", "host", "frequency_step_thz", "dos", "reference_dos", "kind", "candidates", "error")


@dataclass(frozen=True)
class ElementVerdict:
    """What the model says of one element.

    Attributes:
        present: the verdict.
        probability: calibrated probability that the element is present.
        concentration: fraction of all atoms, *if* the element is present.
        low, high: 90 % interval of the concentration, fractions of all atoms, if the element is present.
    """

    element: str
    present: bool
    probability: float
    concentration: float
    low: float
    high: float


@dataclass(frozen=True)
class Prediction:
    """The answer to one query.

    Attributes:
        elements: most probable first; with a candidate list every candidate, otherwise those not ruled out.
        ood_score: 0 like the training spectra … 1 unlike any of them.
        warnings: what the reader should know before trusting the figures.
        error: None, or why there is no answer; then `elements` is empty.
    """

    sample_id: str
    host: str
    elements: tuple[ElementVerdict, ...]
    ood_score: float | None
    warnings: tuple[str, ...]
    model_name: str
    model_version: str
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain Python values, in the layout of `PREDICTIONS_SCHEMA`."""
        # `dataclasses.asdict` copies every figure deeply: a fifth of the whole time of a prediction.
        return vars(self) | {
            "elements": [dict(vars(verdict)) for verdict in self.elements],
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Prediction":
        """The inverse of `to_dict`: a row of the predictions table, or an item of the service's answer."""
        elements = tuple(ElementVerdict(**verdict) for verdict in values["elements"] or ())
        return cls(**{**values, "elements": elements, "warnings": tuple(values["warnings"] or ())})


class Predictor:
    """A loaded model. Safe to share between threads: nothing changes after loading."""

    def __init__(
        self,
        network: DefectNetwork,
        config: ModelConfig,
        *,
        card: str = "",
        name: str = "defectnet",
        version: str = "local",
        device: str = "cpu",
    ) -> None:
        self.config, self.card = config, card
        self.name, self.version = name, version
        self._device = torch.device(device)
        self._network = network.to(self._device).eval()
        self._known = np.isin(VOCABULARY, config.trained_on.dopants)

    @classmethod
    def load(
        cls, folder: str | Path, *, name: str = "defectnet", version: str = "local", device: str = "cpu"
    ) -> "Predictor":
        """Load an artifact folder after checking its sums.

        Raises:
            ArtifactError: the folder is incomplete, altered or of another version.
        """
        network, config = load_artifact(folder)
        return cls(network, config, card=read_card(folder), name=name, version=version, device=device)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The elements weighed when no candidate list is given: those that were dopants in training."""
        return tuple(symbol for symbol, known in zip(VOCABULARY, self._known, strict=True) if known)

    def warm_up(self) -> None:
        """Run one batch through the network, so that the first query does not wait for lazy initialisation."""
        axis = np.linspace(0.05, 15.0, 100)
        spectrum = Spectrum(axis, np.ones_like(axis))
        self.predict([Query("warm-up", Host("Si"), spectrum, spectrum)])

    def predict(self, queries: Sequence[Query]) -> list[Prediction]:
        """Answer `queries` in order; one whose density lies beyond the frequency grid gets an `error`."""
        predictions: list[Prediction] = []
        for start in range(0, len(queries), _BATCH):
            predictions += self._predict_batch(queries[start : start + _BATCH])
        return predictions

    def recommend(self, query: Query, n: int = 10) -> tuple[ElementVerdict, ...]:
        """The `n` elements that the host and the spectrum suggest most, most probable first; no list is needed.

        Where `query` has candidates, these are ranked; otherwise every element that was a dopant in training is.

        Raises:
            SpectrumError: the density lies beyond the frequency grid.
        """
        grid = self.config.grid
        reference = None if query.reference is None else grid.mode_shares(query.reference)
        row = (grid.mode_shares(query.spectrum), reference)
        return self._answer([query], [row], ruled_out=0.0)[0].elements[:n]

    def predict_table(self, table: pa.Table) -> pa.Table:
        """Answer a spectra table: one row of `PREDICTIONS_SCHEMA` for each row, in order; a bad row costs itself only.

        Raises:
            TableError: the table as a whole breaks `SPECTRA_SCHEMA`.
        """
        table = conform(table, SPECTRA_SCHEMA).select(list(_COLUMNS))
        predictions: list[Prediction] = []
        queries: list[Query] = []
        places: list[int] = []
        for row in iterate_rows(table):
            try:
                queries.append(Query.from_row(row))
                places.append(len(predictions))
                predictions.append(self._failed("", "", ""))
            except DefectNetError as error:
                predictions.append(self._failed(row["sample_id"] or "", row["host"] or "", str(error)))
        for place, prediction in zip(places, self.predict(queries), strict=True):
            predictions[place] = prediction
        return pa.Table.from_pylist([prediction.to_dict() for prediction in predictions], schema=PREDICTIONS_SCHEMA)

    def _predict_batch(self, queries: Sequence[Query]) -> list[Prediction]:
        results: list[Prediction | None] = [None] * len(queries)
        rows: list[tuple[NDArray[np.float32], NDArray[np.float32] | None]] = []
        places: list[int] = []
        grid = self.config.grid
        for place, query in enumerate(queries):
            try:
                reference = None if query.reference is None else grid.mode_shares(query.reference)
                rows.append((grid.mode_shares(query.spectrum), reference))
                places.append(place)
            except DefectNetError as error:
                results[place] = self._failed(query.sample_id, query.host.formula, str(error))
        if places:
            for place, prediction in zip(places, self._answer([queries[p] for p in places], rows), strict=True):
                results[place] = prediction
        return [prediction for prediction in results if prediction is not None]

    def _answer(
        self,
        queries: Sequence[Query],
        rows: Sequence[tuple[NDArray[np.float32], NDArray[np.float32] | None]],
        ruled_out: float = _RULED_OUT,
    ) -> list[Prediction]:
        sample = np.stack([row[0] for row in rows])
        reference = np.stack([np.zeros_like(row[0]) if row[1] is None else row[1] for row in rows])
        has_reference = np.array([row[1] is not None for row in rows])
        prior = [expectations(query.host) for query in queries]
        arrays = (
            sample,
            reference,
            has_reference,
            np.array([query.kind == "neutron" for query in queries]),
            np.stack([host_vector(query.host) for query in queries]),
            np.stack([self._asked(query) for query in queries]),
            np.stack([expected for expected, _ in prior]),
            np.stack([site for _, site in prior]),
            np.array([query.prior for query in queries]),
        )
        inputs = Inputs(*(torch.from_numpy(array).to(self._device) for array in arrays))
        with torch.inference_mode():
            answer = self._network(*inputs)
            distance = (
                self._network.distance(answer.pooled, answer.signature, inputs.has_reference).double().cpu().numpy()
            )
        logit = answer.presence_logit.double().cpu().numpy()
        mean = answer.log_concentration.double().cpu().numpy()
        spread = answer.log_spread.exp().double().cpu().numpy()
        modes = [self._calibration(query) for query in queries]
        margin = spread * np.stack([interval_factor(row, mode) for row, mode in zip(mean, modes, strict=True)])
        scores = [float(ood_score(d, mode)) for d, mode in zip(distance, modes, strict=True)]
        figures = np.stack([np.exp(mean), np.exp(mean - margin), np.minimum(np.exp(mean + margin), 1.0)], axis=2)
        return [
            Prediction(
                sample_id=query.sample_id,
                host=query.host.formula,
                elements=self._verdicts(query, logit[i], figures[i], ruled_out),
                ood_score=scores[i],
                warnings=self._warnings(query, scores[i]),
                model_name=self.name,
                model_version=self.version,
            )
            for i, query in enumerate(queries)
        ]

    def _calibration(self, query: Query) -> ModeCalibration:
        calibration = self.config.calibration
        return calibration.without_reference if query.reference is None else calibration.with_reference

    def _asked(self, query: Query) -> NDArray[np.bool_]:
        if query.candidates is None:
            return self._known
        asked = np.zeros(len(VOCABULARY), dtype=bool)
        asked[[element_index(symbol) for symbol in query.candidates]] = True
        return asked

    def _verdicts(
        self, query: Query, logit: NDArray[np.float64], figures: NDArray[np.float64], ruled_out: float
    ) -> tuple[ElementVerdict, ...]:
        calibration = self._calibration(query)
        presence = calibration.presence(candidates=query.candidates is not None, prior=query.prior)
        p = probabilities(logit, presence, expectations(query.host)[0] * np.float64(query.prior))
        kept = np.isfinite(logit) & ((p >= ruled_out) | (query.candidates is not None))
        order = [int(index) for index in np.argsort(-p, kind="stable") if kept[index]]
        return tuple(
            ElementVerdict(VOCABULARY[i], bool(p[i] >= presence.threshold), float(p[i]), *map(float, figures[i]))
            for i in order
        )

    def _warnings(self, query: Query, score: float) -> tuple[str, ...]:
        trained = self.config.trained_on
        found = []
        if score > _OOD_WARNING:
            found.append(f"unlike the training spectra (out-of-distribution score {score:.2f}): do not rely on it")
        if query.kind not in trained.kinds:
            found.append(f"the model was trained on {' and '.join(trained.kinds)} spectra, not on {query.kind} ones")
        if unseen := [symbol for symbol in query.host.elements if symbol not in trained.host_elements]:
            found.append(f"no training host contained {', '.join(unseen)}")
        if query.candidates is not None:
            if own := [symbol for symbol in query.candidates if symbol in query.host.elements]:
                found.append(f"{', '.join(own)} belongs to the host and was not weighed as a dopant")
            if unseen := [s for s in query.candidates if s not in trained.dopants and s not in query.host.elements]:
                found.append(f"the model never saw {', '.join(unseen)} as a dopant")
        return tuple(found)

    def _failed(self, sample_id: str, host: str, error: str) -> Prediction:
        return Prediction(sample_id, host, (), None, (), self.name, self.version, error)

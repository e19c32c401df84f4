"""From queries to predictions: the one path that the command line, the service and batch scoring share."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from defectnet.elements import VOCABULARY
from defectnet.errors import DefectNetError, SettingsError
from defectnet.host import Host
from defectnet.io.response_library import KnownHosts
from defectnet.io.tables import PREDICTIONS_SCHEMA, SPECTRA_SCHEMA, conform
from defectnet.model.artifact import ModelConfig, load_artifact, read_card
from defectnet.model.calibration import OOD_LIMIT, ModeCalibration, intervals, ood_score, probabilities
from defectnet.model.comparison.answer import Answered, Comparison, cannot_tell, remarks
from defectnet.model.comparison.placing import Placed
from defectnet.model.devices import device_named
from defectnet.model.error_bars import carry_errors
from defectnet.model.features import element_index, host_vector
from defectnet.model.network import DefectNetwork, Inputs
from defectnet.model.precision import Precision, multiplying_in
from defectnet.model.prior import expectations
from defectnet.prediction import Curves, ElementVerdict, Prediction
from defectnet.query import QUERY_COLUMNS, Query, iterate_rows
from defectnet.responses import PACKAGED, known_hosts
from defectnet.spectrum import Spectrum

__all__ = ["BATCH_SIZE", "ElementVerdict", "Prediction", "Predictor"]

logger = logging.getLogger(__name__)

# Spectra that pass through the network together: larger batches are no faster on a CPU, and need more memory.
BATCH_SIZE = 64
# Without a candidate list, elements below this probability are left out of the answer.
_RULED_OUT = 0.01
_NO_ANSWER = "the model could not answer this spectrum; check it for extreme values, or report it"


class Predictor:
    """A loaded model. Safe to share between threads: nothing changes after loading.

    Args:
        network, config, card: the parts of an artifact (`load_artifact`, `read_card`).
        name, version: what each answer says of the model.
        device: where the network runs, as torch names it, such as "cuda" or "cuda:1".
        precision: in which numbers its layers multiply there.
        batch_size: spectra that pass through the network together at most.
        responses: of known hosts; a query whose host is among them, and that has a reference, is answered by comparing
            it with these. None, or a model that was not trained to compare, answers from the spectrum alone.

    Raises:
        SettingsError: this machine has no such device, or the batch is empty.
    """

    def __init__(
        self,
        network: DefectNetwork,
        config: ModelConfig,
        *,
        card: str = "",
        name: str = "defectnet",
        version: str = "local",
        device: str = "cpu",
        precision: Precision = "float32",
        batch_size: int = BATCH_SIZE,
        responses: KnownHosts | None = None,
    ) -> None:
        if batch_size < 1:
            raise SettingsError(f"a batch of {batch_size} spectra cannot be; give batch_size 1 or more")
        self.config, self.card = config, card
        self.name, self.version = name, version
        self.batch_size = batch_size
        self._device, self._precision = device_named(device), precision
        self.network = network.to(self._device).eval()
        self._known = np.isin(VOCABULARY, config.trained_on.dopants)
        self._vocabulary = tuple(symbol for symbol, known in zip(VOCABULARY, self._known, strict=True) if known)
        comparer = self.network.comparer
        self._comparison = (
            None
            if comparer is None or responses is None
            else Comparison(comparer, config.comparison, responses, precision)
        )

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        name: str = "defectnet",
        version: str = "local",
        device: str = "cpu",
        precision: Precision = "float32",
        batch_size: int = BATCH_SIZE,
        responses: str | Path | None = PACKAGED,
        given_hosts: str | None = None,
    ) -> "Predictor":
        """Load an artifact folder after checking its sums; the other arguments are the class's.

        Args:
            responses, given_hosts: as in `defectnet.responses.known_hosts`.

        Raises:
            TableError: `responses` is no response library.
            ArtifactError: the folder is incomplete, altered or of another version.
            SettingsError: as the class.
        """
        network, config = load_artifact(folder)
        return cls(
            network,
            config,
            card=read_card(folder),
            name=name,
            version=version,
            device=device,
            precision=precision,
            batch_size=batch_size,
            responses=None if config.comparer is None else known_hosts(responses, given_hosts),
        )

    def take_over(self, former: "Predictor") -> None:
        """Go on from what another one knows of the same hosts, which hangs on no weights; before the first query."""
        if self._comparison is not None and former._comparison is not None:
            self._comparison.placing = former._comparison.placing

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The elements weighed when no candidate list is given: those that were dopants in training."""
        return self._vocabulary

    def warm_up(self) -> None:
        """Run one batch through the network, so that the first query does not wait for lazy initialisation."""
        axis = np.linspace(0.05, 15.0, 100)
        spectrum = Spectrum(axis, np.ones_like(axis))
        self.predict([Query("warm-up", Host("Si"), spectrum, spectrum)])

    def predict(self, queries: Sequence[Query], isolate: bool = False) -> list[Prediction]:
        """Answer `queries` in order; one whose density lies beyond the frequency grid gets an `error`.

        Args:
            isolate: a batch that fails for a reason that nobody foresaw is tried again one by one, and a query that
                fails alone gets an `error`; otherwise the failure is raised.
        """
        # By hosts, so that what is prepared for one serves all of its spectra.
        order = sorted(range(len(queries)), key=lambda place: (queries[place].host.formula, queries[place].kind))
        batches = [order[at : at + self.batch_size] for at in range(0, len(order), self.batch_size)]
        found = (answer for batch in batches for answer in self._batch([queries[place] for place in batch], isolate))
        placed = dict(zip(order, found, strict=True))
        answers = [placed[place] for place in range(len(queries))]
        return carry_errors(queries, answers, lambda drawn: self.predict(drawn, isolate))

    def _batch(self, queries: Sequence[Query], isolate: bool) -> Iterator[Prediction]:
        try:
            yield from self._predict_batch(queries)
        except Exception:
            if not isolate:
                raise
            if len(queries) > 1:
                logger.exception("a batch of %d failed; its spectra are tried one by one", len(queries))
                for query in queries:
                    yield from self._batch([query], isolate)
            else:
                yield from (self._failed(query.sample_id, query.host.formula, _NO_ANSWER) for query in queries)

    def recommend(self, query: Query, n: int = 10) -> tuple[ElementVerdict, ...]:
        """The `n` elements that the host and the spectrum suggest most, most probable first; no list is needed.

        Where `query` has candidates, these are ranked; otherwise every element that was a dopant in training is.

        Raises:
            SpectrumError: the density lies beyond the frequency grid.
        """
        return self._predict_batch([query], ruled_out=0.0)[0].elements[:n]

    def curves(self, query: Query, prediction: Prediction) -> Curves | None:
        """The measured change of `query` beside what the found elements of `prediction`, its answer, make of it.

        Returns:
            None where the host or its reference is not known.
        """
        compared = self._compared_again(query, prediction)
        return None if compared is None or self._comparison is None else self._comparison.curves(*compared)

    def with_alternatives(self, query: Query, prediction: Prediction) -> Prediction:
        """`prediction`, the answer to `query`, with the sets of elements that explain the change best in its fit."""
        compared = self._compared_again(query, prediction)
        if compared is None or self._comparison is None or prediction.fit is None:
            return prediction
        rivals = self._comparison.alternatives(*compared)
        return replace(prediction, fit=replace(prediction.fit, alternatives=rivals))

    def _compared_again(self, query: Query, prediction: Prediction) -> tuple[Placed, Answered] | None:
        if self._comparison is None or prediction.fit is None:
            return None
        (placed,) = self._comparison.placing.place([query], [self._elements(query)])
        if isinstance(placed, DefectNetError):
            raise placed
        return None if placed is None else (placed, self._comparison.answer([query], [placed])[0])

    def predict_table(self, table: pa.Table, isolate: bool = False) -> pa.Table:
        """Answer a spectra table: one row of `PREDICTIONS_SCHEMA` for each row, in order; a bad row costs itself only.

        Args:
            isolate: as in `predict`.

        Raises:
            TableError: the table as a whole breaks `SPECTRA_SCHEMA`.
        """
        table = conform(table, SPECTRA_SCHEMA).select(list(QUERY_COLUMNS))
        predictions: list[Prediction] = []
        queries: list[Query] = []
        places: list[int] = []
        for row in iterate_rows(table):
            try:
                queries.append(Query.from_row(row))
                places.append(len(predictions))
                predictions.append(self._failed("", "", ""))
            except DefectNetError as error:
                predictions.append(self._failed(row["sample_id"] or "", row["host"] or "", error))
        for place, prediction in zip(places, self.predict(queries, isolate), strict=True):
            predictions[place] = prediction
        return pa.Table.from_pylist([prediction.to_dict() for prediction in predictions], schema=PREDICTIONS_SCHEMA)

    def _predict_batch(self, queries: Sequence[Query], ruled_out: float = _RULED_OUT) -> list[Prediction]:
        """By comparison where the host's responses and its reference are known, from the spectrum alone elsewhere."""
        if self._comparison is None:
            return self._from_spectra(queries, ruled_out)
        results: list[Prediction | None] = [None] * len(queries)
        compared: list[tuple[int, Placed]] = []
        everywhere = self._comparison.placing.place(queries, [self._elements(query) for query in queries])
        for place, (query, placed) in enumerate(zip(queries, everywhere, strict=True)):
            if isinstance(placed, DefectNetError):
                results[place] = self._failed(query.sample_id, query.host.formula, placed)
            elif placed is not None and placed.candidates.entries:
                compared.append((place, placed))
        for place, prediction in self._by_comparison(queries, compared, ruled_out):
            results[place] = prediction
        rest = [place for place, result in enumerate(results) if result is None]
        for place, prediction in zip(rest, self._from_spectra([queries[p] for p in rest], ruled_out), strict=True):
            doubts = tuple(self._comparison.placing.not_compared(queries[place]))
            results[place] = replace(prediction, warnings=(*doubts, *prediction.warnings)) if doubts else prediction
        return [prediction for prediction in results if prediction is not None]

    def _elements(self, query: Query) -> Sequence[str]:
        return self.vocabulary if query.candidates is None else query.candidates

    def _by_comparison(
        self, queries: Sequence[Query], compared: Sequence[tuple[int, Placed]], ruled_out: float
    ) -> Iterator[tuple[int, Prediction]]:
        """The answers to some of `queries`, each with its place; what has no response is judged by the spectrum."""
        if not compared or self._comparison is None:
            return
        asked, where = [queries[place] for place, _ in compared], [one for _, one in compared]
        answers = self._comparison.answer(asked, where, ruled_out)
        missing = {p: one.candidates.missing for p, one in compared if queries[p].candidates is not None}
        lacking = [place for place, elements in missing.items() if elements]
        alone = self._from_spectra([replace(queries[p], candidates=missing[p]) for p in lacking], 0.0)
        judged = {place: prediction.elements for place, prediction in zip(lacking, alone, strict=True)}
        for (place, placed), answered in zip(compared, answers, strict=True):
            query = queries[place]
            verdicts = answered.verdicts
            if place in judged:
                verdicts = tuple(sorted((*verdicts, *judged[place]), key=lambda verdict: -verdict.probability))
            prediction = Prediction(
                sample_id=query.sample_id,
                host=query.host.formula,
                elements=verdicts,
                ood_score=answered.strangeness,
                warnings=(*remarks(query, placed, answered), *self._warnings(query, answered.strangeness)),
                model_name=self.name,
                model_version=self.version,
                fit=answered.fit,
            )
            yield place, prediction

    def _from_spectra(self, queries: Sequence[Query], ruled_out: float) -> list[Prediction]:
        results: list[Prediction | None] = [None] * len(queries)
        rows: list[_Shares] = []
        places: list[int] = []
        for place, query in enumerate(queries):
            try:
                rows.append(self._shares(query))
                places.append(place)
            except DefectNetError as error:
                results[place] = self._failed(query.sample_id, query.host.formula, error)
        if places:
            for place, prediction in zip(
                places, self._answer([queries[p] for p in places], rows, ruled_out), strict=True
            ):
                results[place] = prediction
        return [prediction for prediction in results if prediction is not None]

    def inputs(self, queries: Sequence[Query]) -> Inputs:
        """What the network reads of `queries`, on its device.

        Raises:
            SpectrumError: a density lies beyond the frequency grid.
        """
        return self._inputs(queries, [self._shares(query) for query in queries])

    def _shares(self, query: Query) -> "_Shares":
        grid = self.config.grid
        reference = None if query.reference is None else grid.mode_shares(query.reference)
        return grid.mode_shares(query.spectrum), reference

    def _inputs(self, queries: Sequence[Query], rows: "Sequence[_Shares]") -> Inputs:
        prior = [expectations(query.host) for query in queries]
        arrays = (
            np.stack([sample for sample, _ in rows]),
            np.stack([np.zeros_like(sample) if reference is None else reference for sample, reference in rows]),
            np.array([reference is not None for _, reference in rows]),
            np.array([query.kind == "neutron" for query in queries]),
            np.stack([host_vector(query.host) for query in queries]),
            np.stack([self._asked(query) for query in queries]),
            np.stack([expected for expected, _ in prior]),
            np.stack([site for _, site in prior]),
            np.array([query.prior for query in queries]),
        )
        return Inputs(*(torch.from_numpy(array).to(self._device) for array in arrays))

    def _answer(self, queries: Sequence[Query], rows: "Sequence[_Shares]", ruled_out: float) -> list[Prediction]:
        inputs = self._inputs(queries, rows)
        with torch.inference_mode(), multiplying_in(self._precision, self._device):
            answer = self.network(*inputs)
            distance = self.network.distance(answer.pooled, answer.signature, inputs.has_reference)
        logit, mean, away = (
            tensor.double().cpu().numpy() for tensor in (answer.presence_logit, answer.log_concentration, distance)
        )
        log_spread = answer.log_spread.float().cpu().numpy()
        modes = [self._calibration(query) for query in queries]
        scores = [float(ood_score(d, mode)) for d, mode in zip(away, modes, strict=True)]
        figures = [
            np.stack(intervals(mean[i], log_spread[i], mode), axis=1) for i, mode in enumerate(modes)
        ]  # each (94, 3)
        return [
            Prediction(
                sample_id=query.sample_id,
                host=query.host.formula,
                elements=self._verdicts(query, logit[i], figures[i], ruled_out),
                ood_score=scores[i],
                warnings=(*self._cannot_tell(query), *self._warnings(query, scores[i])),
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
        threshold = np.inf if self._cannot_tell(query) else presence.threshold
        return tuple(
            ElementVerdict(VOCABULARY[i], bool(p[i] >= threshold), float(p[i]), *map(float, figures[i])) for i in order
        )

    def _cannot_tell(self, query: Query) -> tuple[str, ...]:
        return () if self._comparison is None else cannot_tell(query)

    def _warnings(self, query: Query, score: float) -> tuple[str, ...]:
        trained = self.config.trained_on
        found = []
        if score > OOD_LIMIT:
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

    def _failed(self, sample_id: str, host: str, error: object) -> Prediction:
        return Prediction.failed(sample_id, host, error, model_name=self.name, model_version=self.version)


# Mode shares of a sample and, where it is known, of its pristine host, each of shape (n_bins,).
_Shares = tuple[NDArray[np.float32], NDArray[np.float32] | None]

"""A model judged by comparison, for the gate of promotion: hard lists by the label's source, a few rows a test host."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from defectnet.errors import TableError
from defectnet.io.response_library import ResponseLibrary
from defectnet.metrics import Judged
from defectnet.model.artifact import ModelConfig
from defectnet.model.network import DefectNetwork
from training.comparison.answers import REGIMES, answerable, judge, raw_answers
from training.comparison.rows import ComparisonRows
from training.dataset import rows_of_split

__all__ = ["ComparedRows"]

_REGIME = REGIMES["hard_lists"]
# Spectra of one crystal are near copies of each other: more of them cost time and tell little.
_MOST_A_HOST = 12


class ComparedRows:
    """The rows of a benchmark that are judged by comparison.

    Attributes:
        hosts: shape (n,), the id of each row's host.
    """

    def __init__(self, table: pa.Table, library: ResponseLibrary) -> None:
        """Choose the same few rows in every call of each test host whose end members' responses `library` has.

        Raises:
            TableError: there is no test host, or none that can be asked about.
        """
        self._rows = ComparisonRows.from_table(rows_of_split(table, "test"), library)
        self._places = _few_a_host(self._rows, answerable(self._rows, range(len(self._rows)), _REGIME))
        if not self._places:
            raise TableError("the response library has no test host of the benchmark", field="responses")
        self.hosts: NDArray[np.str_] = np.array([self._rows.host[row] for row in self._places])

    def judged(self, network: DefectNetwork, config: ModelConfig) -> Judged:
        """A model's answers by comparison beside the truth; the model must hold a network that compares."""
        assert network.comparer is not None
        raw = raw_answers(network.comparer, self._rows, self._places, _REGIME)
        return judge(raw, config.comparison, candidates=_REGIME.candidates)


def _few_a_host(rows: ComparisonRows, places: Iterable[int]) -> list[int]:
    """Of each host those places whose samples' names come first by their sums, in that order."""
    drawn: dict[str, list[int]] = defaultdict(list)
    for _, place in sorted((hashlib.sha256(rows.sample_id[place].encode()).hexdigest(), place) for place in places):
        if len(drawn[rows.host[place]]) < _MOST_A_HOST:
            drawn[rows.host[place]].append(place)
    return [place for host in sorted(drawn) for place in drawn[host]]

"""How the released model reads samples that another potential made.

The model's responses are Nequix's, end members' and springs'; the samples' dopants are CHGNet's and SevenNet's, in
hosts of the test split (`transfer_sets`), and, to hold these against, the same dopants by Nequix. Each set is asked in
three ways:

- "dopants": the potential says what dopants change in DFT's crystal; DFT's pristine crystal is the measured reference;
- "whole": crystal and dopants are the potential's; its own pristine crystal is the measured reference;
- "computed": the same samples, with DFT's pristine crystal as computed reference.

Each with a list, all of whose elements have their responses by the same class of sources, and without one, where the
source that an element has may tell something. Beside the answers stand those about the same samples by Nequix
("same_by_nequix"). What is found in the pristine crystal by which the sample was made, asked
as if it were the sample, is a false alarm. Figures are of all samples and of those whose list is by one class of
sources. Writes `results/transfer.json`; the simulation is kept in runs/transfer and gone on with.

    make bench-transfer PARENTS=…/phonondb_parents.parquet
"""

import argparse
import math
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from asking import figures_of
from numpy.typing import NDArray
from transfer_sets import KINDS, OWN, POTENTIALS, WORK, simulate, source_of
from writing import say, write_result

from defectnet.elements import VOCABULARY
from defectnet.io.response_library import ResponseLibrary
from defectnet.io.tables import read_spectra
from defectnet.model.comparison.hosts import HostOnAxis
from defectnet.model.features import element_index
from defectnet.model.predictor import Prediction, Predictor
from defectnet.query import Query, iterate_rows
from defectnet.released import released_model
from defectnet.responses import response_library
from defectnet.spectrum import Spectrum

DATA = Path(__file__).parents[1] / "data"
_COLUMNS = ("sample_id", "parent_id", "host", "frequency_step_thz", "dos", "reference_dos", "kind", "defects")
_FIGURES = ("n_dopants", "f1", "precision", "recall", "r2", "mae_pct", "coverage_90", "recall_at_5")
# Distractors of a list by springs, which nearly every element has; of other sources all elements are listed.
_DISTRACTORS = 10


@dataclass(frozen=True, eq=False)
class Questions:
    """Samples of one potential.

    Attributes:
        queries: with their lists.
        pristine: the reference of each as if it were the sample.
        truth: fractions of all atoms, shape (n, 94).
        source: the class of sources of each one's list.
    """

    queries: list[Query]
    pristine: list[Query]
    truth: NDArray[np.float64]
    source: list[str]


def main() -> None:
    """Simulate what is missing, then ask, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parents", help="Parquet of DFT phonon calculations")
    parser.add_argument("--hosts", type=int, default=24, help="crystals of each set (default 24)")
    parser.add_argument("--model", default=str(released_model()), help="an artifact folder")
    parser.add_argument("--score", action="store_true", help="only ask about what has been simulated")
    arguments = parser.parse_args()
    library = response_library(DATA / "responses")
    assert library is not None
    if not arguments.score:
        simulate(arguments.parents, library, arguments.hosts)
    predictor = Predictor.load(arguments.model, responses=str(DATA / "responses"), version="released")
    sets = {name: found for name in POTENTIALS if (found := _tables(name)) is not None}
    result: dict[str, Any] = {}
    for name, tables in sets.items():
        own = sets.get(OWN, tables)
        result[name] = _asked_in_every_way(predictor, library, *_of_the_same(tables, own))
        if own is not tables:
            result[name][f"same_by_{OWN}"] = _asked_in_every_way(predictor, library, *_of_the_same(own, tables))
        say(f"{name}: {result[name]}")
    write_result("transfer", result)


def _tables(name: str) -> tuple[pa.Table, pa.Table] | None:
    """The samples of a potential, "dopants" and "whole"; None where there are none."""
    found = []
    for kind in KINDS:
        tables = [read_spectra(path) for path in sorted((WORK / name / kind).glob("*.parquet"))]
        found.append([table for table in tables if table.num_rows])
    return (pa.concat_tables(found[0]), pa.concat_tables(found[1])) if all(found) else None


def _of_the_same(tables: Sequence[pa.Table], others: Sequence[pa.Table]) -> list[pa.Table]:
    """The rows whose samples the others have too: some potential fails on every few hosts."""
    wanted = set(others[0]["sample_id"].to_pylist())
    return [table.filter(pa.array([one in wanted for one in table["sample_id"].to_pylist()])) for table in tables]


def _asked_in_every_way(
    predictor: Predictor, library: ResponseLibrary, dopants: pa.Table, whole: pa.Table
) -> dict[str, Any]:
    """The figures of one potential's samples; `dopants` and `whole` are the same samples, row by row."""
    of_dopants, of_whole = (questions(table, library) for table in (dopants, whole))
    by_dft = [query.reference for query in of_dopants.queries]
    computed = replace(
        of_whole,
        queries=_beside(of_whole.queries, by_dft),
        pristine=_beside(of_whole.pristine, by_dft),
    )
    ways = {"dopants": of_dopants, "whole": of_whole, "computed": computed}
    return {
        "spectra": dopants.num_rows,
        "hosts": len(set(dopants["parent_id"].to_pylist())),
        "by_list": {source: of_dopants.source.count(source) for source in sorted(set(of_dopants.source))},
        "top_over_dft": _tops(of_whole.queries, by_dft),
        **{way: _asked(predictor, asked) for way, asked in ways.items()},
    }


def _tops(queries: Sequence[Query], by_dft: Sequence[Spectrum | None]) -> list[float]:
    """The least and the greatest ratio of the highest frequencies of pristine crystals, by the potential and by DFT."""
    both = [(query.reference, dft) for query, dft in zip(queries, by_dft, strict=True)]
    ratios = [own.top_thz() / dft.top_thz() for own, dft in both if own is not None and dft is not None]
    return [round(min(ratios), 3), round(max(ratios), 3)]


def _beside(queries: Sequence[Query], references: Sequence[Spectrum | None]) -> list[Query]:
    """The same with computed references."""
    return [
        replace(query, reference=reference, reference_kind="computed")
        for query, reference in zip(queries, references, strict=True)
    ]


def questions(table: pa.Table, library: ResponseLibrary) -> Questions:
    """Samples with measured references, each with a list by one class of sources."""
    queries, truth, source = [], np.zeros((table.num_rows, len(VOCABULARY))), []
    for at, row in enumerate(iterate_rows(table, _COLUMNS)):
        named, elements = list_of(
            library, row["parent_id"], row["sample_id"], [one["element"] for one in row["defects"]]
        )
        queries.append(replace(Query.from_row(row), host_id=row["parent_id"], candidates=elements))
        source.append(named)
        for defect in row["defects"]:
            truth[at, element_index(defect["element"])] += defect["concentration"]
    pristine = [replace(query, spectrum=query.reference or query.spectrum) for query in queries]
    return Questions(queries, pristine, truth, source)


def list_of(
    library: ResponseLibrary, host_id: str, sample_id: str, truth: Sequence[str]
) -> tuple[str, tuple[str, ...]]:
    """The class of sources of a sample's list, and the list: all elements of the class; of springs ten and the true.

    Distractors among springs are drawn by the prior, as the dopants were.
    """
    source, entries = source_of(HostOnAxis(library.host(host_id)))
    weights: dict[str, float] = defaultdict(float)
    for entry in entries:
        weights[entry.element] += math.exp(entry.log_weight)
    elements = set(weights)
    if source == "springs":
        rng = np.random.default_rng(zlib.crc32(sample_id.encode()))
        others = sorted(elements.difference(truth))
        shares = np.array([weights[element] for element in others])
        drawn = rng.choice(others, min(_DISTRACTORS, len(others)), replace=False, p=shares / shares.sum())
        elements = {*truth, *drawn.tolist()}
    return source, tuple(sorted(elements))


def _asked(predictor: Predictor, asked: Questions) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for mode in ("listed", "free"):
        of_samples, of_pristine = (
            predictor.predict(some if mode == "listed" else [replace(query, candidates=None) for query in some])
            for some in (asked.queries, asked.pristine)
        )
        alarms = [any(verdict.present for verdict in answer.elements) for answer in of_pristine]
        figures[mode] = _figures(of_samples, asked.truth, alarms)
        for source in sorted(set(asked.source)):
            of_source = [at for at, one in enumerate(asked.source) if one == source]
            figures[mode][source] = _figures(
                [of_samples[at] for at in of_source], asked.truth[of_source], [alarms[at] for at in of_source]
            )
    return figures


def _figures(answers: list[Prediction], truth: NDArray[np.float64], alarms: list[bool]) -> dict[str, Any]:
    return figures_of(answers, truth, _FIGURES) | {"false_alarms_pristine": round(float(np.mean(alarms)), 3)}


if __name__ == "__main__":
    main()

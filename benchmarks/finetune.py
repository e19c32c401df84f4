"""What labelled samples of one's own hosts bring, and what they do to other hosts.

Test hosts with at least twelve spectra, as if only springs were known of them. Of each, a third of the spectra are kept
to be asked; 5, 10 and 20 samples are made of the others, with 1 % counting noise: the spectra themselves as far as
they go, then sums of two, each scaled. The list is what was learned, by one source before (springs) and by one after,
so that the source says nothing of the truth. `control` is the answer to the pristine crystal after learning. Others are
test hosts that are not among them, asked with hard lists of the whole library before and after. Writes
`results/finetune.json`.

    make bench-finetune
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from asking import figures_of, questions
from numpy.typing import NDArray
from writing import say, write_result

from defectnet.elements import VOCABULARY
from defectnet.host import Host
from defectnet.io.response_library import ResponseLibrary
from defectnet.io.tables import SPECTRA_SCHEMA, read_spectra
from defectnet.model.artifact import load_artifact
from defectnet.model.comparison.answer import Comparison
from defectnet.model.features import element_index
from defectnet.model.predictor import Predictor
from defectnet.neutron import counted
from defectnet.query import Query, iterate_rows
from defectnet.released import released_model
from defectnet.responses import response_library
from defectnet.spectrum import Spectrum
from training.comparison.measured import learn_responses, write_learned
from training.dataset import split_of

DATA = Path(__file__).parents[1] / "data"
SAMPLES = (5, 10, 20)
LEAST_SPECTRA, KEPT, HOSTS = 12, 1 / 3, 80
NOISE = 0.01

Row = dict[str, Any]


def main() -> None:
    """Learn, ask before and after, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(released_model()), help="an artifact folder")
    parser.add_argument("--others", type=int, default=120, help="spectra of other hosts")
    arguments = parser.parse_args()
    library = response_library(DATA / "responses")
    assert library is not None
    own = _own_rows(library)
    with tempfile.TemporaryDirectory() as folder:
        result = _measured(arguments.model, library, own, _Others.drawn(own, arguments.others), Path(folder))
    for name in ("own_before", "own_after"):
        result[name] = {str(n): result[str(n)][name]["f1"] for n in SAMPLES}
    result["others_f1_change"] = max((result[str(n)]["others_f1_change"] for n in SAMPLES), key=abs)
    write_result("finetune", result)


@dataclass(frozen=True, eq=False)
class _Others:
    """Spectra of hosts that nothing is learned of, with their hard lists, and what they hold."""

    queries: list[Query]
    truth: NDArray[np.float64]

    @classmethod
    def drawn(cls, own: Collection[str], most: int) -> "_Others":
        queries, truth, lists = questions("test", most)
        kept = [at for at, query in enumerate(queries) if query.host_id not in own]
        return cls([replace(queries[at], candidates=lists[at]) for at in kept], truth[kept])

    def figures(self, model: str, responses: str) -> dict[str, Any]:
        return figures_of(Predictor.load(model, responses=responses).predict(self.queries), self.truth)


def _measured(
    model: str, library: ResponseLibrary, own: Mapping[str, Sequence[Row]], others: _Others, folder: Path
) -> dict[str, Any]:
    """The figures by number of samples."""
    network, config = load_artifact(model)
    assert network.comparer is not None  # a model that was not trained to compare
    bare, whole = _write_bare(library, list(own), folder / "bare.parquet"), str(DATA / "responses")
    known = ResponseLibrary.read(bare)
    comparison = Comparison(network.comparer, config.comparison, known)
    result: dict[str, Any] = {"hosts": len(own), "others_before": others.figures(model, whole)}
    for n in SAMPLES:
        split = {name: _split(rows, n) for name, rows in own.items()}
        samples = [row for _, labelled in split.values() for row in labelled]
        learned = learn_responses(pa.Table.from_pylist(samples, schema=SPECTRA_SCHEMA), comparison)
        told: dict[str, set[str]] = defaultdict(set)
        for one in learned:
            told[one.host_id].add(one.guess.element)
        asked, truth = _questions({name: kept for name, (kept, _) in split.items()}, told)
        file = write_learned(learned, known, folder / f"learned-{n}.parquet")
        before, after = (Predictor.load(model, responses=source) for source in (str(bare), f"{bare},{file}"))
        pristine = [replace(query, spectrum=query.reference or query.spectrum) for query in asked]
        figures = {
            "own_before": figures_of(before.predict(asked), truth),
            "own_after": figures_of(after.predict(asked), truth),
            "control": figures_of(after.predict(pristine), truth),
            "others_after": others.figures(model, f"{whole},{file}"),
            "spectra": len(asked),
            "learned": len(learned),
        }
        change = figures["others_after"]["f1"] - result["others_before"]["f1"]
        result[str(n)] = figures | {"others_f1_change": round(change, 4)}
        say(f"{n} samples: {result[str(n)]}")
    return result


def _questions(
    kept: Mapping[str, Sequence[Row]], told: Mapping[str, Collection[str]]
) -> tuple[list[Query], NDArray[np.float64]]:
    """Queries about spectra that hold nothing but what was learned, with that as list; what they hold, (n, 94)."""
    asked, truth = [], []
    for name, rows in kept.items():
        palette = tuple(sorted(told[name]))
        for row in rows if len(palette) > 1 else ():
            if {one["element"] for one in row["defects"]} <= set(palette):
                asked.append(replace(Query.from_row(row), host_id=name, candidates=palette))
                truth.append(_truth(row))
    return asked, np.array(truth)


def _own_rows(library: ResponseLibrary) -> dict[str, list[Row]]:
    """Rows with dopants of the first test hosts, in an order of chance, that have enough of them, by host."""
    by_host: dict[str, list[Row]] = defaultdict(list)
    for row in iterate_rows(read_spectra(DATA)):
        usable = row["error"] is None and row["defects"] and row["parent_id"] in library
        if usable and split_of(Host(row["host"])) == "test":
            by_host[row["parent_id"]].append(row)
    enough = sorted(name for name, rows in by_host.items() if len(rows) >= LEAST_SPECTRA)
    chosen = np.random.default_rng(0).permutation(enough)[:HOSTS]
    return {str(name): by_host[str(name)] for name in chosen}


def _write_bare(library: ResponseLibrary, names: Sequence[str], file: Path) -> Path:
    """The hosts with their springs alone."""
    table = library.rows_of(names)
    rows = [row | {"substitutions": []} for row in table.to_pylist() if row["springs"] is not None]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), file)
    return file


def _split(rows: Sequence[Row], n: int) -> tuple[list[Row], list[Row]]:
    """Spectra that are asked, and `n` labelled samples of the others."""
    rng = np.random.default_rng(len(rows))
    order = rng.permutation(len(rows))
    n_kept = round(KEPT * len(rows))
    kept, left = ([rows[at] for at in part] for part in (order[:n_kept], order[n_kept:]))
    samples = []
    for number in range(n):
        if number < len(left):
            row = left[number]
        else:
            one, two = (left[int(at)] for at in rng.choice(len(left), 2, replace=False))
            row = _sum(one, two, rng.uniform(0.3, 0.8), rng.uniform(0.2, 0.6))
        spectrum, _ = counted(Spectrum.from_bins(row["dos"], row["frequency_step_thz"]), NOISE, rng)
        samples.append(row | {"dos": spectrum.dos, "uncertainty": None, "partial_dos": None})
    return kept, samples


def _sum(one: Row, two: Row, first: float, second: float) -> Row:
    """A sample with the changes of both, scaled."""
    n = max(len(row[key]) for row in (one, two) for key in ("dos", "reference_dos"))
    padded = [[np.pad(row[key], (0, n - len(row[key]))) for key in ("dos", "reference_dos")] for row in (one, two)]
    change = first * (padded[0][0] - padded[0][1]) + second * (padded[1][0] - padded[1][1])
    shares: dict[tuple[str, str], float] = defaultdict(float)
    for row, factor in ((one, first), (two, second)):
        for defect in row["defects"]:
            shares[defect["element"], defect["replaces"]] += factor * defect["concentration"]
    defects = [{"element": e, "replaces": r, "concentration": c} for (e, r), c in shares.items()]
    return one | {"dos": np.maximum(padded[0][1] + change, 0.0), "reference_dos": padded[0][1], "defects": defects}


def _truth(row: Row) -> NDArray[np.float64]:
    shares = np.zeros(len(VOCABULARY))
    for defect in row["defects"]:
        shares[element_index(defect["element"])] += defect["concentration"]
    return shares


if __name__ == "__main__":
    main()

"""Ordered alloys that are themselves DFT crystals, read by the released model: both densities are DFT's own.

Every pair of `ordered_pairs.csv` whose dopants are at most 25 % of all atoms each: the alloy's density is the sample,
its host's the reference. All candidates of a list have their responses by one source:

- end members, where the packaged library has one for each of an alloy's dopants: the list is all elements with an end
  member on that sublattice;
- Nequix, likewise, and prepared here for so many hosts more as are asked for, as it takes minutes a host: unseen first;
- springs for every host: the true dopants, those of the host's other alloys, and the likeliest others there.

The headline takes each alloy by the first of end members, Nequix and springs that it has. Alloys that Nequix was
fine-tuned on and hosts whose formula the model was trained on stand apart. The control is the host's own density as
sample. Responses are kept in runs/alloys-read and gone on with.

    make bench-alloys-read PARENTS=…/phonondb_parents.parquet
"""

import argparse
import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from alloys import PAIRS, SETTINGS, SPLIT, load_named, nequix_beside
from pymatgen.core import Composition
from writing import say, write_result

from datagen.dos import choose_bins, pristine_dos
from datagen.parents import Parent
from datagen.preparation import prepare_own
from datagen.prepare import pairs_of
from datagen.settings import PrepareSettings
from defectnet.elements import VOCABULARY
from defectnet.errors import DefectNetError, SimulationError
from defectnet.host import Host
from defectnet.model.comparison.hosts import HostOnAxis, source_class
from defectnet.model.predictor import Prediction, Predictor
from defectnet.query import Query
from defectnet.released import released_model
from defectnet.responses import PACKAGED, response_library
from defectnet.spectrum import Spectrum
from training.dataset import split_of

WORK = Path("runs/alloys-read")
MOST = 0.2501
DISTRACTORS = 5
# The classes of sources and what they are called here, best first: the headline takes each alloy by the first it has.
SOURCES = {"endmember": "endmembers", "potential": "nequix", "springs": "springs"}


@dataclass(frozen=True)
class Alloy:
    """One pair: the sample, its host, and the true dopants by their shares of all atoms."""

    alloy_id: str
    formula: str
    host_id: str
    host: Host
    replaces: str
    truth: dict[str, float]


def main() -> None:
    """Prepare the hosts, ask, print, and write `results/alloys_read.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parents", help="Parquet of DFT phonon calculations")
    parser.add_argument(
        "--nequix-hosts", type=int, default=0, help="prepare so many by Nequix; those prepared before count too"
    )
    arguments = parser.parse_args()
    split = json.loads((Path(arguments.parents).parent / SPLIT).read_text(encoding="utf-8"))
    tuned_on = {*split["train"], *split["val"]}
    by_host: dict[str, list[Alloy]] = defaultdict(list)
    for alloy in alloys():
        by_host[alloy.host_id].append(alloy)
    order = sorted(by_host, key=lambda name: (split_of(by_host[name][0].host) == "train", name))
    known = load_named(arguments.parents, [*order, *(one.alloy_id for some in by_host.values() for one in some)])
    rows: dict[str, list[dict[str, Any]]] = {source: [] for source in SOURCES}
    for source in SOURCES:
        potential = nequix_beside(arguments.parents) if source == "potential" else ""
        for number, name in enumerate(order):
            prepared = source == "springs" or (source == "potential" and number < arguments.nequix_hosts)
            try:
                for row in read(known, by_host[name], source, potential, prepared=prepared):
                    rows[source].append(row | {"tuned_on": row["alloy_id"] in tuned_on})
                    say(f"{source} {row['alloy']:16} {row['truth']} {row['listed']}")
            except DefectNetError as error:
                say(f"{source} {name} {by_host[name][0].host.formula}: {error}")
    best: dict[str, dict[str, Any]] = {}
    for source in SOURCES:
        for row in rows[source]:
            best.setdefault(f"{row['host_id']}/{row['alloy_id']}", row | {"source": source})
    result = {"best": _by_group(list(best.values()))}
    result |= {SOURCES[source]: {**_by_group(some), "rows": some} for source, some in rows.items()}
    result["best"]["by_source"] = dict(Counter(row["source"] for row in best.values()))
    write_result("alloys_read", {**result["best"]["all"]["listed"], **result})
    say(json.dumps({source: {k: v for k, v in of.items() if k != "rows"} for source, of in result.items()}, indent=1))


def _by_group(rows: list[dict[str, Any]]) -> dict[str, Any]:
    groups = {
        "all": rows,
        "hosts_not_trained_on": [row for row in rows if row["split"] != "train"],
        "alloys_that_nequix_has_not_seen": [row for row in rows if not row["tuned_on"]],
        "one_dopant": [row for row in rows if len(row["truth"]) == 1],
    }
    return {name: {mode: _summary(some, mode) for mode in MODES} for name, some in groups.items()}


MODES = ("listed", "free", "control")


def alloys() -> Iterator[Alloy]:
    """The pairs that are asked about."""
    with PAIRS.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            host, shares = Host(row["host"]), Composition(row["alloy"]).fractional_composition
            truth = {e: float(shares[e]) for e in row["elements"].split() if e not in host.elements}
            if truth and max(truth.values()) <= MOST:
                yield Alloy(row["alloy_id"], row["alloy"], row["host_id"], host, row["replaces"], truth)


def read(
    known: Mapping[str, Parent], some: Sequence[Alloy], source: str, potential: str, *, prepared: bool
) -> Iterator[dict[str, Any]]:
    """The answers about the alloys of one host, by responses of one source.

    Args:
        known: hosts and alloys by id.
        potential: by which the host is prepared, where it is `prepared` for what the packaged library has not; or "".
    """
    host_id = some[0].host_id
    host, library = known[host_id], response_library()
    if host.lowest_thz() < SETTINGS.lowest_host_thz:
        raise SimulationError("unstable in DFT")
    for replaces in sorted({one.replaces for one in some}):
        here = [one for one in some if one.replaces == replaces]
        listed: tuple[str, ...] = ()
        if source != "springs" and library is not None and host_id in library:
            entries = HostOnAxis(library.host(host_id)).chosen(VOCABULARY)
            listed = tuple(
                one.element for one in entries if (one.replaces, source_class(one.source)) == (replaces, source)
            )
        there = [one for one in here if set(one.truth) < set(listed)]
        if there:
            predictor = Predictor.load(released_model(), responses=PACKAGED)
            yield from (_answer(predictor, one, host, known[one.alloy_id], listed) for one in there)
        left = [one for one in here if one not in there]
        if left and prepared:
            folder, candidates = WORK / SOURCES[source] / f"{host_id}-{replaces}", _candidates(host, here)
            prepare_own(
                host,
                PrepareSettings(
                    dopants=candidates,
                    potential=potential,
                    use_endmembers=False,
                    output=str(folder),
                    fragment_cache=str(WORK / "fragments"),
                ),
            )
            predictor = Predictor.load(released_model(), responses=folder)
            yield from (_answer(predictor, one, host, known[one.alloy_id], candidates) for one in left)


def _candidates(host: Parent, some: Sequence[Alloy]) -> tuple[str, ...]:
    """The dopants of the host's alloys and the likeliest others on that sublattice."""
    true = {element for one in some for element in one.truth}
    likely = [element for replaces, element in pairs_of(host.host, ()) if replaces == some[0].replaces]
    return tuple(sorted({*true, *[element for element in likely if element not in true][:DISTRACTORS]}))


def _answer(
    predictor: Predictor, one: Alloy, host: Parent, alloy: Parent, candidates: tuple[str, ...]
) -> dict[str, Any]:
    sample, reference = (_density(parent) for parent in (alloy, host))
    query = Query(one.alloy_id, one.host, sample, reference, host_id=one.host_id, reference_kind="measured")
    listed, free, control = predictor.predict(
        [replace(query, candidates=candidates), query, replace(query, candidates=candidates, spectrum=reference)]
    )
    row = {"alloy": one.formula, "alloy_id": one.alloy_id, "host_id": one.host_id, "host": one.host.formula}
    answers = {"listed": _of(listed), "free": _of(free), "control": _of(control)}
    return row | {"split": split_of(one.host), "truth": one.truth, "candidates": list(candidates), **answers}


def _density(parent: Parent) -> Spectrum:
    dos = pristine_dos(parent, choose_bins(parent.top_thz()))
    return Spectrum.from_bins(dos.total, dos.bins.step_thz).normalised()


def _of(answer: Prediction) -> dict[str, Any]:
    """The elements that are found, the first whether found or not, and how much they explain."""
    told = {v.element: [v.concentration, v.low, v.high] for v in answer.elements if v.present}
    best = max(answer.elements, key=lambda verdict: verdict.probability, default=None)
    return {
        "found": told,
        "first": None if best is None else best.element,
        "amount": None if best is None else best.concentration,
        "explained": None if answer.fit is None else answer.fit.explained,
    }


def _summary(rows: Sequence[dict[str, Any]], mode: str) -> dict[str, Any]:
    """Shares of the alloys, and the amount's relative error where the first element is right."""
    if not rows:
        return {"n": 0}
    right = [row for row in rows if row[mode]["first"] in row["truth"]]
    errors = [abs(row[mode]["amount"] / row["truth"][row[mode]["first"]] - 1) for row in right]
    found = sum(len(row[mode]["found"]) for row in rows)
    hits = sum(element in row["truth"] for row in rows for element in row[mode]["found"])
    wanted = sum(len(row["truth"]) for row in rows)
    return {
        "n": len(rows),
        "top1": round(len(right) / len(rows), 3),
        "amount_error_median": round(float(np.median(errors)), 3) if errors else None,
        "f1": round(2 * hits / max(found + wanted, 1), 3),
        "all_and_no_other": round(float(np.mean([set(row[mode]["found"]) == set(row["truth"]) for row in rows])), 3),
    }


if __name__ == "__main__":
    main()

"""What the benchmarks of SiGe and MgB2 share: a composition series, seen by a spectrometer, read by the released model.

The dopant's change is Nequix's, laid over the sites of cells of 216 to 240 atoms ("embedded"). The model reads the
series by a library that holds this host alone, with the responses of every candidate by one source, Nequix too, found
in another cell: a source that only the true dopant had would tell it.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from datagen.dopants import Replacement
from datagen.engine import Outcome, Workbench
from datagen.parents import Parent
from datagen.potentials import load_potential
from datagen.preparation import prepare_own
from datagen.sampling import Plan
from datagen.settings import PrepareSettings, SimulateSettings
from defectnet.errors import DefectNetError
from defectnet.io.tables import SPECTRA_SCHEMA, read_spectra, write_table
from defectnet.model.predictor import Prediction, Predictor
from defectnet.neutron import Resolution, counted, neutron_weighted, resolved
from defectnet.query import Query, iterate_rows
from defectnet.released import released_model
from defectnet.spectrum import Spectrum

POTENTIAL = "nequix"
# No cell is smaller than 216 atoms.
_SETTINGS = SimulateSettings(min_atoms=216, direct_atoms=240, max_atoms=240, seed=20261122)
_COLUMNS = ("sample_id", "host", "frequency_step_thz", "dos", "reference_dos", "kind")


def simulate_series(parent: Parent, element: str, replaces: str, fractions: list[float], path: Path) -> pa.Table:
    """The series as a spectra table, kept in `path`; a member that cannot be simulated is left out.

    Args:
        fractions: shares of all atoms.
    """
    if path.exists():
        return read_spectra(path)
    bench = Workbench(parent, load_potential(POTENTIAL), _SETTINGS)
    rows = []
    for number, fraction in enumerate(fractions):
        plan = Plan(((Replacement(element, replaces, 1.0, False), fraction),))
        try:
            # One method for the whole series, at every concentration.
            outcome = bench.simulate(plan, np.random.default_rng([number, _SETTINGS.seed]), "embedded")
        except DefectNetError as error:
            print(f"{element} {fraction:.3f}: {error}", flush=True)  # noqa: T201
            continue
        (defect,) = outcome.defects
        print(f"{element} {defect.concentration:.4f}: {outcome.n_atoms} atoms, {outcome.method}", flush=True)  # noqa: T201
        rows.append(row_of(f"{parent.host.formula}:{element} {defect.concentration:.4f}", bench, outcome, POTENTIAL))
    table = pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA)
    write_table(table, path)
    pristine = {e: d.tolist() for e, d in bench.reference.partial.items()}
    write_table(pa.Table.from_pylist([{"element": e, "dos": d} for e, d in pristine.items()]), _pristine(path))
    return table


def row_of(sample_id: str, bench: Workbench, outcome: Outcome, potential: str) -> dict[str, object]:
    """A row of the spectra table."""
    return {
        "sample_id": sample_id,
        "parent_id": bench.parent.parent_id,
        "host": bench.parent.host.formula,
        "defects": [vars(defect) for defect in outcome.defects],
        "frequency_step_thz": outcome.dos.bins.step_thz,
        "dos": outcome.dos.total,
        "partial_dos": [{"element": e, "dos": d} for e, d in outcome.dos.partial.items()],
        "reference_dos": bench.reference.total,
        "kind": "vibrational",
        "origin": {
            "method": outcome.method,
            "potential": potential,
            "n_atoms": outcome.n_atoms,
            "n_configurations": 1,
            "imaginary_weight": outcome.dos.imaginary_weight,
            "strain": outcome.strain,
            "heterovalent": outcome.heterovalent,
        },
    }


def _pristine(path: Path) -> Path:
    return path.with_name(f"pristine-{path.name}")


def pristine_parts(path: Path) -> dict[str, NDArray[np.float64]]:
    """The pristine host's density by element, modes per THz, as `simulate_series` left it beside the series."""
    return {row["element"]: np.array(row["dos"]) for row in pq.read_table(_pristine(path)).to_pylist()}


def as_measured(table: pa.Table, path: Path, resolution: Resolution, noise: float, seed: int) -> pa.Table:
    """The series as a spectrometer sees it: neutron weights, resolution, counting noise; the pristine host likewise."""
    parts = pristine_parts(path)
    rng = np.random.default_rng(seed)
    rows = table.to_pylist()
    for row in rows:
        step = row["frequency_step_thz"]
        sample = {part["element"]: np.array(part["dos"]) for part in row["partial_dos"]}
        for name, partial in (("dos", sample), ("reference_dos", parts)):
            axis = Spectrum.from_bins(np.ones(len(row["dos"])), step).frequency_thz
            seen, _ = counted(resolved(neutron_weighted(partial, axis), resolution), noise, rng)
            row[name] = seen.normalised().dos
        row["kind"], row["partial_dos"] = "neutron", None
    return pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA)


def read_series(
    parent: Parent, table: pa.Table, candidates: tuple[str, ...], element: str, folder: Path
) -> dict[str, Any]:
    """What the released model says of a series, with a list and without: a summary, and each member.

    Args:
        element: the true dopant; x is its share of all atoms.
        folder: for the host's responses, which are kept.
    """
    prepare_own(
        parent, PrepareSettings(dopants=candidates, potential=POTENTIAL, use_endmembers=False, output=str(folder))
    )
    predictor = Predictor.load(released_model(), responses=folder)
    queries = [replace(Query.from_row(row), host_id=parent.parent_id) for row in iterate_rows(table.select(_COLUMNS))]
    truth = [sum(d["concentration"] for d in row if d["element"] == element) for row in table["defects"].to_pylist()]
    found = {
        "listed": predictor.predict([replace(query, candidates=candidates) for query in queries]),
        "free": predictor.predict(queries),
    }
    pristine = [replace(query, spectrum=query.reference, candidates=candidates) for query in queries]
    alarms = sum(any(v.present for v in one.elements) for one in predictor.predict(pristine))
    result: dict[str, Any] = {"false_alarms_pristine": alarms}
    for mode, answers in found.items():
        members = [{"x_true": round(x, 5), **_of(one, element)} for x, one in zip(truth, answers, strict=True)]
        result[mode] = {"summary": _summary(members), "members": members}
    return result


def _of(prediction: Prediction, element: str) -> dict[str, Any]:
    others = [v.element for v in prediction.elements if v.present and v.element != element]
    fit = None if prediction.fit is None else prediction.fit.explained
    for verdict in prediction.elements:
        if verdict.element == element:
            names = ("probability", "concentration", "low", "high")
            figures = {name: round(getattr(verdict, name), 5) for name in names}
            return {"present": verdict.present, **figures, "others": others, "explained": fit}
    return {"present": False, **dict.fromkeys(("probability", "concentration", "low", "high"), 0.0), "others": others}


def _summary(members: list[dict[str, Any]]) -> dict[str, Any]:
    """Detection, error, order and coverage over a series."""
    truth = np.array([one["x_true"] for one in members])
    found = np.array([one["concentration"] for one in members])
    rank = np.corrcoef(truth.argsort().argsort(), found.argsort().argsort())[0, 1]
    return {
        "members": len(members),
        "detected": sum(one["present"] for one in members),
        "alone": sum(one["present"] and not one["others"] for one in members),
        "mae_x": round(float(np.abs(found - truth).mean()), 5),
        "rank_correlation": round(float(rank), 3),
        "inside_90_interval": sum(one["low"] <= one["x_true"] <= one["high"] for one in members),
    }

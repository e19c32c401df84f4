"""A small response library of made-up hosts, whose responses are smooth and unlike one another."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from defectnet.host import Host
from defectnet.io.response_library import RESPONSES_SCHEMA, ResponseLibrary, packed
from defectnet.io.tables import SPECTRA_SCHEMA
from defectnet.query import Query
from defectnet.spectrum import Spectrum, bin_centres_thz

__all__ = ["DOPANTS", "STEP_THZ", "made_up_hosts", "made_up_library", "made_up_question", "made_up_rows"]

STEP_THZ = 0.1
_N = 400
# By host: the element that is replaced, and its dopants.
DOPANTS = {
    "MgO": ("Mg", ("Ca", "Zn", "Ni", "Mn", "Sr", "Al")),
    "NaCl": ("Na", ("K", "Li", "Rb", "Ag")),
    "CaF2": ("Ca", ("Sr", "Ba", "Cd", "Mg", "Y")),
}
_TOP_THZ = {"MgO": 20.0, "NaCl": 8.0, "CaF2": 14.0}


def host_density(formula: str) -> np.ndarray:
    """Two bands below the host's top, 3 modes."""
    axis = (np.arange(_N) + 0.5) * STEP_THZ / _TOP_THZ[formula]
    bands = np.exp(-0.5 * ((axis - 0.45) / 0.12) ** 2) + 0.7 * np.exp(-0.5 * ((axis - 0.85) / 0.06) ** 2)
    return np.asarray(3.0 * bands / (bands.sum() * STEP_THZ))


def response(formula: str, number: int) -> np.ndarray:
    """The change for each unit of concentration: modes go from one place to another."""
    axis = (np.arange(_N) + 0.5) * STEP_THZ / _TOP_THZ[formula]
    gone, come = 0.35 + 0.1 * (number % 3), 0.55 + 0.09 * number
    peak = [np.exp(-0.5 * ((axis - place) / 0.05) ** 2) for place in (come, gone)]
    change = peak[0] / peak[0].sum() - peak[1] / peak[1].sum()
    return np.asarray(9.0 * change / STEP_THZ)


def made_up_library(*, sources: tuple[str, ...] = ("endmember", "springs")) -> ResponseLibrary:
    """The hosts of `made_up_hosts`."""
    return ResponseLibrary([pa.Table.from_pylist(made_up_hosts(sources=sources), schema=RESPONSES_SCHEMA)])


def made_up_hosts(*, sources: tuple[str, ...] = ("endmember", "springs")) -> list[dict[str, Any]]:
    """Rows of three hosts; the first three dopants of each have an end member, all have springs."""
    rows: list[dict[str, Any]] = []
    for formula, (replaced, dopants) in DOPANTS.items():
        substitutions = []
        for number, element in enumerate(dopants):
            for source in sources:
                if source != "springs" and number >= 3:
                    continue
                size = 0.8 if source == "springs" else 1.0
                for concentration in (0.0,) if source == "springs" else (0.01, 0.06, 0.2):
                    change = packed(size * response(formula, number))
                    substitutions.append(
                        {
                            "element": element,
                            "replaces": replaced,
                            "source": source,
                            "concentration": concentration,
                            "strain": 0.0,
                            "imaginary_weight": 0.0,
                            "change": change,
                            "change_neutron": change,
                        }
                    )
        density = packed(host_density(formula), np.int16)
        rows.append(
            {
                "host_id": f"made-up-{formula}",
                "formula": formula,
                "space_group": 225,
                "n_atoms_cell": 216,
                "frequency_step_thz": STEP_THZ,
                "dos": density,
                "dos_neutron": density,
                "sites": [],
                "substitutions": substitutions,
                "settings": "made up",
                "error": None,
            }
        )
    return rows


def made_up_question(amounts: Mapping[str, float], *, host: str = "MgO", reference: bool = True, **more: Any) -> Query:
    """A sample of a made-up host with so much of its dopants, fractions of all atoms."""
    dopants = DOPANTS[host][1]
    pristine = host_density(host)
    change = sum((c * response(host, dopants.index(e)) for e, c in amounts.items()), np.zeros_like(pristine))
    axis = bin_centres_thz(pristine.size, STEP_THZ)
    spectrum = Spectrum(axis, np.maximum(pristine + change, 0.0))
    return Query("q", Host(host), spectrum, Spectrum(axis, pristine) if reference else None, **more)


def made_up_rows(n: int = 12, seed: int = 0) -> pa.Table:
    """Spectra of these hosts with one or two of the dopants that have an end member, and some noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for formula, (replaced, dopants) in DOPANTS.items():
        pristine = host_density(formula)
        for number in range(n):
            chosen = rng.choice(3, size=rng.integers(1, 3), replace=False)
            amounts = rng.uniform(0.02, 0.1, len(chosen))
            change = sum(a * response(formula, int(k)) for k, a in zip(chosen, amounts, strict=True))
            sample = np.maximum(pristine + change + 0.002 * rng.standard_normal(_N) * pristine, 0.0)
            rows.append(
                {
                    "sample_id": f"{formula}-{number}",
                    "parent_id": f"made-up-{formula}",
                    "host": formula,
                    "defects": [
                        {"element": dopants[int(k)], "replaces": replaced, "concentration": float(a)}
                        for k, a in zip(chosen, amounts, strict=True)
                    ],
                    "frequency_step_thz": STEP_THZ,
                    "dos": sample.tolist(),
                    "partial_dos": None,
                    "reference_dos": pristine.tolist(),
                    "kind": "vibrational",
                    "candidates": None,
                    "origin": {"method": "interpolated", "potential": "none", "heterovalent": False},
                    "error": None,
                }
            )
    return pa.Table.from_pylist(rows, schema=SPECTRA_SCHEMA)

"""What the model says of pristine crystals whose spectra come from elsewhere: it should find nothing.

The data library of NCrystal (Apache-2.0) holds densities of states of some hundred crystals. 24 elements come from
measurement (neutron or nuclear scattering, mostly by way of force constants fitted to measured dispersions; each file
names its source), the inorganic compounds from DFT by other people. Each is asked about without a reference, with the
computed one of DefectNet's library where it has the host, and with itself as the reference, 2 % counting noise on both.

    make bench-hosts
"""

import contextlib
import json
from typing import Any

import NCrystal
import numpy as np
from writing import write_result

from defectnet.errors import InputError
from defectnet.host import Host
from defectnet.model.calibration import OOD_LIMIT
from defectnet.model.predictor import Predictor
from defectnet.neutron import counted
from defectnet.query import Query
from defectnet.references import library_reference
from defectnet.released import released_model
from defectnet.spectrum import Spectrum

# Files whose comments name a measurement as the source of the curve.
MEASURED = (
    "Au_sg225 Ca_sg225 Cr_sg229 Cu_sg225 Fe_sg225_Iron-gamma Fe_sg229_Iron-alpha Ge_sg227 K_sg229 Mg_sg194 Mo_sg229 "
    "Na_sg229 Nb_sg229 Ni_sg225 Pb_sg225 Pd_sg225 Pt_sg225 Rb_sg229 Sc_sg194 Sn_sg141 Sr_sg225 Ti_sg194 V_sg229 "
    "Y_sg194 Zn_sg194"
)
# Compounds computed by one group with DFT for OCLIMAX, as their comments say.
COMPUTED_MARK = "OCLIMAX"
NOISE = 0.02
# meV to THz is done by the spectrum; NCrystal's grids are in eV.
MEV_PER_EV = 1000.0
N_POINTS = 400
_SHORT = {"own": "own_reference", "computed": "library_reference", "none": "without_reference"}


def main() -> None:
    """Ask, print and write `results/hosts.json`."""
    predictor = Predictor.load(released_model(), version="released")
    rng = np.random.default_rng(20261122)
    results: dict[str, Any] = {}
    for group, names in (("measured", MEASURED.split()), ("computed_elsewhere", _computed())):
        rows = []
        for name in names:
            host, spectrum = _read(name)
            noisy, other = (counted(spectrum, NOISE, rng)[0] for _ in range(2))
            references: dict[str, Spectrum | None] = {"without_reference": None, "own_reference": other}
            with contextlib.suppress(InputError):
                references["library_reference"] = library_reference(host).spectrum
            row: dict[str, object] = {"file": name, "host": host.formula}
            for mode, reference in references.items():
                kind = "computed" if mode == "library_reference" else "measured"
                (answer,) = predictor.predict([Query(name, host, noisy, reference, reference_kind=kind)])
                found = [v.element for v in answer.elements if v.present]
                row[mode] = {"found": found, "ood_score": round(float(answer.ood_score or 0.0), 3)}
            rows.append(row)
        results[group] = {"summary": _summary(rows), "crystals": rows}
    evidence = {f"false_alarms_{short}": _share(results, mode) for short, mode in _SHORT.items()}
    number = sum(result["summary"]["without_reference"]["crystals"] for result in results.values())
    write_result("hosts", {**evidence, "n": number, **results})
    print(json.dumps({group: result["summary"] for group, result in results.items()}, indent=1))  # noqa: T201


def _computed() -> list[str]:
    found = []
    for entry in NCrystal.browseFiles(factory="stdlib"):
        text = NCrystal.createTextData(entry.name).rawData
        if "vdos_density" in text and COMPUTED_MARK in text:
            found.append(entry.name.removesuffix(".ncmat"))
    return sorted(found)


def _read(name: str) -> tuple[Host, Spectrum]:
    """Composition and density of states of one crystal, each element's curve counted by its share of the atoms."""
    info = NCrystal.createInfo(f"{name}.ncmat")
    parts = [(part.atomData.displayLabel(), part.fraction, *part.vdosData()) for part in info.dyninfos]
    top = max(grid[-1] for _, _, grid, _ in parts) * MEV_PER_EV
    axis = (np.arange(N_POINTS) + 0.5) * top / N_POINTS
    dos = np.zeros(N_POINTS)
    shares: dict[str, float] = {}
    for label, fraction, grid, density in parts:
        energy = np.linspace(grid[0], grid[-1], len(density)) * MEV_PER_EV
        # Below the first point a Debye parabola, as NCrystal itself continues the curve.
        low = density[0] * (axis / energy[0]) ** 2
        curve = np.where(axis < energy[0], low, np.interp(axis, energy, density, right=0.0))
        dos += fraction * curve / curve.sum()
        element = "H" if label == "D" else label
        shares[element] = shares.get(element, 0.0) + fraction
    formula = "".join(f"{element}{share:.6f}" for element, share in shares.items())
    return Host(formula), Spectrum.from_unit(axis, dos, "meV").normalised()


def _share(results: dict[str, Any], mode: str) -> float:
    """False alarms over all crystals that were asked about in this way."""
    summaries = [result["summary"][mode] for result in results.values()]
    return round(sum(one["false_alarms"] for one in summaries) / max(sum(one["crystals"] for one in summaries), 1), 4)


def _summary(rows: list[dict[str, object]]) -> dict[str, object]:
    summary: dict[str, object] = {}
    for mode in ("without_reference", "own_reference", "library_reference"):
        answers = [row[mode] for row in rows if mode in row]
        alarms = [bool(answer["found"]) for answer in answers]  # type: ignore[index]
        warned = [answer["ood_score"] > OOD_LIMIT for answer in answers]  # type: ignore[index]
        unwarned = [alarm and not warning for alarm, warning in zip(alarms, warned, strict=True)]
        summary[mode] = {
            "crystals": len(answers),
            "false_alarms": sum(alarms),
            "false_alarms_without_a_warning": sum(unwarned),
            "warned_as_unlike_the_training": sum(warned),
            "ood_score_median": round(float(np.median([a["ood_score"] for a in answers])), 3) if answers else None,  # type: ignore[index]
        }
    return summary


if __name__ == "__main__":
    main()

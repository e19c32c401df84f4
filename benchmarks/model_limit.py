"""How far apart are the spectra of two dopants of near-equal mass, by the simulator itself?

Each pair sits at 2 % on the same sites of the same cell. The distance between the two spectra is put beside the change
that either makes, and beside the scatter between two random configurations of one of them: what no model can tell apart
from one spectrum of 200 to 500 atoms. It needs the potential NEP89 and some minutes.

    make bench-limit
"""

import numpy as np
from writing import RESULTS, write_result

from datagen.dopants import Replacement
from datagen.dos import ElementDos
from datagen.engine import Workbench
from datagen.parents import load_parents
from datagen.potentials import load_potential
from datagen.sampling import Plan
from datagen.settings import SimulateSettings
from defectnet.elements import atomic_mass
from defectnet.errors import SimulationError
from defectnet.spectrum import MODES_PER_ATOM

CONCENTRATION = 0.02
CONFIGURATIONS = 2
# Host, replaced element, two dopants; the last pair of each kind is far apart in mass, for comparison.
PAIRS = (
    ("Si", "Si", "Ge", "As"),
    ("Si", "Si", "Ge", "C"),
    ("GaAs", "Ga", "Zn", "Cu"),
    ("GaAs", "Ga", "In", "Al"),
    ("MgO", "Mg", "Zn", "Cu"),
    ("MgO", "Mg", "Zn", "Be"),
    ("ZnSe", "Zn", "Cd", "Ag"),
    ("ZnSe", "Se", "S", "Te"),
)


def main() -> None:
    """Simulate, print, and write `results/model_limit.json` and `.md`."""
    potential, settings = load_potential("nep89"), SimulateSettings()
    loaders = dict(load_parents("packaged", sorted({pair[0] for pair in PAIRS})))
    benches = {name: Workbench(load(), potential, settings) for name, load in loaders.items()}
    rows = []
    for host, site, first, second in PAIRS:
        try:
            found = {
                dopant: [_spectrum(benches[host], site, dopant, seed) for seed in range(CONFIGURATIONS)]
                for dopant in (first, second)
            }
        except SimulationError as error:
            rows.append({"host": host, "site": site, "pair": f"{first}/{second}", "error": str(error)})
            continue
        reference = benches[host].reference
        change = np.mean([_distance(dos, reference) for many in found.values() for dos in many])
        apart = np.mean([_distance(a, b) for a, b in zip(found[first], found[second], strict=True)])
        scatter = np.mean([_distance(many[i], many[i - 1]) for many in found.values() for i in range(CONFIGURATIONS)])
        rows.append(
            {
                "host": host,
                "site": site,
                "pair": f"{first}/{second}",
                "mass_ratio": round(atomic_mass(second) / atomic_mass(first), 3),
                "change": round(float(change), 4),
                "apart": round(float(apart), 4),
                "scatter": round(float(scatter), 4),
                "apart_beside_scatter": round(float(apart / scatter), 2),
            }
        )
    result = {"concentration": CONCENTRATION, "configurations": CONFIGURATIONS, "pairs": rows}
    write_result("model_limit", result)
    text = _markdown(rows)
    (RESULTS / "model_limit.md").write_text(text, encoding="utf-8")
    print(text)  # noqa: T201


def _spectrum(bench: Workbench, site: str, dopant: str, seed: int) -> ElementDos:
    """The doped crystal; the same seed puts every dopant on the same sites."""
    plan = Plan(((Replacement(dopant, site, 1.0, False), CONCENTRATION),))
    return bench.simulate(plan, np.random.default_rng(seed)).dos


def _distance(one: ElementDos, other: ElementDos) -> float:
    """L1 distance of two densities normalised to 1."""
    return float(np.abs(one.total - other.total).sum() * one.bins.step_thz / MODES_PER_ATOM)


def _markdown(rows: list[dict[str, object]]) -> str:
    lines = [
        f"L1 distances of densities normalised to 1, dopants at {100 * CONCENTRATION:g} %.",
        "*Apart*: between the spectra of the two dopants on the same sites. *Scatter*: between two random",
        "configurations of one dopant. `make bench-limit` makes this table.",
        "",
        "| host | site | pair | mass ratio | change by either | apart | scatter | apart / scatter |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "error" in row:
            lines.append(f"| {row['host']} | {row['site']} | {row['pair']} | not simulated: {row['error']} | | | | |")
            continue
        names = ("host", "site", "pair", "mass_ratio", "change", "apart", "scatter", "apart_beside_scatter")
        lines.append("| " + " | ".join(str(row[name]) for name in names) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

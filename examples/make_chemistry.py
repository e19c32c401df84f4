"""Make the two tables in `defectnet/chemistry/` from pymatgen's data: what the library knows of elements and of ions.

python examples/make_chemistry.py

`elements.json`: of each element its mass, radius, electronegativity, place in the periodic table, Shannon's ionic
radii, and oxidation states with how often the ICSD holds them. `ions.json`: how readily two ions take each other's
place in known crystals, the weights lambda of Hautier et al., Inorg. Chem. 50, 656 (2011).
"""

import json
import warnings
from pathlib import Path

import pymatgen.core
from monty.serialization import loadfn
from pymatgen.core.periodic_table import Element, Species

TARGET = Path(__file__).parents[1] / "defectnet" / "chemistry"
CORE = Path(pymatgen.core.__file__).parent
# Hydrogen to plutonium: what the universal potentials cover.
LAST_Z = 94


def main() -> None:
    """Write both tables."""
    warnings.simplefilter("ignore")  # pymatgen warns of elements without a table, which then simply have no value
    counts = {Species.from_str(ion): count for ion, count in loadfn(CORE / "icsd_bv.yaml")["occurrence"].items()}
    table = {Element.from_Z(z).symbol: describe(Element.from_Z(z), counts) for z in range(1, LAST_Z + 1)}
    lines = [f" {json.dumps(symbol)}: {json.dumps(values)}" for symbol, values in table.items()]
    (TARGET / "elements.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    weights: dict[str, dict[str, float]] = {}
    for one, other, weight in loadfn(CORE / "structure_prediction" / "data" / "lambda.json"):
        if "D1+" not in (one, other):  # deuterium is hydrogen
            weights.setdefault(one, {})[other] = float(weight)
    lines = [f" {json.dumps(ion)}: {json.dumps(others)}" for ion, others in weights.items()]
    (TARGET / "ions.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{len(table)} elements, {sum(map(len, weights.values()))} pairs of ions")  # noqa: T201


def describe(element: Element, counts: dict[Species, int]) -> dict[str, object]:
    """One element's values; null where none is tabulated."""
    usual = element.icsd_oxidation_states or element.common_oxidation_states
    radius, electronegativity = element.atomic_radius, float(element.X)
    return {
        "mass_u": float(element.atomic_mass),
        "radius_angstrom": None if radius is None else float(radius),
        "electronegativity": None if electronegativity != electronegativity else electronegativity,
        "group": int(element.group),
        "period": int(element.row),
        "ionic_radii_angstrom": {str(charge): float(radius) for charge, radius in element.ionic_radii.items()},
        "oxidation_states": sorted({*element.common_oxidation_states, *element.icsd_oxidation_states}),
        # In the order of the source, for the balance of a formula takes the first of equals.
        "usual_states": [[state, counts.get(Species(element.symbol, state), 0)] for state in usual],
    }


if __name__ == "__main__":
    main()

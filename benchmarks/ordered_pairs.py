"""Find the doped crystals that hide in a file of DFT parents: ordered alloys of which the undoped host is there too.

An alloy is a host with some or all sites of one element taken by two or more elements of like charge, on the same
lattice. The list is kept as `ordered_pairs.csv`; `physics.py` predicts each alloy from its host and compares with DFT.

    make ordered-pairs PARENTS=…/phonondb_parents.parquet
"""

import argparse
import csv
import warnings
from collections import defaultdict
from functools import cache, reduce
from itertools import combinations
from math import gcd
from pathlib import Path

import pyarrow.parquet as pq
import spglib
from phonopy.interface.vasp import read_vasp_from_strings
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Element, Lattice, Structure

LIST = Path(__file__).parent / "ordered_pairs.csv"
COLUMNS = ("alloy_id", "alloy", "host_id", "host", "replaces", "elements", "atoms", "linear_ratio", "heterovalent")
# Beyond this linear misfit alloy and host are different crystals that happen to share a lattice.
MOST_MISFIT = 0.1
# Where nothing of the replaced element is left, the host is only one of many with that lattice: the nearest in volume,
# and small cells, stand for all.
MOST_MISFIT_WHOLE = 0.02
MOST_ATOMS_WHOLE = 12

Amounts = tuple[tuple[str, int], ...]


def main() -> None:
    """Write `ordered_pairs.csv`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parents", help="Parquet of DFT phonon calculations")
    columns = ["material_id", "formula", "poscar_unitcell"]
    rows = pq.read_table(parser.parse_args().parents, columns=columns).to_pylist()
    warnings.simplefilter("ignore")
    found = _pairs({row["material_id"]: row for row in rows})
    with LIST.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(found)
    print(f"{len(found)} pairs in {LIST.name}, {sum(row[-1] for row in found)} heterovalent")  # noqa: T201


def _pairs(rows: dict[str, dict[str, str]]) -> list[tuple[object, ...]]:
    by_amounts: dict[Amounts, list[str]] = defaultdict(list)
    for name, row in rows.items():
        by_amounts[_amounts(row["formula"])].append(name)
    # Hosts by what is left when one element is taken out, and how much of that element there was.
    hosts: dict[tuple[Amounts, int], list[tuple[Amounts, str]]] = defaultdict(list)
    for amounts in by_amounts:
        for element, amount in amounts:
            hosts[tuple(pair for pair in amounts if pair[0] != element), amount].append((amounts, element))
    structures = {name: _structure(row["poscar_unitcell"]) for name, row in rows.items()}
    matcher = StructureMatcher(primitive_cell=True, scale=True)
    best: dict[tuple[object, ...], tuple[float, tuple[object, ...]]] = {}
    for amounts in by_amounts:
        for count in range(2, len(amounts) + 1):
            for merged in combinations(amounts, count):
                rest = tuple(pair for pair in amounts if pair not in merged)
                total = sum(amount for _, amount in merged)
                unit = reduce(gcd, (amount for _, amount in rest), total)
                key = tuple((e, n // unit) for e, n in rest), total // unit
                for host_amounts, replaced in hosts.get(key, ()):
                    elements = tuple(element for element, _ in merged)
                    charge = _charge(dict(amounts), dict(host_amounts), elements, replaced)
                    if charge is None:
                        continue
                    for alloy in by_amounts[amounts]:
                        for host in by_amounts[host_amounts]:
                            pair = structures[alloy], structures[host]
                            misfit = (pair[0].volume / len(pair[0]) / (pair[1].volume / len(pair[1]))) ** (1 / 3) - 1
                            whole = replaced not in elements
                            if abs(misfit) > (MOST_MISFIT_WHOLE if whole else MOST_MISFIT) or len(pair[0]) % len(
                                pair[1]
                            ):
                                continue
                            if whole and (len(pair[0]) > MOST_ATOMS_WHOLE or not charge):
                                continue
                            like_host = pair[0].copy()
                            like_host.replace_species(dict.fromkeys(elements, replaced))
                            if not matcher.fit(like_host, pair[1]):
                                continue
                            formulas = rows[alloy]["formula"], rows[host]["formula"]
                            once = (formulas[0], len(pair[0])) if whole else (*formulas, elements, len(pair[0]))
                            row = (alloy, formulas[0], host, formulas[1], replaced, " ".join(elements), len(pair[0]))
                            entry = (abs(misfit), (*row, round(1 + misfit, 4), charge))
                            best[once] = min(best.get(once, entry), entry)
    return sorted((row for _, row in best.values()), key=lambda row: (row[6], row[1], row[3]))


def _amounts(formula: str) -> Amounts:
    return tuple(sorted((str(e), round(n)) for e, n in Composition(formula).reduced_composition.items()))


def _structure(poscar: str) -> Structure:
    cell = read_vasp_from_strings(poscar)
    lattice, positions, numbers = spglib.find_primitive((cell.cell, cell.scaled_positions, cell.numbers), symprec=1e-4)
    return Structure(Lattice(lattice), numbers, positions)


def _charge(alloy: dict[str, int], host: dict[str, int], elements: tuple[str, ...], replaced: str) -> bool | None:
    """Whether the elements bring other charges than the one that they replace; None where they are not alike at all."""
    states, before = _states(tuple(alloy.items())), _states(tuple(host.items()))
    if not states or len(host) == 1:
        # Metals and covalent elements: alike are neighbours in a column.
        groups = {Element(element).group for element in (*elements, replaced)}
        return False if replaced in elements and len(groups) == 1 else None
    if min(states[e] for e in elements) < 0 < max(states[e] for e in elements):
        return None
    usual = before.get(replaced)
    return None if usual is None else any(abs(states[element] - usual) > 1e-6 for element in elements)


@cache
def _states(amounts: Amounts) -> dict[str, float]:
    guesses = Composition(dict(amounts)).oxi_state_guesses()
    return dict(guesses[0]) if guesses else {}


if __name__ == "__main__":
    main()

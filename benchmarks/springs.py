"""Fit the model of springs again (datagen/springs.npz), and judge it on formulas that each fold left out.

    make springs

The bonds of all pairs of parents of one structure are gathered into runs/springs.jsonl first (half an hour on one core;
resumable). R² is that of ln s beside leaving every bond as it is, weighted by what a bond holds of the site.
"""

import argparse
import json
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path

import numpy as np
from pymatgen.core import Composition
from sklearn.ensemble import HistGradientBoostingRegressor
from writing import write_result

from datagen.endmembers import Endmember, find_endmembers
from datagen.parents import Parent, load_parents, read_parents
from datagen.springs import N_FOLDS, Bond, Springs, bond_features, bond_scales, fold_of
from defectnet.errors import SimulationError

TARGET = Path(__file__).parents[1] / "datagen" / "springs.npz"
# A pair that differs more than this in size has no bond in common.
MOST_STRAIN = 0.10
MOST_ATOMS = 20
PARENTS_KEPT = 400
FIT = {"max_iter": 150, "learning_rate": 0.08, "max_leaf_nodes": 16, "min_samples_leaf": 8, "l2_regularization": 1.0}


class Loader:
    """Parents by name, the last ones kept."""

    def __init__(self, source: str, names: list[str]) -> None:
        self._read_of = dict(load_parents(source, names))  # the file is read once, a parent when it is asked for
        self._kept: OrderedDict[str, Parent | None] = OrderedDict()

    def __call__(self, name: str) -> Parent | None:
        """The parent; None where it is unreadable, unstable or large."""
        if name not in self._kept:
            self._kept[name] = self._read(name)
            if len(self._kept) > PARENTS_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(name)
        return self._kept[name]

    def _read(self, name: str) -> Parent | None:
        try:
            parent = self._read_of[name]()
            return parent if len(parent.primitive) <= MOST_ATOMS and parent.lowest_thz() > -0.3 else None
        except SimulationError:
            return None


def gather(source: str, path: Path) -> None:
    """Append the bonds of every host that is not in `path` yet; one line a host."""
    ends = find_endmembers(source)
    told = read_parents(source, ["material_id", "spacegroup", "n_atoms_primitive", "formula"]).to_pylist()
    about = {row["material_id"]: (row["spacegroup"], row["n_atoms_primitive"], row["formula"]) for row in told}
    done = {json.loads(line)["host"] for line in path.read_text().splitlines()} if path.exists() else set()
    load = Loader(source, sorted(about))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for name in sorted(ends.keys() - done, key=about.__getitem__):  # families together: their parents are kept
            host = load(name)
            bonds = []
            for (replaces, dopant), other in sorted(ends[name].items()):
                end = load(other)
                if host is None or end is None:
                    continue
                try:
                    member = Endmember(host, end, replaces, dopant)
                except SimulationError:
                    continue
                if abs(member.strain) <= MOST_STRAIN:
                    for bond, log_scale, weight in bond_scales(host, member, replaces, dopant):
                        line = {"replaces": replaces, "dopant": dopant, "bond": asdict(bond)}
                        bonds.append(line | {"log_scale": log_scale, "weight": weight})
            file.write(json.dumps({"host": name, "formula": about[name][2], "bonds": bonds}) + "\n")
            file.flush()


def end_formula(formula: str, replaces: str, dopant: str) -> str:
    """The formula of the end member."""
    amounts = Composition(formula).items()
    return Composition({dopant if str(e) == replaces else str(e): n for e, n in amounts}).formula.replace(" ", "")


def as_arrays(model: HistGradientBoostingRegressor, fold: int) -> dict[str, np.ndarray]:
    """The trees of a fitted model as plain arrays, in the layout of `datagen.springs.Springs`."""
    trees = [one[0].nodes for one in model._predictors]
    nodes = max(len(tree) for tree in trees)
    arrays = {name: np.zeros((len(trees), nodes), kind) for name, kind in (("left", np.uint8), ("right", np.uint8))}
    arrays["threshold"] = np.zeros((len(trees), nodes))
    arrays["feature"] = np.full((len(trees), nodes), -1, dtype=np.int8)
    arrays["value"] = np.zeros((len(trees), nodes), dtype=np.float32)
    for row, tree in enumerate(trees):
        leaf, n = tree["is_leaf"].astype(bool), len(tree)
        arrays["feature"][row, :n] = np.where(leaf, -1, tree["feature_idx"])
        arrays["threshold"][row, :n] = tree["num_threshold"]
        arrays["left"][row, :n], arrays["right"][row, :n] = tree["left"], tree["right"]
        arrays["value"][row, :n] = np.where(leaf, tree["value"], 0.0)
    return {f"{name}_{fold}": values for name, values in arrays.items()}


def main() -> None:
    """Gather, fit, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parents", help="Parquet of phonopy calculations; the README says where to get it")
    parser.add_argument("--bonds", type=Path, default=Path("runs/springs.jsonl"))
    chosen = parser.parse_args()
    gather(chosen.parents, chosen.bonds)
    features, target, weight, host_fold, end_fold = [], [], [], [], []
    for line in chosen.bonds.read_text().splitlines():
        told = json.loads(line)
        for one in told["bonds"]:
            features.append(bond_features(Bond(**one["bond"]), one["replaces"], one["dopant"]))
            target.append(one["log_scale"])
            weight.append(one["weight"] + 1e-3)
            host_fold.append(fold_of(told["formula"]))
            end_fold.append(fold_of(end_formula(told["formula"], one["replaces"], one["dopant"])))
    x, y, w, hosts, ends = map(np.array, (features, target, weight, host_fold, end_fold))
    arrays: dict[str, np.ndarray] = {"base": np.zeros(N_FOLDS)}
    left = np.zeros((N_FOLDS, 2))
    for fold in range(N_FOLDS):
        seen, judged = (hosts != fold) & (ends != fold), hosts == fold
        model = HistGradientBoostingRegressor(random_state=0, **FIT).fit(x[seen], y[seen], sample_weight=w[seen])
        arrays |= as_arrays(model, fold)
        arrays["base"][fold] = float(model._baseline_prediction.ravel()[0])
        said = Springs(arrays).log_scales(x[judged], fold)
        left[fold] = (w[judged] * (y[judged] - said) ** 2).sum(), (w[judged] * y[judged] ** 2).sum()
    np.savez_compressed(TARGET, **arrays)
    r2 = 1.0 - left[:, 0] / left[:, 1]
    result = {
        "bonds": len(y),
        "folds": N_FOLDS,
        "r2": 1.0 - left[:, 0].sum() / left[:, 1].sum(),
        "r2_by_fold": r2.tolist(),
    }
    write_result("springs", result)


if __name__ == "__main__":
    main()

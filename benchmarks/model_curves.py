"""How the error on unseen hosts falls with the number of training hosts, and of spectra a host.

The network of configs/model.yaml (one member, so that it takes minutes) is trained on shares of the training hosts, and
on shares of the spectra of all of them; validation and test hosts stay the same.

    make bench-curves
"""

import json
import logging
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from model_search import one_member
from writing import RESULTS, write_result

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from defectnet.io.tables import read_spectra
from defectnet.model.artifact import ModelConfig, TrainedOn
from training.calibrate import calibrate
from training.dataset import SpectraArrays, dopant_mask
from training.evaluate import network_answerer, score_modes
from training.fit import Trainer, fit
from training.settings import TrainSettings

ROOT = Path(__file__).parents[1]
SHARES = (0.25, 0.5, 1.0)


def main() -> None:
    """Train, print, and write `results/model_curves.json` and `.png`."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    settings = one_member(TrainSettings.from_yaml(ROOT / "configs" / "model.yaml", workers=0))
    data = SpectraArrays.from_table(read_spectra(ROOT / "data"), settings.grid)
    steps = settings.epochs * len(data.of_split("train"))
    # The elements that all of the training rows know, so that every model is asked the same questions.
    known = dopant_mask(data.of_split("train"))
    full = _figures(data, known, settings)
    curves: dict[str, list[dict[str, Any]]] = {"hosts": [], "spectra": []}
    for name in curves:
        for share in SHARES[:-1]:
            part = _thinned(data, share, by_host=name == "hosts")
            # As many steps for all: a smaller table is passed over more often, and the best epoch is kept.
            epochs = round(steps / len(part.of_split("train")))
            longer = settings.model_copy(update={"epochs": epochs, "patience": epochs})
            curves[name].append(_figures(part, known, longer))
            logging.info("%s: %s", name, curves[name][-1])
        curves[name].append(full)
    write_result("model_curves", curves)
    _draw(curves)
    print(json.dumps(curves, indent=1))  # noqa: T201


def _thinned(data: SpectraArrays, share: float, *, by_host: bool) -> SpectraArrays:
    """The same table with a share of the training hosts, or of the training spectra, drawn once and for all."""
    rng = np.random.default_rng(0)
    train = data.split == "train"
    if by_host:
        hosts = np.unique(data.formula[train])
        kept = np.isin(data.formula, rng.permutation(hosts)[: max(1, round(share * len(hosts)))])
    else:
        kept = rng.random(len(data)) < share
    return data.where(~train | kept)


def _figures(data: SpectraArrays, known: np.ndarray, settings: TrainSettings) -> dict[str, Any]:
    trainer = Trainer(settings, data)
    fit(trainer, report=lambda trainer, metrics: None)
    trainer.network.load_state_dict(trainer.best)
    calibration = calibrate(trainer.network, trainer.train, trainer.validation, known, seed=settings.seed)
    trained_on = TrainedOn(dopants=trainer.train.dopants, host_elements=trainer.train.host_elements)
    config = ModelConfig(grid=settings.grid, network=settings.network, calibration=calibration, trained_on=trained_on)
    scores = score_modes(
        network_answerer(trainer.network), data.of_split("test"), known, config.calibration, suffixes=("",)
    )
    listed, free = (scores[mode]["headline"] for mode in ("candidate", "guess_free"))
    return {
        "train_hosts": len(set(trainer.train.formula)),
        "train_spectra": len(trainer.train),
        "candidate": {name: listed[name] for name in ("f1", "mae_pct", "r2")},  # type: ignore[index]
        "guess_free": {name: free[name] for name in ("f1", "mae_pct", "recall_at_10")},  # type: ignore[index]
    }


def _draw(curves: dict[str, list[dict[str, Any]]]) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
    for name, key in (("hosts", "train_hosts"), ("spectra", "train_spectra")):
        sizes = [point[key] / curves[name][-1][key] for point in curves[name]]
        axes[0].plot(sizes, [point["candidate"]["f1"] for point in curves[name]], "o-", label=f"share of the {name}")
        axes[1].plot(sizes, [point["candidate"]["mae_pct"] for point in curves[name]], "o-")
    axes[0].set(xlabel="share of the training table", ylabel="presence F1 among candidates")
    axes[1].set(xlabel="share of the training table", ylabel="MAE of concentrations (% absolute)")
    axes[0].legend(frameon=False)
    figure.savefig(RESULTS / "model_curves.png", dpi=120)


if __name__ == "__main__":
    main()

"""The small search behind configs/model.yaml: one change at a time, judged by the validation hosts alone.

Each setting is trained as one member of the released model is, and calibrated on half of the validation hosts; the
figures are those of the other half, both ways round. Test hosts are never looked at.

    make bench-search
"""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from writing import write_result

from defectnet.io.tables import read_spectra
from defectnet.metrics import Judged, score_answers
from defectnet.model.calibration import Calibration
from training.calibrate import calibrate_answers
from training.dataset import SpectraArrays, dopant_mask
from training.evaluate import judge_modes, network_answerer
from training.fit import Trainer, fit
from training.settings import TrainSettings

ROOT = Path(__file__).parents[1]
CHANGES: dict[str, dict[str, Any]] = {
    "as released": {},
    "another seed": {"seed": 1},
    "without mixtures": {"mix_share": 0.0},
    "hard lists alone": {"hard_share": 1.0},
    "half the width": {"network": {"width": 32, "stem_channels": 16}},
    "wider by half": {"network": {"width": 96, "stem_channels": 48}},
    "more dropout": {"network": {"dropout": 0.3}},
}


def one_member(settings: TrainSettings) -> TrainSettings:
    """One network that sees each row as often as each of several members would."""
    epochs = round(settings.epochs / settings.network.members)
    network = settings.network.model_copy(update={"members": 1})
    return settings.model_copy(update={"network": network, "epochs": epochs, "patience": epochs})


def main() -> None:
    """Train, print, and write `results/model_search.json`."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    released = one_member(TrainSettings.from_yaml(ROOT / "configs" / "model.yaml", workers=0))
    data = SpectraArrays.from_table(read_spectra(ROOT / "data"), released.grid)
    results = {}
    for name, changes in CHANGES.items():
        values = dict(changes)
        if "network" in values:
            values["network"] = released.network.model_copy(update=values["network"])
        results[name] = _figures(data, released.model_copy(update=values))
        logging.info("%s: %s", name, results[name])
        write_result("model_search", results)  # after each: a search that is stopped keeps what it has found
    print(json.dumps(results, indent=1))  # noqa: T201


def _figures(data: SpectraArrays, settings: TrainSettings) -> dict[str, float]:
    trainer = Trainer(settings, data)
    fit(trainer, report=lambda trainer, metrics: None)
    trainer.network.load_state_dict(trainer.best)
    answerer = network_answerer(trainer.network.eval())
    known, held = dopant_mask(trainer.train), trainer.validation
    hosts = np.unique(held.formula)
    first = np.isin(held.formula, hosts[::2])
    judged: dict[str, list[Judged]] = {"candidate": [], "guess_free": []}
    for half in (first, ~first):
        mode, _ = calibrate_answers(answerer, held.where(~half), known, seed=settings.seed)
        calibration = Calibration(with_reference=mode, without_reference=mode)
        for name, one in judge_modes(answerer, held.where(half), known, calibration).items():
            judged[name].append(one)
    figures = {}
    for name, parts in judged.items():
        headline: Any = score_answers(_joined(parts))["headline"]
        figures |= {f"{name}_{figure}": headline[figure] for figure in ("f1", "mae_pct", "recall_at_10")}
    return figures


def _joined(parts: list[Judged]) -> Judged:
    return Judged(**{name: np.concatenate([vars(part)[name] for part in parts]) for name in vars(parts[0])})


if __name__ == "__main__":
    main()

"""The model's card: what it was trained on, how good it is on hosts it never saw, and what it cannot do."""

from collections.abc import Mapping
from typing import Any

from defectnet.elements import VOCABULARY
from defectnet.host import MAX_CONCENTRATION, MAX_DEFECTS, MIN_CONCENTRATION
from defectnet.model.artifact import ModelConfig
from training.evaluate import markdown

__all__ = ["write_card"]

_TEMPLATE = """# DefectNet model

Reads a crystal's vibrational density of states and says which foreign elements sit on its sites, and how much of each.

## Trained on
- {n_spectra} simulated spectra of {n_hosts} hosts, kinds: {kinds}; {n_dopants} elements as dopants, up to
  {max_defects} at a time, {low:g} to {high:g} % of all atoms each.
- Data {dataset}, settings {config}, source {revision}.
- Host parents are DFT phonon calculations of the Kyoto phonon database (A. Togo, CC BY 4.0) where the data set says so.
- Network: {n_parameters:,} parameters; its best epoch was {best_epoch} of {epochs}.

## Figures
**On hosts that it never saw, presence F1 at 0.5 % and above is {f1_candidate:.2f} among listed candidates, and
{f1_free:.2f} without a list. What a chemist would guess from the host alone, without any spectrum (the *prior*),
reaches {f1_candidate_prior:.2f} and {f1_free_prior:.2f}; the same answer for every crystal {f1_candidate_constant:.2f}
and {f1_free_constant:.2f}.** More figures, other baselines, and how far the goals are: `make bench-model`.

{figures}
"Without prior": the model with the chemical prior switched off. An element called absent counts with concentration 0.
"Coverage" is the share of true concentrations inside the 90 % interval; ECE is the expected calibration error of the
probabilities.

## What it cannot do
- Its labels are simulated: what the simulator gets wrong about a dopant, the model has learned. It has not been checked
  on measured spectra.
- It knows substitution only: no vacancies, interstitials, or host elements on each other's sites.
- It reads densities of states, not Raman or infrared spectra.
- Without the pristine host's spectrum it is far weaker; compare the rows above.
- Elements that were never a dopant in training are weighed only on request, and with a warning:
  {unseen}.
- Dopants of near-equal mass and chemistry are easily mistaken for each other, most of all below 0.5 %.
- Much of what it says of *which* element is the chemical prior's: elements that a chemist would not expect need a list,
  or the prior switched off.
- Neutron-weighted spectra are read with the calibration of vibrational ones. In training, the pristine host's weights
  were those of its least doped spectrum.
"""


def write_card(
    config: ModelConfig, report: Mapping[str, Any], *, n_parameters: int, best_epoch: int, epochs: int
) -> str:
    """The text of `card.md` for a model with this `config` and evaluation `report`."""
    trained = config.trained_on
    unseen = [symbol for symbol in VOCABULARY if symbol not in trained.dopants]
    return _TEMPLATE.format(
        n_spectra=trained.n_spectra,
        n_hosts=trained.n_hosts,
        kinds=", ".join(trained.kinds),
        n_dopants=len(trained.dopants),
        max_defects=MAX_DEFECTS,
        low=100 * MIN_CONCENTRATION,
        high=100 * MAX_CONCENTRATION,
        dataset=trained.dataset_sha256[:12] or "unknown",
        config=trained.config_sha256[:12] or "unknown",
        revision=trained.git_revision[:12] or "unknown",
        n_parameters=n_parameters,
        best_epoch=best_epoch,
        epochs=epochs,
        f1_candidate=_f1(report, "model", "candidate"),
        f1_candidate_prior=_f1(report, "prior", "candidate"),
        f1_free_prior=_f1(report, "prior", "guess_free"),
        f1_candidate_constant=_f1(report, "constant", "candidate"),
        f1_free=_f1(report, "model", "guess_free"),
        f1_free_constant=_f1(report, "constant", "guess_free"),
        figures=markdown(report),
        unseen=", ".join(unseen) or "none",
    )


def _f1(report: Mapping[str, Any], answers: str, mode: str) -> float:
    return float(report[answers][mode]["headline"]["f1"])

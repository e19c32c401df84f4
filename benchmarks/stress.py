"""How the model bears spectra worse than those it was tested on, and whether it says so when they are absurd."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from defectnet.metrics import HEADLINE_PERCENT, score_range
from defectnet.model.artifact import ModelConfig
from defectnet.model.calibration import OOD_LIMIT, ood_score
from defectnet.model.features import FrequencyGrid
from defectnet.model.network import DefectNetwork
from training.augment import OFF, Augmenter, AugmentSettings
from training.calibrate import distances
from training.candidates import all_candidates
from training.dataset import SpectraArrays
from training.evaluate import judge_modes, network_answerer
from training.inference import run_network

__all__ = ["coverage_under_stress", "strangeness", "stressed"]

# One effect each, always, at the strong end of what instruments do.
STRESSES: Mapping[str, Mapping[str, object]] = {
    "as simulated": {},
    "10^6 counts": {"noise_probability": 1.0, "counts_range": (1e6, 1e6)},
    "10^5 counts": {"noise_probability": 1.0, "counts_range": (1e5, 1e5)},
    "resolution, sigma 2 % of the energy": {"resolution_probability": 1.0, "resolution_range": (0.02, 0.0201)},
    "energy scale, sigma 1 %": {"energy_scale_probability": 1.0, "energy_scale_sigma": 0.01},
    "flat background of 2 %": {"background_probability": 1.0, "background_range": (0.02, 0.0201)},
    "reference with an axis of its own, sigma 1 %": {"mismatch_probability": 1.0, "mismatch_scale_sigma": 0.01},
    "lowest tenth of the band missing": {"low_cut_probability": 1.0, "low_cut_range": (0.1, 0.1001)},
}


def stressed(data: SpectraArrays, grid: FrequencyGrid, changes: Mapping[str, object], seed: int = 0) -> SpectraArrays:
    """`data` with one effect of `AugmentSettings` on every row."""
    augment = Augmenter(AugmentSettings(**(OFF | dict(changes))), grid)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    sample, reference = augment(torch.from_numpy(data.sample), torch.from_numpy(data.reference), generator)
    return replace(data, sample=sample.numpy(), reference=reference.numpy())


def coverage_under_stress(
    network: DefectNetwork, config: ModelConfig, rows: SpectraArrays, known: NDArray[np.bool_]
) -> dict[str, float]:
    """Coverage of the 90 % intervals of dopants of at least 0.5 %, with candidate lists, for each kind of stress."""
    coverage = {}
    for name, changes in STRESSES.items():
        data = stressed(rows, config.grid, changes) if changes else rows
        judged = judge_modes(network_answerer(network), data, known, config.calibration)["candidate"]
        coverage[name] = float(score_range(judged, HEADLINE_PERCENT, 101.0)["coverage_90"] or 0.0)
    return coverage


def strangeness(network: DefectNetwork, config: ModelConfig, rows: SpectraArrays) -> dict[str, dict[str, float]]:
    """Out-of-distribution scores of sound spectra and of absurd ones: median, and the share that is warned about."""
    rows = rows.where(rows.has_reference)
    other = _other_hosts(rows)
    noisy = {"noise_probability": 1.0, "counts_range": (3e3, 3e3)}
    cases = {
        "unseen hosts": rows,
        "unseen hosts, no reference": rows.without_reference(),
        "3000 counts": stressed(rows, config.grid, noisy),
        "axis of the sample 10 % off": replace(rows, sample=_stretched(rows.sample, config.grid, 1.1)),
        "axis in a wrong unit (meV read as THz)": replace(
            rows,
            sample=_stretched(rows.sample, config.grid, 4.1357),
            reference=_stretched(rows.reference, config.grid, 4.1357),
        ),
        "another host's sample": replace(rows, sample=rows.sample[other]),
        "another host's formula": replace(
            rows, host=rows.host[other], expected=rows.expected[other], site=rows.site[other]
        ),
        "Raman-like": replace(rows, sample=raman_like(rows.sample, config.grid)),
        "Raman-like, no reference": replace(rows, sample=raman_like(rows.sample, config.grid)).without_reference(),
    }
    found = {}
    for name, data in cases.items():
        answers = run_network(network, data, all_candidates(data.host, np.ones(data.truth.shape[1], dtype=bool)))
        mode = config.calibration.with_reference if data.has_reference[0] else config.calibration.without_reference
        scores = ood_score(distances(network, answers, data.has_reference), mode)
        found[name] = {
            "median": round(float(np.median(scores)), 3),
            "warned": round(float((scores > OOD_LIMIT).mean()), 3),
        }
    return found


def raman_like(
    shares: NDArray[np.float32], grid: FrequencyGrid, *, n_lines: int = 4, seed: int = 0
) -> NDArray[np.float32]:
    """What selection rules leave of each density: a few lines of its upper part, 1 % wide, no acoustic modes."""
    rng = np.random.default_rng(seed)
    centres = grid.centres_thz
    lines = np.zeros_like(shares)
    for row, density in enumerate(shares):
        upper = density * (np.cumsum(density) > 0.4)
        places = rng.choice(len(density), size=n_lines, p=upper / upper.sum())
        heights = rng.exponential(size=n_lines)
        for place, height in zip(places, heights, strict=True):
            width = 0.01 * centres[place]
            lines[row] += height * np.exp(-0.5 * ((centres - centres[place]) / width) ** 2) * np.diff(grid.edges_thz)
    return (lines / lines.sum(axis=1, keepdims=True)).astype(np.float32)


def _stretched(shares: NDArray[np.float32], grid: FrequencyGrid, factor: float) -> NDArray[np.float32]:
    """Shares of the same modes with every frequency multiplied by `factor`."""
    total = np.pad(np.cumsum(shares, axis=1), ((0, 0), (1, 0)))
    rows = [np.diff(np.interp(grid.edges_thz / factor, grid.edges_thz, row)) for row in total]
    stretched = np.array(rows, dtype=np.float32)
    return stretched / np.maximum(stretched.sum(axis=1, keepdims=True), 1e-9)


def _other_hosts(rows: SpectraArrays) -> NDArray[np.intp]:
    """For each row the place of one of another host, fixed."""
    names = np.unique(rows.formula)
    first = {name: int(np.flatnonzero(rows.formula == name)[0]) for name in names}
    following = dict(zip(names, np.roll(names, 1), strict=True))
    return np.array([first[following[name]] for name in rows.formula])

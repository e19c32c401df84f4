"""Batches for training the comparison: mixtures, pristine crystals, lists of candidates, and wrong responses."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from defectnet.model.comparison.batches import flags_of, most_promising, stacked
from defectnet.model.comparison.calibration import MOST_TOGETHER
from defectnet.model.comparison.comparer import SOURCES, ComparerInputs
from defectnet.model.comparison.hosts import Entry, source_class
from training.comparison.differences import SourceErrors, host_parts
from training.comparison.lists import ListKind, candidate_entries
from training.comparison.mismatch import Mismatch
from training.comparison.rows import ComparisonRows, Floats, Substitutions

__all__ = ["Batch", "BatchMaker", "Question", "labels_of"]

# How many dopants a mixture of two rows may have.
_MOST_DOPANTS = 6
# Of a row that stands alone, how often it is diluted, and to what share at least.
_DILUTED, _LEAST_DILUTION = 0.25, 0.15
# Samples that are made of responses: dopants, their amounts, and how far end members are from another cell of theirs
# (log of the size).
_MOST_MADE_UP, _MADE_UP_AMOUNTS = 4, (0.004, 0.2)
_OWN_SIZE = 0.05
_ABOUT_SOURCE = 3  # where the source stands in what the network reads of a candidate


@dataclass(frozen=True)
class Question:
    """One spectrum and its candidates.

    Attributes:
        sample, reference: shape (N_BINS,).
        neutron: whether both are neutron-weighted.
        truth: the dopants that are in it.
        entries: the candidates.
    """

    sample: Floats
    reference: Floats
    neutron: bool
    truth: Substitutions
    entries: list[Entry]


@dataclass(frozen=True, eq=False)
class Batch:
    """What the network reads, and the truth.

    Attributes:
        inputs: of the network.
        present: shape (B, K): 1 present, 0 absent, −1 neither (a true dopant on another site).
        concentration: shape (B, K), fraction of all atoms.
    """

    inputs: ComparerInputs
    present: Tensor
    concentration: Tensor


class BatchMaker:
    """Questions of rows, and batches of questions, as they are trained on."""

    def __init__(
        self, rows: ComparisonRows, mismatch: Mismatch, *, mixtures: float, pristine: float, made_up: float = 0.0
    ) -> None:
        """Shares of the rows that are mixed with another, that hold nothing, and that are made of responses."""
        self.rows, self.mismatch = rows, mismatch
        self._mixtures, self._pristine, self._made_up = mixtures, pristine, made_up
        self._errors = SourceErrors(rows)

    def question(
        self, row: int, kind: ListKind, rng: np.random.Generator, *, neutron: bool, source: str, n_distractors: int
    ) -> Question:
        """A row as it is trained on: mixed, diluted or pristine, with a list of candidates."""
        rows = self.rows
        sample, reference, neutron = rows.spectra(row, neutron)
        host = rows.hosts[rows.host[row]]
        truth = dict(rows.truth[row])
        if rng.random() < self._mixtures:
            sample, truth = self._mixed(row, int(rng.choice(host.rows)), neutron, rng)
        elif truth and rng.random() < _DILUTED:
            share = rng.uniform(_LEAST_DILUTION, 1.0)
            sample, truth = reference + share * (sample - reference), {k: c * share for k, c in truth.items()}
        entries = candidate_entries(
            host.of(neutron), {e for e, _ in truth}, kind, rng, source=source, n_distractors=n_distractors
        )
        if entries and rng.random() < self._made_up:
            sample, truth = self._made_of(entries, reference, rng)
        if rng.random() < self._pristine:
            sample, truth = reference.copy(), {}
        return Question(sample, reference, neutron, truth, entries)

    def _mixed(self, row: int, other: int, neutron: bool, rng: np.random.Generator) -> tuple[Floats, Substitutions]:
        """Two rows of one host, each scaled: changes of dilute dopants add up."""
        rows = self.rows
        sample, reference, _ = rows.spectra(row, neutron)
        second, beside, same = rows.spectra(other, neutron)
        one, two = rng.uniform(0.3, 1.0), rng.uniform(0.1, 1.0)
        first = rows.truth[row]
        together = {
            key: one * first.get(key, 0.0) + two * rows.truth[other].get(key, 0.0)
            for key in sorted({*first, *rows.truth[other]})
        }
        if same != neutron or sum(together.values()) > MOST_TOGETHER or len(together) > _MOST_DOPANTS:
            return sample, dict(first)
        return reference + one * (sample - reference) + two * (second - beside), together

    def batch(
        self,
        questions: list[Question],
        rng: np.random.Generator,
        generator: torch.Generator,
        *,
        distorted: float,
        without_prior: float,
    ) -> Batch:
        """Stack questions, spoil spectra and responses, and sift the candidates.

        Args:
            distorted: share of the questions whose end members are made as wrong as a potential's.
            without_prior: share that is asked without the chemical prior.
        """
        prior = rng.random(len(questions)) >= without_prior
        flags = np.stack(
            [flags_of(computed=False, neutron=q.neutron, prior=bool(p)) for q, p in zip(questions, prior, strict=True)]
        )
        sample, reference = (np.stack([getattr(q, name) for q in questions]) for name in ("sample", "reference"))
        lists = [q.entries for q in questions]
        given = stacked(sample - reference, reference, lists, flags)
        for place, question in enumerate(questions):
            if rng.random() < distorted:
                self._distort(given, place, question, rng)
        one, two, curves, other = self.mismatch(
            torch.from_numpy(sample), torch.from_numpy(reference), given.responses.curves, generator
        )
        given.flags[:, 0] = other.float()
        given.responses.curves.copy_(curves)
        given = given._replace(change=one - two, pristine=two)
        present, concentration = (torch.from_numpy(x) for x in labels_of(questions, given.responses.mask.shape[1]))
        given, kept = most_promising(given)
        return Batch(given, present.gather(1, kept), concentration.gather(1, kept))

    def _distort(self, given: ComparerInputs, place: int, question: Question, rng: np.random.Generator) -> None:
        """Make the end members of one question as wrong as a potential's responses are, and call them that."""
        host = host_parts(question.reference)
        for k, entry in enumerate(question.entries):
            if source_class(entry.source) != SOURCES[0]:
                continue
            wrong = self._errors.drawn(SOURCES[0], SOURCES[1], rng)
            if wrong is None:
                return
            curves = wrong.added_to(entry.curves, host, _some_other(question.entries, rng))
            given.responses.curves[place, k] = torch.from_numpy(curves)
            given.about[place, k, _ABOUT_SOURCE : _ABOUT_SOURCE + 2] = torch.tensor([0.0, 1.0])

    def _made_of(
        self, entries: list[Entry], reference: Floats, rng: np.random.Generator
    ) -> tuple[Floats, Substitutions]:
        """A sample made of some candidates' responses, each as wrong as its source is.

        A host's rows hold the same handful of dopants, which a network comes to know by heart; here any may be there.
        """
        count = min(int(rng.integers(1, _MOST_MADE_UP + 1)), len(entries))
        low, high = np.log(_MADE_UP_AMOUNTS)
        amounts = np.exp(rng.uniform(low, high, count))
        amounts *= min(1.0, MOST_TOGETHER / float(amounts.sum()))
        sample, host = reference.astype(np.float64), host_parts(reference)
        truth: Substitutions = {}
        for place, amount in zip(
            rng.choice(len(entries), count, replace=False).tolist(), amounts.tolist(), strict=True
        ):
            entry = entries[place]
            if any(element == entry.element for element, _ in truth):
                continue
            curves, source = entry.curves, source_class(entry.source)
            wrong = None if source == SOURCES[0] else self._errors.drawn(source, SOURCES[0], rng)
            if wrong is not None:
                curves = wrong.added_to(curves, host, _some_other(entries, rng))
            curve = curves[min(2, int(np.searchsorted(entry.concentrations, amount)))]
            sample += amount * float(np.exp(rng.normal(0.0, _OWN_SIZE))) * curve
            truth[entry.element, entry.replaces] = amount
        return np.maximum(sample, 0.0).astype(np.float32), truth


def _some_other(entries: list[Entry], rng: np.random.Generator) -> Floats:
    return entries[int(rng.integers(len(entries)))].curves[0]


def labels_of(questions: list[Question], k: int) -> tuple[Floats, Floats]:
    """Presence (1, 0, or −1 for a true dopant's other site) and concentration of the candidates, each (B, k)."""
    present = np.zeros((len(questions), k), dtype=np.float32)
    concentration = np.zeros((len(questions), k), dtype=np.float32)
    for place, question in enumerate(questions):
        elements = {element for element, _ in question.truth}
        for column, entry in enumerate(question.entries):
            amount = question.truth.get((entry.element, entry.replaces), 0.0)
            concentration[place, column] = amount
            present[place, column] = 1.0 if amount > 0 else -1.0 if entry.element in elements else 0.0
    return present, concentration

"""Which training rows each kind of candidate list can be made of, and a batch drawn of them."""

import logging

import numpy as np
import torch

from defectnet.model.comparison.hosts import HostOnAxis
from training.comparison.batches import Batch, BatchMaker
from training.comparison.lists import LISTS, ListKind
from training.comparison.rows import ComparisonRows
from training.comparison.settings import CompareSettings

__all__ = ["Pools"]

logger = logging.getLogger(__name__)

_SOURCES = ("endmember", "potential")


class Pools:
    """Which rows each kind of list can be made of."""

    def __init__(self, rows: ComparisonRows, settings: CompareSettings) -> None:
        train = rows.of_split("train")
        if settings.most_hosts:
            names = sorted({rows.host[row] for row in train})
            kept = np.random.default_rng(settings.seed).permutation(names)[: settings.most_hosts]
            train = [row for row in train if rows.host[row] in set(kept.tolist())]
        self._rows, self._settings = rows, settings
        self._hard = {
            source: [row for row in train if len(self._host(row).chosen(self._host(row).elements, source)) >= 2]
            for source in _SOURCES
        }
        known = len(self._hard["potential"]) / max(len(self._hard["endmember"]), 1)
        self._potential_share = max(known, settings.potential_share) if known else 0.0
        self._springs = [row for row in train if self._host(row).chosen(self._host(row).elements, "springs")]
        logger.info(
            "training rows: %d, with springs %d, for hard lists %s",
            len(train),
            len(self._springs),
            {source: len(pool) for source, pool in self._hard.items()},
        )

    def _host(self, row: int) -> HostOnAxis:
        return self._rows.hosts[self._rows.host[row]].vibrational

    def draw(
        self,
        maker: BatchMaker,
        common: np.random.Generator,
        rng: np.random.Generator,
        generator: torch.Generator,
        size: int,
    ) -> Batch:
        """A batch of `size` spectra.

        Args:
            common: draws the kind of the lists, the same for all workers, so that none waits for another's longer ones.
            rng, generator: draw the rows, and what is done to them.
        """
        settings = self._settings
        shares = np.array([settings.list_shares.get(kind, 0.0) for kind in LISTS])
        kind: ListKind = str(common.choice(LISTS, p=shares / shares.sum()))  # type: ignore[assignment]
        source = _SOURCES[0]
        if kind == "hard" and common.random() < self._potential_share:
            source = "potential"
        pool = self._hard[source] if kind == "hard" else self._springs
        chosen = [pool[place] for place in rng.integers(0, len(pool), size)]
        questions = [
            maker.question(
                row,
                kind,
                rng,
                neutron=bool(rng.random() < settings.neutron_share),
                source=source,
                n_distractors=int(rng.integers(3, settings.most_distractors + 1)),
            )
            for row in chosen
        ]
        distorted = settings.distorted_share if kind in ("hard", "mixed", "all_mixed") else 0.0
        return maker.batch(questions, rng, generator, distorted=distorted, without_prior=settings.prior_dropout)

"""The distributed run: parents → spectra → Parquet shards, by Ray Data, resumable.

Every sample's id is known before anything is computed (a hash of parent, configuration and index), so a run first
asks the output folder which samples it already holds and does the rest. A shard appears whole or not at all.
"""

import json
import logging
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from datagen.batches import as_seen_everywhere, chosen_parents, finished_rows, loaders_of, run_batches
from datagen.endmembers import find_endmembers
from datagen.parents import Parent
from datagen.potentials import load_potential
from datagen.samples import rows_table, simulate_parent
from datagen.sampling import identity
from datagen.settings import SimulateSettings
from defectnet.errors import StorageError
from defectnet.io.datasets import shard_key
from defectnet.io.ray_session import ONE_THREAD
from defectnet.io.storage import Location
from defectnet.io.tables import SPECTRA_SCHEMA, read_spectra, write_spectra, write_table
from defectnet.pages.plots import plot_table_overview

__all__ = ["Report", "ShardWriter", "finished_samples", "simulate"]

_LOG = logging.getLogger(__name__)

# Of how many shards and spectra the overview is drawn.
_OVERVIEW_SHARDS = 8
_OVERVIEW_SPECTRA = 12


@dataclass
class Report:
    """What a run did; written beside the shards as `report.json`, with `overview.png`, some of the spectra."""

    output: str
    parents: int
    samples: int
    skipped: int
    failed: int = 0
    seconds: float = 0.0
    samples_per_core_second: float = 0.0
    spectra_with_imaginary_modes: float = 0.0
    methods: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)

    def count(self, row: Mapping[str, Any]) -> None:
        """Add a summary of `ShardWriter`; `spectra_with_imaginary_modes` is a number until the end."""
        self.methods[row["method"]] = self.methods.get(row["method"], 0) + row["count"]
        self.spectra_with_imaginary_modes += row["imaginary"]
        if row["cause"]:
            self.failed += row["count"]
            self.failures[row["cause"]] = self.failures.get(row["cause"], 0) + row["count"]

    def finish(self, seconds: float, workers: int) -> None:
        """Make shares and rates of the counts."""
        self.seconds = round(seconds, 1)
        self.samples_per_core_second = round(self.samples / seconds / workers, 4)
        spectra = max(1, self.samples - self.failed)
        self.spectra_with_imaginary_modes = round(self.spectra_with_imaginary_modes / spectra, 4)
        self.failures = dict(Counter(self.failures).most_common())


def simulate(settings: SimulateSettings) -> Report:
    """Simulate every missing sample of `settings` into `settings.output`.

    Where this process has no Ray, it joins the cluster that RAY_ADDRESS names, or starts a local one and ends it. A
    sample that fails is a row with its `error`.

    Raises:
        TableError: the parents or the shards already there cannot be read.
        StorageError: the output cannot be written, or the object store cannot be reached.
        PotentialError: the potential cannot be loaded.
    """
    started = time.monotonic()
    output, settings = as_seen_everywhere(settings)
    for spec in filter(None, (settings.potential, settings.second_potential)):
        load_potential(spec)  # a wrong name is one error here, not one for each sample
    done = finished_samples(output)
    tasks = _tasks(settings, done)
    wanted = sum(len(task["indices"]) for task in tasks)
    _LOG.info("%d samples of %d parents to simulate, %d already there", wanted, len(tasks), len(done))
    report = Report(str(output), parents=len(tasks), samples=wanted, skipped=len(done))
    if tasks:
        size, workers = settings.parents_per_shard, settings.workers
        for row in run_batches("simulation", ShardWriter, settings.model_dump(), tasks, size, workers):
            report.count(row)
    report.finish(time.monotonic() - started, settings.workers)
    output.child("report.json").write((json.dumps(asdict(report), indent=1) + "\n").encode())
    _draw_overview(output, settings.seed)
    return report


def _draw_overview(output: Location, seed: int) -> None:
    """A picture of some spectra, from shards drawn at random."""
    shards = output.files(".parquet")
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(len(shards))[:_OVERVIEW_SHARDS]
    rows = [row for index in drawn for row in read_spectra(shards[index].text).to_pylist() if row["error"] is None]
    if not rows:
        return
    chosen = [rows[index] for index in rng.permutation(len(rows))[:_OVERVIEW_SPECTRA]]
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "overview.png"
        plot_table_overview(pa.Table.from_pylist(chosen, schema=SPECTRA_SCHEMA), picture)
        output.child(picture.name).write(picture.read_bytes())


def finished_samples(output: Location) -> set[str]:
    """Ids of the samples in the shards of `output`.

    Raises:
        TableError: a shard cannot be read; it names the file, to be deleted.
        StorageError: the object store cannot be reached.
    """
    return {row["sample_id"] for row in finished_rows(output, ["sample_id"])}


def _tasks(settings: SimulateSettings, done: set[str]) -> list[dict[str, Any]]:
    tasks = []
    for name in chosen_parents(settings):
        indices = [i for i in range(settings.samples_per_parent) if identity(name, i, settings)[0] not in done]
        if indices:
            tasks.append({"parent_id": name, "indices": indices})
    return tasks


class ShardWriter:
    """An actor that keeps the potential and the settings, and writes one shard for each batch of parents."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        os.environ.update(ONE_THREAD)
        self._settings = SimulateSettings(**settings)
        self._potential = load_potential(self._settings.potential)
        self._second = load_potential(self._settings.second_potential) if self._settings.second_potential else None
        self._endmembers = find_endmembers(self._settings.parents) if self._settings.use_endmembers else {}

    def __call__(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        tasks = json.loads(batch["tasks"])
        rows: list[dict[str, Any]] = []
        summaries = []
        names = [task["parent_id"] for task in tasks]
        loaders = loaders_of(self._settings.parents, names, self._endmembers)

        def load_endmember(name: str) -> Parent:
            return loaders[name]()

        for task in tasks:
            name = task["parent_id"]
            made = simulate_parent(
                name,
                loaders[name],
                task["indices"],
                self._potential,
                self._settings,
                self._endmembers.get(name),
                load_endmember,
                self._second,
            )
            rows += made
            counts = Counter((row["origin"]["method"], _cause(row["error"])) for row in made)
            imaginary = sum((row["origin"].get("imaginary_weight") or 0) > 0 for row in made)
            for position, ((method, cause), count) in enumerate(counts.items()):
                # One row a parent carries its name, so that the driver can count parents.
                summaries.append(
                    {
                        "parent_id": "" if position else name,
                        "method": method,
                        "cause": cause,
                        "count": count,
                        "imaginary": 0 if position else imaginary,
                        "failure": "",
                    }
                )
        key, table = shard_key(row["sample_id"] for row in rows), rows_table(rows)
        write = write_spectra if self._settings.compact else write_table
        try:
            write(table, Location(self._settings.output).child(f"spectra-{key}.parquet"))
        except StorageError as error:  # as a row: of an exception Ray would make a page
            blank = {"parent_id": "", "method": "", "cause": "", "count": 0, "imaginary": 0}
            return [blank | {"failure": str(error)}]
        return summaries


def _cause(error: str | None) -> str:
    """The kind of a failure: its message without the parent's name and figures."""
    return error.partition(": ")[2].partition(" (")[0] if error else ""

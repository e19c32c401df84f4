"""The run that prepares hosts: parents → responses → Parquet files, one host here or thousands over Ray Data.

It is resumable: a host's row says by which settings it was made, so that a run first asks the output folder which hosts
it already holds, and does the rest.
"""

import hashlib
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from datagen.batches import as_seen_everywhere, chosen_parents, finished_rows, loaders_of, run_batches
from datagen.endmembers import find_endmembers
from datagen.parents import Parent
from datagen.potential_responses import potential_responses
from datagen.potentials import Potential, load_potential
from datagen.prepare import dilute_responses, endmember_responses, pairs_of, row_of
from datagen.responses import HostDynamics, Response
from datagen.settings import PrepareSettings
from defectnet.errors import DefectNetError, SimulationError, StorageError
from defectnet.io.datasets import shard_key
from defectnet.io.library_compaction import merge_rows
from defectnet.io.ray_session import ONE_THREAD
from defectnet.io.response_library import RESPONSES_SCHEMA
from defectnet.io.storage import Location
from defectnet.io.tables import write_table

__all__ = ["HostWriter", "PrepareReport", "Prepared", "prepare_host", "prepare_hosts", "prepare_own"]

_LOG = logging.getLogger(__name__)

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """What came of one host.

    Attributes:
        row: a row of `RESPONSES_SCHEMA`, with an `error` where there is nothing else.
        fragments: substitutions that the potential was asked about, with an answer.
        failures: why it gave none to others, or none at all.
        seconds, force_calls: of the fragments.
    """

    row: dict[str, Any]
    fragments: int = 0
    failures: tuple[str, ...] = ()
    seconds: float = 0.0
    force_calls: int = 0


@dataclass
class PrepareReport:
    """What a run did; written beside the files as `report.json`.

    Attributes:
        hosts: that were to be prepared.
        skipped: that were there already.
        failed: without responses; their rows say why.
        substitutions: new ones by source.
        fragments, seconds_per_fragment, calls_per_fragment: what the potential was asked.
        failures: causes, of hosts and of fragments, with how often.
    """

    output: str
    hosts: int
    skipped: int
    failed: int = 0
    seconds: float = 0.0
    substitutions: dict[str, int] = field(default_factory=dict)
    fragments: int = 0
    seconds_per_fragment: float = 0.0
    calls_per_fragment: float = 0.0
    failures: dict[str, int] = field(default_factory=dict)

    def count(self, row: Mapping[str, Any]) -> None:
        """Add a summary of one host; what is per fragment is a sum until the end."""
        self.failed += row["failed"]
        self.fragments += row["fragments"]
        self.seconds_per_fragment += row["seconds"]
        self.calls_per_fragment += row["force_calls"]
        self.substitutions = dict(Counter(self.substitutions) + Counter(json.loads(row["substitutions"])))
        self.failures = dict(Counter(self.failures) + Counter(json.loads(row["causes"])))

    def finish(self, seconds: float) -> None:
        """Make means of the sums."""
        self.seconds = round(seconds, 1)
        self.seconds_per_fragment = round(self.seconds_per_fragment / max(1, self.fragments), 2)
        self.calls_per_fragment = round(self.calls_per_fragment / max(1, self.fragments), 1)
        self.failures = dict(Counter(self.failures).most_common())


def prepare_host(
    parent: Parent,
    settings: PrepareSettings,
    potential: Potential | None = None,
    endmembers: Mapping[tuple[str, str], str] | None = None,
    load: Callable[[str], Parent] | None = None,
    tell: Tell = lambda text: None,
) -> Prepared:
    """The responses of one host, packed.

    Args:
        potential: that of the settings, loaded.
        endmembers: of this parent (`datagen.endmembers.find_endmembers`), which `load` loads by name.
        tell: is told of each step.

    Raises:
        SimulationError: the host is unstable, or has no density.
    """
    tell(f"{parent.parent_id} ({parent.host.formula}): the pristine crystal")
    dynamics = HostDynamics(parent)
    found: list[Response] = []
    if settings.use_endmembers:
        found += endmember_responses(dynamics, endmembers or {}, load, settings.dopants)
    pairs = pairs_of(parent.host, settings.dopants)
    known = [(one.replaces, one.element) for one in found]
    tell(f"{len(set(known))} substitutions by end members, {len({*pairs, *known})} by springs")
    asked = Prepared({})
    if potential is not None:
        wanted = [pair for pair in pairs if potential.knows(pair[1])]
        if not settings.dopants:
            repeated = [pair for pair in wanted if pair in known][: settings.potential_repeats]
            wanted = [*repeated, *(pair for pair in wanted if pair not in repeated)][: settings.potential_dopants]
        more, asked = _ask(dynamics, potential, wanted, settings, tell)
        found += more
    found += dilute_responses(dynamics, sorted({*pairs, *known}))
    row = merge_rows([row_of(dynamics, found) | {"settings": settings.digest()}])
    return Prepared(row, asked.fragments, asked.failures, asked.seconds, asked.force_calls)


def _ask(
    dynamics: HostDynamics, potential: Potential, pairs: list[tuple[str, str]], settings: PrepareSettings, tell: Tell
) -> tuple[list[Response], Prepared]:
    """A potential's responses; a host on which it fails has its others all the same."""
    found: list[Response] = []
    failures: list[str] = []
    fragments, seconds, calls = 0, 0.0, 0
    options = {"fragment_atoms": settings.fragment_atoms, "fragment_cache": settings.fragment_cache}
    try:
        for one in potential_responses(dynamics, potential, pairs, **options):  # type: ignore[arg-type]
            found += one.responses
            fragments += not one.error
            seconds, calls = seconds + one.seconds, calls + one.force_calls
            if one.error:
                failures.append(one.error)
            cost = f"{one.seconds:.0f} s, {one.force_calls} force calls"
            tell(f"{one.element} for {one.replaces}: {one.error or cost}")
    except SimulationError as error:
        failures.append(str(error))
        tell(str(error))
    return found, Prepared({}, fragments, tuple(failures), seconds, calls)


def prepare_own(
    parent: Parent, settings: PrepareSettings, content: bytes = b"", tell: Tell = lambda text: None
) -> PrepareReport:
    """Prepare one host of one's own (`datagen.own_host`), here, into `settings.output`.

    Args:
        content: what the host was read from: another content under the same name is another host.

    Raises:
        SimulationError: the host is unstable, or the potential cannot be loaded.
        StorageError: the output cannot be written.
    """
    started = time.monotonic()
    output = Location.of(settings.output, field="output")
    mark = hashlib.sha256(f"{settings.digest()}/".encode() + content).hexdigest()[:16]
    if (parent.parent_id, mark) in _done(output):
        return PrepareReport(str(output), hosts=0, skipped=1)
    potential = load_potential(settings.potential) if settings.potential else None
    made = prepare_host(parent, settings, potential, tell=tell)
    made = replace(made, row=made.row | {"settings": mark})
    _write(output, [made.row], mark)
    report = PrepareReport(str(output), hosts=1, skipped=0)
    report.count(_summary(parent.parent_id, made))
    report.finish(time.monotonic() - started)
    return report


def _done(output: Location) -> set[tuple[str, str]]:
    """Hosts that are there, and by which settings."""
    return {(row["host_id"], row["settings"]) for row in finished_rows(output, ["host_id", "settings"])}


def prepare_hosts(settings: PrepareSettings) -> PrepareReport:
    """Prepare every missing host of `settings` into `settings.output`.

    Where this process has no Ray, it joins the cluster that RAY_ADDRESS names, or starts a local one and ends it; a
    single host is prepared in this process. A host that fails is a row with its `error`.

    Raises:
        TableError: the parents or the files already there cannot be read.
        StorageError: the output cannot be written, or the object store cannot be reached.
        PotentialError: the potential cannot be loaded.
    """
    started = time.monotonic()
    output, settings = as_seen_everywhere(settings)
    if settings.potential:
        load_potential(settings.potential)  # a wrong name is one error here, not one for each host
    names = chosen_parents(settings)
    there = _done(output)
    tasks = [{"parent_id": name} for name in names if (name, settings.digest()) not in there]
    report = PrepareReport(str(output), hosts=len(tasks), skipped=len(names) - len(tasks))
    _LOG.info("%d hosts to prepare, %d already there", report.hosts, report.skipped)
    for row in _run(tasks, settings):
        report.count(row)
    report.finish(time.monotonic() - started)
    output.child("report.json").write((json.dumps(asdict(report), indent=1) + "\n").encode())
    return report


def _run(tasks: list[dict[str, str]], settings: PrepareSettings) -> Iterator[dict[str, Any]]:
    if len(tasks) == 1:
        writer = HostWriter(settings.model_dump(), tell=_LOG.info)
        for row in writer({"tasks": json.dumps(tasks)}):
            if row["failure"]:
                raise StorageError(row["failure"])
            yield row
    elif tasks:
        dump = settings.model_dump()
        yield from run_batches("preparation", HostWriter, dump, tasks, settings.hosts_per_shard, settings.workers)


class HostWriter:
    """An actor that keeps the potential and the settings, and writes one file for each batch of hosts."""

    def __init__(self, settings: Mapping[str, Any], tell: Tell = lambda text: None) -> None:
        os.environ.update(ONE_THREAD)
        self._settings = PrepareSettings(**settings)
        self._potential = load_potential(self._settings.potential) if self._settings.potential else None
        self._endmembers = find_endmembers(self._settings.parents) if self._settings.use_endmembers else {}
        self._tell = tell

    def __call__(self, batch: dict[str, Any]) -> list[dict[str, Any]]:
        names = [task["parent_id"] for task in json.loads(batch["tasks"])]
        loaders = loaders_of(self._settings.parents, names, self._endmembers)
        made = {name: self._prepared(name, loaders) for name in names}
        try:
            output = Location(self._settings.output)
            _write(output, [one.row for one in made.values()], self._settings.digest())
        except StorageError as error:  # as a row: of an exception Ray would make a page
            return [_summary("", Prepared({"error": None}), failure=str(error))]
        return [_summary(name, one) for name, one in made.items()]

    def _prepared(self, name: str, loaders: Mapping[str, Callable[[], Parent]]) -> Prepared:
        formula = ""
        try:
            parent = loaders[name]()
            formula = parent.host.formula
            ends = self._endmembers.get(name)
            return prepare_host(
                parent, self._settings, self._potential, ends, lambda end: loaders[end](), tell=self._tell
            )
        except DefectNetError as error:
            message = str(error)
        except (ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
            # A numerical failure in one host must not cost the others of its batch.
            message = f"{name}: numerical failure ({type(error).__name__}: {error})"
        self._tell(message)
        blank = {"host_id": name, "formula": formula, "settings": self._settings.digest(), "error": message}
        return Prepared(blank)


def _write(output: Location, rows: Sequence[Mapping[str, Any]], mark: str) -> None:
    key = shard_key([*(row["host_id"] for row in rows), mark])
    write_table(pa.Table.from_pylist(list(rows), schema=RESPONSES_SCHEMA), output.child(f"responses-{key}.parquet"))


def _summary(name: str, made: Prepared, failure: str = "") -> dict[str, Any]:
    """A host as a row that Ray can carry."""
    row = made.row
    pairs = {(one["source"], one["replaces"], one["element"]) for one in row.get("substitutions") or ()}
    counts = Counter(source for source, _, _ in pairs)
    if row.get("springs") is not None:
        counts["springs"] += len(row["springs"]["elements"])
    causes = Counter(_cause(text) for text in (row["error"], *made.failures) if text)
    return {
        "parent_id": name,
        "failure": failure,
        "failed": int(row["error"] is not None),
        "fragments": made.fragments,
        "seconds": made.seconds,
        "force_calls": made.force_calls,
        "substitutions": json.dumps(counts),
        "causes": json.dumps(causes),
    }


def _cause(error: str) -> str:
    """The kind of a failure: its message without the host's name and figures."""
    return (error.partition(": ")[2] or error).partition(" (")[0]

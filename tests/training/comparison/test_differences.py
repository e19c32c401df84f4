"""How sources differ, measured on training hosts and done to other responses."""

import numpy as np
import pyarrow as pa
import pytest
from support.responses import made_up_hosts, made_up_library, made_up_rows

from defectnet.io.response_library import RESPONSES_SCHEMA, ResponseLibrary, packed
from defectnet.model.comparison.axis import CENTRES, WIDTHS
from training.comparison import rows as rows_module
from training.comparison.differences import Differences, SourceErrors, host_parts
from training.comparison.rows import ComparisonRows

SIZE = 1.3


def split_rows(*splits: str) -> ComparisonRows:
    """Rows of three hosts whose potential tells `SIZE` times what end members do, in these splits."""
    hosts, known = made_up_hosts(), made_up_library()
    for host in hosts:
        curves = {(one.element, one.source): one.change for one in known.host(host["host_id"]).responses}
        told = [one for one in host["substitutions"] if one["source"] == "endmember"]
        for one in told:
            change = packed(SIZE * curves[one["element"], "endmember"])
            host["substitutions"].append(
                one | {"source": "potential:nequix", "change": change, "change_neutron": change}
            )
    library = ResponseLibrary([pa.Table.from_pylist(hosts, schema=RESPONSES_SCHEMA)])
    rows = ComparisonRows.from_table(made_up_rows(), library)
    of = {
        name: rows_module.RowHost(host.vibrational, host.neutron, host.ratio, split, host.rows)
        for (name, host), split in zip(rows.hosts.items(), splits, strict=True)
    }
    return ComparisonRows(**{**vars(rows), "hosts": of})


def test_what_was_measured_is_added_again() -> None:
    rows = split_rows("train", "train", "train")
    differences = Differences.measured(rows, "endmember", "potential")
    assert len(differences) == 9
    rng = np.random.default_rng(0)
    host = next(iter(rows.hosts.values())).vibrational
    entry = host.chosen(host.elements, "endmember")[0]
    wrong = differences.drawn(rng).added_to(entry.curves, host_parts(host.density), entry.curves[0])
    # The ridge keeps a little of the difference back.
    assert np.linalg.norm(wrong - SIZE * entry.curves) < 0.1 * np.linalg.norm(entry.curves)
    assert np.linalg.norm(wrong - entry.curves) > 0.2 * np.linalg.norm(entry.curves)


def test_hosts_that_are_not_trained_on_tell_nothing() -> None:
    rows = split_rows("validation", "test", "train")
    assert len(Differences.measured(rows, "endmember", "potential")) == 3
    nothing = split_rows("validation", "test", "validation")
    errors = SourceErrors(nothing)
    assert errors.drawn("endmember", "potential", np.random.default_rng(0)) is None


def test_parts_are_of_size_one_and_move_a_band_without_adding_modes() -> None:
    band = np.exp(-0.5 * ((CENTRES - 0.5) / 0.05) ** 2)
    parts = host_parts(band) / np.sqrt(WIDTHS)
    assert parts.shape[0] == 7
    assert np.square(parts) @ WIDTHS == pytest.approx(np.ones(7))
    assert parts[0] @ WIDTHS == pytest.approx(0.0, abs=1e-3)

"""Fragments on disk: the same arrays back, another key for anything that matters, damage made good."""

from pathlib import Path

import numpy as np
import pytest

from datagen import fragment_cache
from datagen.engine import Workbench
from datagen.fragment_cache import FragmentCache
from datagen.potentials import Potential


def test_a_kept_fragment_is_read_and_not_computed(
    silicon_bench: Workbench, potential: Potential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, cache = silicon_bench.view.host(), FragmentCache(tmp_path / "kept")
    first = cache.fragment(host, potential, 0, "Ge")

    def refuse(*_: object) -> None:
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(fragment_cache, "compute_fragment", refuse)
        again = cache.fragment(host, potential, 0, "Ge")
        with pytest.raises(AssertionError, match="computed again"):
            cache.fragment(host, potential, 0, "Sn")
    assert np.array_equal(first.change, again.change)
    assert first.strain_per_fraction == again.strain_per_fraction

    (kept,) = (tmp_path / "kept").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])  # torn
    assert np.array_equal(cache.fragment(host, potential, 0, "Ge").change, first.change)


def test_another_potential_has_another_key(silicon_bench: Workbench, potential: Potential, tmp_path: Path) -> None:
    class Other:
        name, fingerprint = potential.name, "other weights"

    host = silicon_bench.view.host()
    keys = {fragment_cache._key(host, one, 0, "Ge") for one in (potential, Other())}  # type: ignore[arg-type]
    assert len(keys) == 2

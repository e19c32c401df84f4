"""Makes what lies beside the benchmark scripts importable, as it is to the scripts, and the toy data of training."""

import sys
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[2]
sys.path += [str(_REPOSITORY / "benchmarks"), str(_REPOSITORY / "tests" / "training")]

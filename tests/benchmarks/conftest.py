"""Makes what lies beside the benchmark scripts importable, as it is to the scripts."""

import sys
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.append(str(_REPOSITORY / "benchmarks"))

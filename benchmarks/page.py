"""The page in a headless browser: every flow of its tests, and what its windows did that they should not.

    make bench-page

writes `benchmarks/results/page.json`. Without chromium nothing is measured, and nothing is written.
"""

import json
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results" / "page.json"
FLOWS = tuple(f"tests/serving/page/test_{name}.py" for name in ("browser", "own_crystal", "screenshots"))


class Counted:
    """Counts the flows of a run of pytest and takes what its windows noted."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}
        self.config: pytest.Config | None = None

    def pytest_configure(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # A flow fails where its body or what is checked at its end fails.
        if report.when == "call" or report.outcome != "passed":
            before = self.outcomes.get(report.nodeid)
            self.outcomes[report.nodeid] = "failed" if "failed" in (before, report.outcome) else report.outcome


def main() -> int:
    """Run the flows and write the figures; the exit code says whether every one passed."""
    counted = Counted()
    pytest.main(["-q", "--rootdir", str(REPOSITORY), *(str(REPOSITORY / name) for name in FLOWS)], plugins=[counted])
    ran = [outcome for outcome in counted.outcomes.values() if outcome != "skipped"]
    if not ran or counted.config is None:
        print("no flow was run; see why above", file=sys.stderr)  # noqa: T201
        return 1
    from support.browser import SEEN

    seen = counted.config.stash[SEEN]
    figures = {
        "flows": len(ran),
        "failed": ran.count("failed"),
        "console_errors": len(seen.console_errors),
        "foreign_requests": len(seen.foreign_requests),
        "serious_accessibility_findings": len(seen.accessibility),
        "first_answer_s": seen.first_answer_s,
    }
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))  # noqa: T201
    return int(figures["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())

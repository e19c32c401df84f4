"""The process of one batch, a Ray job: `python -m serving.batch.run_job FOLDER`, started by `serving.batch.book`."""

import json
import os
import sys
from pathlib import Path

from defectnet.errors import DefectNetError

__all__ = ["run"]


def run(folder: Path) -> int:
    """Score what `batch.json` in `folder` asks for; returns the exit code."""
    from serving.batch.book import FAILURE, PREDICTIONS, PROGRESS, REQUEST, write_json
    from serving.batch.score import score
    from serving.settings import ScoreSettings

    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    settings = ScoreSettings(
        model=request["model"],
        tracking_uri=request["tracking_uri"],
        shard_rows=request["shard_rows"],
        workers=request["workers"],
        responses=request["responses"],
        given_hosts=request["given_hosts"],
    )
    try:
        score(
            request["input"],
            folder / PREDICTIONS,
            settings=settings,
            progress=lambda done, rows: write_json(folder / PROGRESS, {"done": done, "rows": rows}),
        )
    except DefectNetError as error:
        write_json(folder / FAILURE, {"error": _without_paths(str(error), request)})
        return 1
    return 0


def _without_paths(text: str, request: dict[str, str]) -> str:
    """The sentence without this machine's folders: it is shown to whoever asked."""
    return text.replace(request["input"], request["uri"]).replace(f"{Path(request['input']).parent}/", "")


if __name__ == "__main__":
    from serving.batch.jobs import CLUSTER_VARIABLE

    if address := os.environ.get(CLUSTER_VARIABLE):
        os.environ["RAY_ADDRESS"] = address
    sys.exit(run(Path(sys.argv[1])))

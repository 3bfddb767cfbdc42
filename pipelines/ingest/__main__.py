"""`python -m pipelines.ingest`: from a folder, a ZIP archive or a download to a checked, complete folder."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml import events
from ml.errors import MlError
from pipelines.ingest.download import PUBLIC_SET, download
from pipelines.ingest.progress import progress_for_terminal
from pipelines.ingest.report import without_surrogates
from pipelines.ingest.stage import READABLE_REPORT_NAME, ingest


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.ingest", description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("IRA_DATA_DIR"),
        help="folder of the sets, or a ZIP archive of one (default: IRA_DATA_DIR)",
    )
    parser.add_argument(
        "--download",
        nargs="?",
        const=PUBLIC_SET,
        metavar="OWNER/NAME",
        help=f"fetch the class set from Kaggle instead (default {PUBLIC_SET}); needs credentials",
    )
    parser.add_argument("--out", type=Path, default=Path("var/ingest"), help="replaced once everything is complete")
    parser.add_argument("--cache", type=Path, default=Path("var/cache/groups"), help="compared pairs of pictures")
    parser.add_argument(
        "--compare-groups", action="store_true", help="infer groups even where they are given, and compare both"
    )
    options = parser.parse_args(arguments)
    if options.data is None and options.download is None:
        parser.error("name a folder or archive with --data (or IRA_DATA_DIR), or ask for --download")
    try:
        with events.watched("ingestion", what="The ingestion", is_download=options.download is not None) as run_id:
            source = Path(options.data) if options.download is None else download(options.download, report=_say)
            ingested = ingest(
                source,
                out=options.out,
                cache=options.cache,
                compares_groups=options.compare_groups,
                progress=progress_for_terminal(),
            )
    except MlError as error:
        _say(str(error))
        return 1
    except OSError as error:
        _say(f"{options.out} cannot be written: {error}. Check space and rights.")
        return 1
    refused = [(name, one) for name, files in ingested.set_aside.items() for one in files]
    for name, one in refused:
        _say(f"set aside: {name}/{one.path}: {one.reason}")
    counts: dict[str, Any] = {
        "pictures": len(ingested.pictures),
        "nodules": len(ingested.nodules),
        "slices": len(ingested.slices),
        "set_aside": len(refused),
    }
    events.record("ingestion", message="A data set was ingested.", run_id=run_id, **counts)
    count = len(ingested.pictures) + len(ingested.nodules) + len(ingested.slices)
    sys.stdout.write(f"{count} pictures, {len(refused)} files set aside; see {options.out / READABLE_REPORT_NAME}\n")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(without_surrogates(line) + "\n")


if __name__ == "__main__":
    sys.exit(main())

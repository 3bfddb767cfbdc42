"""Fetches the public set with kagglehub, where credentials exist: several times, with growing pauses, then a reason."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ml.errors import MissingDependencyError
from pipelines.ingest.errors import DownloadError

PUBLIC_SET = "mohamedhanyyy/chest-ctscan-images"
# Answers that will be the same next time.
FINAL_STATUSES = frozenset({400, 401, 403, 404, 410, 451})

Fetch = Callable[[str], str]


@dataclass(frozen=True)
class Retries:
    """Pauses of `first_pause_s` * 2 ** n, at most `longest_pause_s`, each shortened by up to half at random."""

    attempts: int = 6
    first_pause_s: float = 2.0
    longest_pause_s: float = 60.0


DEFAULT_RETRIES = Retries()


def download(
    handle: str = PUBLIC_SET,
    *,
    fetch: Fetch | None = None,
    retries: Retries = DEFAULT_RETRIES,
    sleep: Callable[[float], None] = time.sleep,
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Return the folder into which the set `handle` (OWNER/NAME) was fetched.

    `fetch` is kagglehub's `dataset_download` unless given. Raises DownloadError without credentials, for an answer that
    will not change, and when every attempt has failed; MissingDependencyError without kagglehub.
    """
    if handle.count("/") != 1 or not all(handle.split("/")):
        raise DownloadError(f"“{handle}” names no Kaggle set. Write OWNER/NAME, for example {PUBLIC_SET}.")
    if fetch is None:
        check_credentials()
        fetch = _kagglehub()
    for attempt in range(1, retries.attempts + 1):
        try:
            return Path(fetch(handle))
        # What requests, urllib3 and the operating system raise derives from one of the two.
        except (OSError, ValueError) as error:
            status = status_of(error)
            if status in FINAL_STATUSES:
                raise DownloadError(_refusal(handle, status=status)) from error
            if attempt == retries.attempts:
                raise DownloadError(
                    f"The set {handle} could not be fetched in {attempt} attempts; the last one ended with: {error}. "
                    "Check the connection and try again, or download the ZIP archive by hand and name it with --data."
                ) from error
            pause_s = pause_before(attempt, retries=retries)
            report(f"Attempt {attempt} of {retries.attempts} failed ({type(error).__name__}); next in {pause_s:.0f} s.")
            sleep(pause_s)
    raise DownloadError("No attempt was allowed. Allow at least one.")


def pause_before(attempt: int, *, retries: Retries) -> float:
    """Return the seconds to wait after attempt 1, 2, …: exponential, with jitter so that many do not return at once."""
    longest = min(retries.longest_pause_s, retries.first_pause_s * 2 ** (attempt - 1))
    return longest * random.uniform(0.5, 1.0)  # nosec B311 # noqa: S311 - spreads load, protects nothing


def check_credentials() -> None:
    """Raise DownloadError unless Kaggle's user name and key, or a token, are at hand."""
    folder = Path(os.environ.get("KAGGLE_CONFIG_DIR") or Path.home() / ".kaggle")
    has_pair = bool(os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY"))
    has_token = bool(os.environ.get("KAGGLE_API_TOKEN"))
    if not (has_pair or has_token or (folder / "kaggle.json").is_file() or (folder / "access_token").is_file()):
        raise DownloadError(
            "There are no Kaggle credentials on this machine. Create an API token in your Kaggle account and save it "
            "as ~/.kaggle/kaggle.json, or set KAGGLE_USERNAME and KAGGLE_KEY; or download the ZIP archive by hand and "
            "name it with --data."
        )


def status_of(error: Exception) -> int | None:
    """Return the HTTP status behind an error of requests or kagglehub, None where there is none."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _refusal(handle: str, *, status: int | None) -> str:
    if status in (401, 403):
        return (
            f"Kaggle refused access to {handle}. Check the credentials, and accept the set's terms on its page once "
            "while logged in."
        )
    return f"Kaggle knows no set {handle} (answer {status}). Check the name: OWNER/NAME as in the page's address."


def _kagglehub() -> Fetch:
    """Return kagglehub's download, whose own errors become DownloadError (for good) or ConnectionError (try again)."""
    try:
        from kagglehub import dataset_download, exceptions
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "Downloading needs the package kagglehub. Install requirements/ml.txt, or download the ZIP archive by hand "
            "and name it with --data."
        ) from error

    def fetch(handle: str) -> str:
        try:
            return dataset_download(handle)
        except (exceptions.UnauthenticatedError, exceptions.CredentialError) as error:
            raise DownloadError(_refusal(handle, status=401)) from error
        except exceptions.NotFoundError as error:
            raise DownloadError(_refusal(handle, status=404)) from error
        except (exceptions.BackendError, exceptions.DataCorruptionError) as error:
            raise ConnectionError(str(error)) from error

    return fetch

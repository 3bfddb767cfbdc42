"""A client of the portal's API. It needs Python 3.11 and requests (`pip install requests`); copy it and change it.

    PORTAL=https://portal.example.org TOKEN=ira_… python portal_client.py slice.png

uploads a slice, waits for the answer, saves mask and overlay, and prints the classes. Refusals of the portal are raised
as ``PortalError`` with the sentence that a person can be shown.
"""

import os
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import requests

TIMEOUT_S = 60


class PortalError(Exception):
    """The portal has refused. ``status`` is HTTP's, ``problem`` the whole answer (RFC 9457)."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(problem.get("detail", f"The portal answered {status}."))
        self.status = status
        self.problem = problem


class Portal:
    """One portal, asked with one token."""

    def __init__(self, address: str, token: str) -> None:
        self.root = address.rstrip("/") + "/api/v1/"
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {token}"

    def ask(self, method: str, path: str, *, tries: int = 5, **options: Any) -> requests.Response:
        """Send one request; ``path`` stands below the API's root, or is an address that the API has told.

        Waits and asks again where the portal says so (429, 503). Raises ``PortalError`` for every other refusal.
        """
        address = path if path.startswith("http") else self.root + path
        for attempt in range(tries):
            answer = self.session.request(method, address, timeout=TIMEOUT_S, **options)
            if answer.status_code not in (429, 503) or attempt == tries - 1:
                break
            time.sleep(int(answer.headers.get("Retry-After", "2")))
        if answer.status_code >= 400:
            is_problem = answer.headers["Content-Type"] == "application/problem+json"
            raise PortalError(answer.status_code, answer.json() if is_problem else {})
        return answer

    def get(self, path: str, **params: Any) -> Any:
        """Read something."""
        return self.ask("GET", path, params=params).json()

    def post(self, path: str, body: Any = None) -> Any:
        """Do something; ``body`` is sent as JSON."""
        return self.ask("POST", path, **({} if body is None else {"json": body})).json()

    def rows(self, path: str, **params: Any) -> Iterator[Any]:
        """Yield the rows of a list, page by page."""
        page = self.get(path, **params)
        while True:
            yield from page["results"]
            if page["next"] is None:
                return
            page = self.get(page["next"])

    def upload(self, files: Sequence[Path], *, key: str = "", **fields: str) -> Any:
        """Upload the slices of one new study, and return the study.

        ``fields`` are ``study_date`` and either ``patient`` or ``record_number``, ``family_name``, ``given_name`` and
        ``birth_date``. Give the same ``key`` when you send an upload again that perhaps did not arrive.
        """
        slices = [("slices", (file.name, file.read_bytes())) for file in files]
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return self.ask("POST", "studies/", data=fields, files=slices, headers=headers).json()

    def wait(self, study: Any, *, within_s: float = 600) -> Any:
        """Return the study once nothing of it waits or is being analysed any more. Raises ``TimeoutError``."""
        give_up_at = time.monotonic() + within_s
        while not self.get(f"studies/{study['id']}/state/")["is_finished"]:
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"Study {study['id']} is not analysed after {within_s} seconds.")
            time.sleep(1)
        return self.get(study["url"])

    def save(self, address: str, *, to: Path, etag: str = "") -> str:
        """Save a picture or PDF and return its ETag; nothing is sent again where ``etag`` is still the right one."""
        answer = self.ask("GET", address, headers={"If-None-Match": etag} if etag else {})
        if answer.status_code != 304:
            to.write_bytes(answer.content)
        return answer.headers.get("ETag", "")

    def sign(self, report: Any) -> Any:
        """Sign a report. Show a doctor the text first: ``findings_text`` and ``impression`` of what this reads."""
        address = f"reports/{report['id']}/signature/"
        read = self.get(address)
        body = {"revision": read["revision"], "evidence": read["evidence"], "is_confirmed": True}
        return self.post(address, body)

    def classify(self, file: Path) -> Any:
        """Return what the model says about one slice, which is not stored."""
        return self.ask("POST", "classify/", files={"slice": (file.name, file.read_bytes())}).json()


def main() -> None:
    """Upload the slices named on the command line as one study of an invented patient."""
    portal = Portal(os.environ["PORTAL"], os.environ["TOKEN"])
    number = f"DEMO-{uuid.uuid4().hex[:8]}"
    person = {"record_number": number, "family_name": "Example", "given_name": "Ann", "birth_date": "1961-04-12"}
    study = portal.upload([Path(name) for name in sys.argv[1:]], study_date="2026-03-09", **person)
    if not study["is_ai_revealed"]:
        portal.post(f"studies/{study['id']}/first-impression/", {"diagnosis": "unsure", "suspicion": 3})
    for part in portal.wait(study)["slices"]:
        if (answer := part["answer"]) is None:
            print(f"slice {part['number']}: {part['analysis']['error']}")
            continue
        portal.save(answer["mask_url"], to=Path(f"mask-{part['number']}.png"))
        portal.save(answer["overlay_url"], to=Path(f"overlay-{part['number']}.png"))
        print(f"slice {part['number']}: {answer['probabilities']}")


if __name__ == "__main__":
    main()

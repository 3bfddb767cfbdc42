"""Tries a running portal out: ``python -m infrastructure.smoke https://portal.example.org``. Ends with 1 if it fails.

What it asks is what a first user would: does it answer, are database and model there, does the log-in page come with
its style sheet and its security headers, and, with a token of the scope ``classify`` in ``SMOKE_TOKEN``, does the model
say something sensible about a generated slice. Nothing is stored.
"""

import argparse
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SLICE: Final = Path(__file__).resolve().parent.parent / "fixtures" / "solid-nodule.png"
# The load balancer leads a request with this header to the machines of that colour, live or not (portal.yaml).
COLOUR_HEADER: Final = "X-Portal-Colour"
ANSWER_WITHIN_S: Final = 60
NEEDED_HEADERS: Final = ("content-security-policy", "x-content-type-options")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back; status 0 and the reason in ``text`` where nothing did."""

    status: int
    text: str
    headers: dict[str, str]


def smoke(address: str, *, colour: str = "", token: str = "") -> list[str]:
    """Return what is wrong with the portal at ``address``, one sentence each; nothing where it works."""
    address = address.rstrip("/")
    alive = _ask(f"{address}/healthz", colour=colour)
    if alive.status != 200:
        # Nothing else could tell more.
        return [f"The portal does not answer: /healthz gave {_shown(alive)}."]
    problems = []
    health = _ask(f"{address}/api/v1/health/", colour=colour)
    if health.status != 200:
        problems.append(f"The portal is not well: /api/v1/health/ gave {_shown(health)}.")
    problems += _page_problems(address, colour=colour)
    if token:
        problems += _model_problems(address, colour=colour, token=token)
    return problems


def patient_smoke(address: str, *, colour: str = "", token: str = "", within_s: float) -> list[str]:
    """Try until nothing is wrong or the time is over, because machines and load balancer need a moment."""
    give_up_at = time.monotonic() + within_s
    while (problems := smoke(address, colour=colour, token=token)) and time.monotonic() < give_up_at:
        time.sleep(min(2, within_s / 10))
    return problems


def _page_problems(address: str, *, colour: str) -> list[str]:
    page = _ask(f"{address}/accounts/login/", colour=colour)
    if page.status != 200 or 'name="login"' not in page.text:
        return [f"The log-in page does not come: {_shown(page)}."]
    problems = [f"The log-in page comes without {name}." for name in NEEDED_HEADERS if name not in page.headers]
    sheets = re.findall(r'<link[^>]*href="(/static/[^"]+\.css)"', page.text)
    if not sheets:
        problems.append("The log-in page names no style sheet.")
    for sheet in sheets:
        if (found := _ask(address + sheet, colour=colour)).status != 200:
            problems.append(f"A style sheet is missing: {sheet} gave {_shown(found)}.")
    return problems


def _model_problems(address: str, *, colour: str, token: str) -> list[str]:
    boundary = uuid.uuid4().hex
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="slice"; filename="{SLICE.name}"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    answer = _ask(
        f"{address}/api/v1/classify/",
        colour=colour,
        body=head.encode() + SLICE.read_bytes() + f"\r\n--{boundary}--\r\n".encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    if answer.status != 200:
        return [f"The model does not answer: /api/v1/classify/ gave {_shown(answer)}."]
    probabilities = json.loads(answer.text)["probabilities"].values()
    if not all(0 <= value <= 1 for value in probabilities) or abs(sum(probabilities) - 1) > 0.01:
        return [f"The model's probabilities make no sense: {sorted(probabilities)}."]
    return []


def _ask(address: str, *, colour: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
    if not address.startswith(("https://", "http://")):
        return Answer(status=0, text="an address has to begin with https://", headers={})
    sent = {"Accept": "*/*"} | ({COLOUR_HEADER: colour} if colour else {}) | (headers or {})
    request = urllib.request.Request(address, data=body, headers=sent)  # noqa: S310 - looked at above
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_WITHIN_S) as found:  # noqa: S310 - as above # nosec B310
            named = {name.lower(): value for name, value in found.headers.items()}
            return Answer(status=found.status, text=found.read().decode("utf-8", "replace"), headers=named)
    except urllib.error.HTTPError as error:
        return Answer(status=error.code, text=error.read().decode("utf-8", "replace"), headers={})
    except OSError as error:
        return Answer(status=0, text=str(getattr(error, "reason", error)), headers={})


def _shown(answer: Answer) -> str:
    start = " ".join(answer.text.split())[:200]
    return f"{answer.status} ({start})" if answer.status else f"no answer ({start})"


def main() -> int:
    """Try the portal that the command line names; print what is wrong."""
    parser = argparse.ArgumentParser(description="Try a running portal out.")
    parser.add_argument("address", help="such as https://portal.example.org")
    parser.add_argument(
        "--within", type=float, default=30, metavar="SECONDS", help="try again for so long (default 30)"
    )
    options = parser.parse_args()
    problems = patient_smoke(options.address, token=os.environ.get("SMOKE_TOKEN", ""), within_s=options.within)
    sys.stdout.write("".join(f"{problem}\n" for problem in problems) or f"{options.address} works.\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

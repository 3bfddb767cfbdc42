"""A program that asks the API with a token of somebody's, as a script of a hospital does."""

import json
from collections.abc import Sequence
from typing import Any

from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from accounts.models import ApiToken, Scope, User

ROOT = "/api/v1/"


class Program:
    """Sends JSON, or files, with one person's token; ``scopes`` are what the token is made for."""

    def __init__(self, user: User | None, *, scopes: Sequence[str] = tuple(Scope.values), days: int = 30) -> None:
        self.client = Client()
        self.token: ApiToken | None = None
        self.headers: dict[str, str] = {}
        if user is not None:
            self.token, text = ApiToken.issue(user, name="test", scopes=scopes, days=days)
            self.headers = {"Authorization": f"Bearer {text}"}

    def get(self, path: str, params: Any = None, **headers: str) -> Any:
        """Read something; ``path`` stands below the API's root, or is a full address."""
        return self.client.get(_path(path), params or {}, headers=self.headers | _named(headers))

    def post(self, path: str, body: Any = None, *, method: str = "post", **headers: str) -> Any:
        """Send a JSON body."""
        call = getattr(self.client, method)
        content = json.dumps(body) if body is not None else ""
        kind = "application/json" if body is not None else "application/octet-stream"
        return call(_path(path), content, content_type=kind, headers=self.headers | _named(headers))

    def patch(self, path: str, body: Any, **headers: str) -> Any:
        """Change something."""
        return self.post(path, body, method="patch", **headers)

    def send(self, path: str, fields: dict[str, Any], **headers: str) -> Any:
        """Send a form with files."""
        return self.client.post(_path(path), fields, headers=self.headers | _named(headers))


def png_file(content: bytes, name: str = "slice.png") -> SimpleUploadedFile:
    """Return a file as a program sends it."""
    return SimpleUploadedFile(name, content, content_type="image/png")


def is_problem(response: Any, status: int, *words: str) -> bool:
    """Whether an answer is a problem with this status, whose sentence has these words; tells what it was otherwise."""
    body = response.json() if response["Content-Type"] == "application/problem+json" else {}
    is_right = response.status_code == status == body.get("status") and all(w in body["detail"] for w in words)
    assert is_right, f"{response.status_code} {response['Content-Type']} {response.content[:400]!r}"
    assert set(body) >= {"type", "title", "status", "detail", "instance"}
    assert body["detail"].endswith(".")
    return True


def _path(path: str) -> str:
    return path if path.startswith(("/", "http")) else ROOT + path


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}

"""Finishing touches on the OpenAPI document: how every address refuses, and that bodies take known fields only."""

from typing import Any

from accounts.api.problems import CONTENT_TYPE

METHODS = ("get", "post", "put", "patch", "delete")
REFUSALS = {
    "400": "What was sent is not right: `errors` names each wrong field with a sentence.",
    "401": "No token, or one that is unknown, over or revoked.",
    "403": "You may see it, but not do this; or the token was not made for it.",
    "404": "There is nothing here that you may see.",
    "409": "The present state does not allow it, or somebody else was faster.",
    "413": "Too much at a time.",
    "415": "Another kind of body is needed.",
    "429": "Too many requests; `Retry-After` says how long to wait.",
}
# What only addresses with a body, or with something to be changed, answer.
OF_CHANGES = ("409", "413", "415")


def describe_refusals(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Name on every operation how it refuses, and the problem of any other status."""
    result["components"].setdefault("schemas", {})["Problem"] = PROBLEM
    for path in result["paths"].values():
        for method, operation in path.items():
            if method not in METHODS:
                continue
            answers = operation["responses"]
            for status, description in REFUSALS.items():
                if method == "get" and status in OF_CHANGES:
                    continue
                answers.setdefault(status, _refusal(description))
            answers.setdefault("default", _refusal("Any other refusal."))
            answers["429"]["headers"] = {
                "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}
            }
    return result


def close_bodies(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Say of JSON bodies that they take no other fields: a misspelt one is refused."""
    schemas = result["components"]["schemas"]
    for path in result["paths"].values():
        for method, operation in path.items():
            if method not in METHODS:
                continue
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            name = body.get("schema", {}).get("$ref", "").rpartition("/")[2]
            if name in schemas:
                schemas[name]["additionalProperties"] = False
    return result


def _refusal(description: str) -> dict[str, Any]:
    reference = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {CONTENT_TYPE: {"schema": reference, "example": EXAMPLE}}}


EXAMPLE = {
    "type": "about:blank",
    "title": "Not Found",
    "status": 404,
    "detail": "There is nothing here that you may see. Please check the address.",
    "instance": "/api/v1/studies/0b6b3cf2-8a39-4f4e-8f1f-0f6f2e9c1a11/",
}
PROBLEM = {
    "type": "object",
    "description": "Problem details, RFC 9457. Some kinds have further members.",
    "properties": {
        "type": {"type": "string", "description": "Kind of the problem: a URN, or about:blank."},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "A full sentence for people that says what to do next."},
        "instance": {"type": "string", "description": "The path that was asked."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string", "description": "Empty for the request as a whole."},
                    "detail": {"type": "string"},
                },
                "required": ["field", "detail"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "instance"],
}

"""What every answer must look like."""

from typing import Any

import httpx


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Assert that an answer is an error in the one shape, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    assert body["code"] == status
    assert body["message"]
    assert set(body) <= {"code", "message", "data", "doc_url"}
    for problem_of_field in body.get("data", {}).values():
        assert problem_of_field.keys() == {"code", "message"}
    return body

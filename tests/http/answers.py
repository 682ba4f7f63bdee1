"""What every answer must look like."""

from typing import Any

import httpx

# Makes each reading of executions fail in a way that nobody foresaw; there is one of each job.
UNFORESEEN = """
    CREATE FUNCTION fails() RETURNS text LANGUAGE plpgsql
        AS $$ BEGIN RAISE EXCEPTION 'canary' USING ERRCODE = 'datatype_mismatch'; END $$;
    ALTER TABLE _ayb_job_executions RENAME TO executions;
    CREATE VIEW _ayb_job_executions AS
        SELECT 1::bigint AS id, id AS job_id, type AS job_type, NULL::uuid AS schedule_id, NULL::uuid AS lease_id,
            1 AS attempt, NULL::text AS worker_id, 'failed'::text AS outcome, fails() AS error,
            NULL::bigint AS records_processed, created_at AS started_at, created_at AS ended_at
        FROM _ayb_jobs
"""


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

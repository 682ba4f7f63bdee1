"""No document takes more than a bounded number of steps, whatever it stands for with its fragments written out."""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import httpx
import pytest
from graphql import GraphQLError, get_introspection_query, validate
from hypothesis import given, settings
from hypothesis import strategies as st

from ayb_jobs.events import RequestFailed
from ayb_jobs.http.routes.graphql_bounds import bounded_document
from ayb_jobs.http.routes.graphql_schema import Executor
from ayb_jobs.storage.connections import Database
from ayb_jobs.storage.database import Connection
from tests.http.answers import problem
from tests.http.conftest import Server, serving

URL = "/admin/jobs"
# What refusing or validating a document may cost, in function calls; the dearest one here takes 65,000.
MOST_STEPS = 100_000


def doubling(levels: int, width: int = 2, root: str = "Query", leaf: str = "availableJobs { name }") -> str:
    fragments = [f"fragment F{n} on {root} {{ {f'...F{n + 1} ' * width} }}" for n in range(levels)]
    return " ".join([*fragments, f"fragment F{levels} on {root} {{ {leaf} }}"])


HOSTILE = {
    "fragments that double": "{ ...F0 } " + doubling(60),
    "fragments that double, few levels": "{ ...F0 } " + doubling(12),
    "fragments that double, below a field": "{ availableJobs { ...F0 } } " + doubling(60, 3, "JobInfo", "name"),
    "fragments that double and are not used": "{ availableJobs { name } } " + doubling(17),
    "a fragment within itself": "{ ...F } fragment F on Query { ...F ...F }",
    "fragments within each other": "{ ...F } fragment F on Query { ...G ...G } fragment G on Query { ...F ...F }",
    "a fragment within itself, below a field": "{ availableJobs { ...F } } fragment F on JobInfo { name ...F }",
    "inline fragments": "{ " + "... on Query { " * 40 + "availableJobs { name } " + "} " * 41,
    "inline fragments side by side": "{ " + "... { availableJobs { name } } " * 120 + "}",
    "two fragments of one name": "{ ...F } " + "fragment F on Query { availableJobs { name } } " * 2,
    "a field many times": "{ " + "jobLogs { id } " * 248 + "}",
    "a field many times below another": "{ jobLogs { " + "id " * 900 + "} }",
    "fields many times at two levels": "{ " + ("jobLogs { " + "id " * 9 + "} ") * 15 + "}",
    "10,000 aliases": "{ " + " ".join(f"a{n}: availableJobs {{ name }}" for n in range(10_000)) + "}",
    "some aliases too many": "{ jobLogs { " + " ".join(f"a{n}: id" for n in range(16)) + "} }",
    "a long string": '{ jobLogs(jobName: "' + "x" * 1_000_000 + '") { id } }',
    "a long block string": '{ jobLogs(jobName: """' + '\\"""' * 200_000 + '""") { id } }',
    "a long comment": "#" + "x" * 1_000_000 + "\n{ availableJobs { name } }",
    "many comments": "#\n" * 400_000 + "{ availableJobs { name } }",
    "much white space": " " * 1_000_000 + "{ availableJobs { name } }",
    "a long name": "{ " + "a" * 1_000_000 + " }",
    "deep selections": "{ a " * 5000 + "} " * 5000,
    "deep lists": "{ jobLogs(jobName: " + "[" * 5000 + "]" * 5000 + ") { id } }",
    "deep objects": "{ jobLogs(jobName: " + "{a: " * 3000 + "1" + "}" * 3000 + ") { id } }",
    "a deep type": "query Q($a: " + "[" * 5000 + "Int" + "]" * 5000 + ") { availableJobs { name } }",
    "a long number": "{ jobLogs(limit: " + "9" * 1_000_000 + ") { id } }",
    "many operations": " ".join(f"query Q{n} {{ availableJobs {{ name }} }}" for n in range(500)),
    "many fragments": "{ availableJobs { name } } "
    + " ".join(f"fragment F{n} on Query {{ availableJobs {{ name }} }}" for n in range(100)),
    "many directives": "{ availableJobs " + "@skip(if: false) " * 300 + "{ name } }",
    "many unknown directives": "{ availableJobs " + "@skop " * 400 + "{ name } }",
    "many arguments": "{ jobLogs(" + "limit: 1 " * 5000 + ") { id } }",
    "many statements": "{ " + " ".join(f"a{n}: jobLogs {{ id }}" for n in range(16)) + "}",
    "many triggers": "mutation { " + " ".join(f'a{n}: triggerJob(jobName: "x") {{ success }}' for n in range(16)) + "}",
    "nothing but brackets": "{" * 16_000,
    "closing brackets first": "}" * 900 + "{" * 40,
}  # fmt: skip


def steps_of(work: Callable[[], object]) -> int:
    """Count the functions called, of Python and of C; more than allowed are a failure at once, and no endless wait."""
    steps = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal steps
        steps += event in {"call", "c_call"}
        assert steps <= MOST_STEPS

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return steps


def checked(executor: Executor, document: str) -> bool:
    """Do what the executor does before the first statement; tell whether the document would be executed."""
    try:
        parsed = bounded_document(document)
    except GraphQLError:
        return False
    return not validate(executor._schema, parsed, executor._rules)


@pytest.fixture(scope="module")
def executor() -> Executor:
    return Executor(introspection=True)


@pytest.mark.parametrize("document", HOSTILE.values(), ids=HOSTILE)
def test_a_document_that_asks_for_too_much_is_refused_in_few_steps(executor: Executor, document: str) -> None:
    accepted: list[bool] = []
    steps_of(lambda: accepted.append(checked(executor, document)))
    assert accepted == [False]


# As much as is allowed of each kind; what is accepted has to be cheap as well.
GREATEST = {
    "statements": "{ " + " ".join(f"a{n}: jobLogs {{ id jobName }}" for n in range(15)) + "}",
    "one field": "{ availableJobs { " + "name " * 44 + "} }",
    "fields at two levels": "{ " + "availableJobs { name name name } " * 13 + "}",
    "fragments that double": "{ ...F0 } " + doubling(3),
    "fragments side by side": "{ availableJobs { " + "...F " * 22 + "} } fragment F on JobInfo { name description }",
    "directives": "{ availableJobs " + "@include(if: true) { name } " + "}",
    "a comment": "#" + "x" * 16_000 + "\n{ availableJobs { name } }",
    "a string": '{ jobLogs(jobName: "' + "x" * 16_000 + '") { id } }',
    "operations": " ".join(f"query Q{n} {{ availableJobs {{ name }} }}" for n in range(20)),
    "the schema": get_introspection_query(),
}


@pytest.mark.parametrize("document", GREATEST.values(), ids=GREATEST)
def test_what_is_allowed_takes_few_steps_too(executor: Executor, document: str) -> None:
    steps_of(lambda: checked(executor, document))
    assert document == GREATEST["operations"] or checked(executor, document)


FIELDS = st.sampled_from(["availableJobs", "jobLogs", "name", "id", "jobName", "x: name", "...A", "...B", "...C"])
SELECTIONS = st.recursive(FIELDS, lambda inner: st.lists(inner, min_size=1, max_size=30).map(
    lambda parts: "availableJobs { " + " ".join(parts) + " }"), max_leaves=200)  # fmt: skip


@pytest.mark.outer
@settings(max_examples=60, deadline=None, database=None)
@given(bodies=st.lists(SELECTIONS, min_size=4, max_size=4))
def test_any_document_takes_few_steps(bodies: list[str]) -> None:
    executor = Executor(introspection=True)
    heads = ["query", "fragment A on Query", "fragment B on JobInfo", "fragment C on Query"]
    document = " ".join(f"{head} {{ {body} }}" for head, body in zip(heads, bodies, strict=True))
    steps_of(lambda: checked(executor, document))


def test_hostile_documents_get_an_error_and_leave_no_trace_in_the_log(shared_server: Server) -> None:
    with shared_server.client() as client:
        for kind, document in HOSTILE.items():
            content = json.dumps({"query": document})
            if len(content) < 1_000_000:
                answer = client.post(URL, content=content)
                assert (answer.status_code, answer.json()["data"]) == (200, None), kind
                assert answer.json()["errors"], kind
    assert not [event for event in shared_server.told if isinstance(event, RequestFailed)]


def test_probes_are_answered_while_a_crowd_asks_for_too_much(shared_server: Server) -> None:
    worst = {"query": HOSTILE["fragments that double"]}
    greatest = {"query": GREATEST["the schema"]}
    with shared_server.client() as client, ThreadPoolExecutor(46) as crowd:
        asked = [crowd.submit(client.post, URL, json=(worst, greatest)[n % 2], timeout=60) for n in range(46)]
        with shared_server.client(None) as probe:
            assert probe.get("/readyz").status_code == 200
            assert probe.get("/metrics").status_code == 200
        assert {one.result().status_code for one in asked} == {200}


VARIABLES: list[tuple[str, Any]] = [
    ("Int", "x"),
    ("Int", 1.5),
    ("Int", 2**31),
    ("Int", 10**300),
    ("Int", True),
    ("Int", [1] * 100_000),
    ("Int", {"a": [[]] * 1000}),
    ("Int!", None),
    ("String", 1),
    ("String", ["x"] * 100_000),
    ("Boolean", "true"),
    ("Boolean", 0),
]
USES = {"Int": "limit", "String": "jobName", "Boolean": "onlyFailures"}


@pytest.mark.parametrize(("type_", "value"), VARIABLES, ids=range(len(VARIABLES)))
def test_a_variable_of_a_wrong_type_is_the_clients_error(shared_server: Server, type_: str, value: Any) -> None:
    query = f"query Q($v: {type_}) {{ jobLogs({USES[type_.strip('!')]}: $v) {{ id }} }}"
    with shared_server.client() as client:
        body = problem(client.post(URL, json={"query": query, "variables": {"v": value}}), 400)
    assert list(body["data"]) == ["variables.v"]
    assert len(str(body)) < 1000
    assert not [event for event in shared_server.told if isinstance(event, RequestFailed)]


def test_variables_that_nobody_asked_for_cost_nothing(shared_client: httpx.Client) -> None:
    variables = {f"v{n}": [n] * 50 for n in range(2000)} | {"long": "x" * 500_000}
    answer = shared_client.post(URL, json={"query": "{ availableJobs { name } }", "variables": variables})
    assert answer.json()["data"]["availableJobs"]


SLOW_LOG = """
    ALTER TABLE _ayb_job_executions RENAME TO executions;
    CREATE VIEW _ayb_job_executions AS SELECT executions.* FROM pg_sleep(0.15), executions
"""


def test_all_statements_of_a_document_share_its_time(db: Database, conn: Connection) -> None:
    conn.execute(SLOW_LOG)
    with serving(db, write_timeout_s=0.5) as server, server.client() as client:
        once = client.post(URL, json={"query": "{ jobLogs { id } }"}).json()
        often = client.post(URL, json={"query": GREATEST["statements"]}).json()
    assert once == {"data": {"jobLogs": []}}
    assert often["data"] is None
    assert "took" in often["errors"][0]["message"]

"""Addresses of a database as other programs write them."""

import pytest

from ayb_jobs.model.address import address_fault, is_address, unknown_parameters

SECRET = "hunter2-canary"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("postgresql+psycopg://u:{}@h/d", "leave out +psycopg"),
        ("postgresql+asyncpg://u:{}@h/d", "leave out +asyncpg"),
        ("postgres+psycopg2://u:{}@h/d", "leave out +psycopg2"),
        ("postgresql://u:{}@h/d?schema=public", "parameter schema"),
        ("postgresql://u:{}@h/d?pgbouncer=true&connection_limit=1", "parameter connection_limit"),
        ("postgresql://u:{}@h/d?sslmode=require&sslaccept=strict", "sslmode=require"),
        ("sqlite:///{}.db", "needs PostgreSQL"),
        ("sqlite:{}.db", "needs PostgreSQL"),
        ("sqlite+aiosqlite:///{}.db", "needs PostgreSQL"),
        ("mysql://u:{}@h/d", "needs PostgreSQL"),
        ("mongodb+srv://u:{}@h/d", "needs PostgreSQL"),
        ("jdbc:postgresql://h/d?user=u&password={}", "JDBC"),
        ("prisma+postgres://h/?api_key={}", "begins with prisma+postgres://"),
        ("http://127.0.0.1:8091/{}", "--url"),
        ("postgresql://u:{}@h/d\n", "ends with a line break"),
        ("postgresql://u:{}@h/d ", "ends with a space"),
        ("\npostgresql://u:{}@h/d", "begins with a line break"),
        ('"postgresql://u:{}@h/d"', "quotation marks"),
        ("'postgresql://u:{}@h/d'\n", "quotation marks"),
        ("postgresql://u:p@{}@h/d", "write %40"),
        ("postgres://u@org:{}@h:5432/d", "write %40"),
        ("postgres://u:{}/x@h/d", "write %2F"),
        ("postgres://u:{}?x@h/d", "write %2F"),
        ("postgres://u:p@h:{}/d", "port that is no number"),
        ("psql postgresql://u:{}@h/d", "command or an assignment"),
        ("DATABASE_URL=postgresql://u:{}@h/d", "command or an assignment"),
        ("“postgresql://u:{}@h/d”", "quotation marks"),
        ("<postgresql://u:{}@h/d>", "brackets"),
        ("\ufeffpostgresql://u:{}@h/d", "cannot be seen"),
        ("postgresql://u:{}@h/d\u200b", "cannot be seen"),
        ("$DATABASE_URL", "variable"),
        ("${{DATABASE_URL:-{}}}", "variable"),
        ("%DATABASE_URL%", "variable"),
        ("POSTGRESQL://u:{}@h/d", "in capitals"),
        ("postgres:u:{}@h/d", "lacks the //"),
        ("postgresql:/u:{}@h/d", "lacks the //"),
        ("u:{}@h:5432/d", "does not begin with postgresql://"),
        ("//u:{}@h/d", "does not begin with postgresql://"),
        ("h.example.com:5432/{}", "does not begin with postgresql://"),
        ("Host=h;Username=u;Password={};Database=d", "ADO.NET"),
        ("Server=h;Port=5432;User Id=u;Password={};", "ADO.NET"),
        ("postgresql://u:50%{}@h/d", "write %25"),
        ("postgresql://u:{}%00@h/d", "write %25"),
    ],
)
def test_an_address_of_another_program_is_told_with_what_to_write(address: str, words: str) -> None:
    fault = address_fault(address.format(SECRET))
    assert fault is not None
    assert words in fault
    assert SECRET not in fault


@pytest.mark.parametrize(
    "address",
    [
        "",
        "postgresql://u:p@h/d",
        "postgres://h",
        "postgres://u:p%40p@[::1]:5432,h2:,h3/d?user=u@h&application_name=a:b@c",
        "postgresql://h1:5432,h2:5433/d?target_session_attrs=read-write",
        "postgresql:///d?host=/run/postgresql&options=-csearch_path%3Dapp",
        "host=h dbname=d password='a b'",
        "host=/run/postgresql;x dbname=d",
        "password='a;b@c' host=h",
        "user=u@org password=50%;",
        "dbname = d",
        "service=app",
    ],
)
def test_an_address_of_postgresql_has_no_fault(address: str) -> None:
    assert address_fault(address) is None


def test_parameters_that_are_none_of_postgresqls_are_named_but_nothing_of_a_password() -> None:
    said = unknown_parameters(f"postgresql://u:{SECRET}@h/d?pool=5&sslmode=require&search_path=a&pool=6", {"sslmode"})
    assert said == "has parameters that are none of PostgreSQL's: pool, search_path; leave them out"
    for address in (
        f"postgresql://u:1?{SECRET}=x@h/d",
        f"postgresql://h/d?{SECRET} x",
        "postgresql://h?sslmode=a",
        "a?b",
    ):
        assert unknown_parameters(address, {"sslmode"}) is None


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:p@h/d",
        "postgresql://u:p@h1:1,[::1]:2/d",
        "host=h password='a b'",
        "https://hooks.example.org/x",
    ],
)
def test_what_can_be_parsed_is_an_address(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        f"nonsense {SECRET}",
        f"postgresql://[{SECRET}",
        f"postgresql://u:{SECRET}",
        f"host=h {SECRET}",
        f"u:{SECRET}@h/d",
    ],
)
def test_what_cannot_be_parsed_is_no_address_and_may_hold_a_password(text: str) -> None:
    assert not is_address(text)

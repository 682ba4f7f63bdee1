"""Addresses of a database as other programs write them, and what PostgreSQL's own would be."""

import re
from collections.abc import Collection, Mapping
from urllib.parse import parse_qsl

RIGHT = "write postgresql://USER@HOST/DATABASE"
OTHERS = {
    "sqlite", "mysql", "mariadb", "mssql", "sqlserver", "oracle", "mongodb", "mongodb+srv", "redis", "rediss", "amqp",
    "file",
}  # fmt: skip
SCHEME = re.compile(r"(?i)(jdbc|sqlite|file|[a-z][a-z0-9+.-]{0,30}(?=://)):")
ENCLOSED = re.compile(r"""\s*(?:(["'`]).*\1|[“”„‘’<].*[“”‘’>])\s*""", re.DOTALL)
UNSEEN = "\u00a0\u200b\u200c\u200d\u2060\ufeff"
VARIABLE = re.compile(r"\s*(?:\$\{?\w|\$\(|%\w+%\s*$|\{\{)")
SEMICOLONS = re.compile(
    r"(?i)\s*(?:host|server|data source|user id|username|database)\s*=[^;'\s]*;\s*(?:[a-z]+(?: id)?\s*=|$)"
)
# A name and a password before a host, a host and a port, or a host after two slashes.
NO_SCHEME = re.compile(r"//|[^\s=/@]+(?::[^\s=]*)?@[^\s=]|[\w.-]+:\d+(?:/|$)")
NO_SLASHES = re.compile(r"(?i)postgres(?:ql)?:(?!//)")
HALF_ENCODED = re.compile(r"%(?![0-9a-fA-F]{2})|%00")
COMMAND = re.compile(r"(?i)\s*(psql\s|(?:export\s+)?[a-z_]+=['\"]?postgres(?:ql)?://)")
HOST = r"(?:\[[0-9a-fA-F:.%]+\]|[^\s:/?#\[\]@,]*)(?::\d+)?"
# Up to the last @, since unescaped ones do occur in passwords.
URL = re.compile(rf"(?i)[a-z][a-z0-9+.-]*://(?:\S*@)?{HOST}(?:,{HOST})*(?:[/?#]|$)")
# As PostgreSQL reads it: whose name and password end at the first @ before any / or ?.
AUTHORITY = re.compile(r"(?i)postgres(?:ql)?://([^/?]*)")
NO_PORT = re.compile(r":(?!\d*(?:,|$))")
IN_BRACKETS = re.compile(r"\[[^\]]*\]")
PARAMETER = re.compile(r"[A-Za-z]\w{0,39}", re.ASCII)
WORDS = re.compile(r"(?:\s*\w+\s*=\s*(?:'(?:[^'\\]|\\.)*'|[^\s'=]\S*|))+\s*")

# Parameters that other programs put into the address, and what to do about each.
PARAMETERS: Mapping[str, str] = {
    "schema": "leave it out; for another schema than public give options=-csearch_path%3DNAME",
    "pgbouncer": "leave it out; PgBouncer is recognised without it",
    "connection_limit": "leave it out, and set database.work_connections",
    "pool_timeout": "leave it out, and set database.connect_timeout_s",
    "socket_timeout": "leave it out, and set database.statement_timeout_s",
    "statement_cache_size": "leave it out",
    "prepared_statements": "leave it out; a pooler is recognised without it",
    "sslaccept": "give sslmode=require, or sslmode=verify-full with sslrootcert",
    "sslcert_password": "give sslpassword",
    "ssl": "give sslmode=require",
    "charset": "leave it out",
    "serverVersion": "leave it out",
    "server_version": "leave it out",
}


def address_fault(address: str) -> str | None:
    """Return what keeps an address from being one of PostgreSQL, and what to write; None if nothing is seen.

    The words hold no part of the address but its scheme and the names of its parameters.
    """
    if fault := _fault_of_the_text(address):
        return fault
    scheme = SCHEME.match(address)
    if scheme is None:
        return _fault_without_scheme(address)
    return (
        _scheme_fault(scheme[1]) or _authority_fault(address) or _parameter_fault(address) or _encoding_fault(address)
    )


def is_address(address: str) -> bool:
    """Tell whether a text is a URL or `key=value` words, so that a password in it can be told from the rest."""
    return URL.match(address) is not None or WORDS.fullmatch(address) is not None


def unknown_parameters(address: str, known: Collection[str]) -> str | None:
    """Return what to do about parameters of a URL that are not among those `known`; None if there are none.

    What could be the rest of a password is not named.
    """
    query = address.partition("?")[2]
    if "://" not in address or "@" in query:
        return None
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True) if name not in known]
    if not names or not all(map(PARAMETER.fullmatch, names)):
        return None
    return f"has parameters that are none of PostgreSQL's: {', '.join(dict.fromkeys(names))}; leave them out"


def _fault_of_the_text(address: str) -> str | None:
    if ENCLOSED.fullmatch(address):
        return "is in quotation marks or brackets; leave them out"
    if address.strip(UNSEEN) != address:
        return "begins or ends with a character that cannot be seen; leave it out"
    if VARIABLE.match(address):
        return "names a variable that nobody has replaced by its value; give the address itself"
    if COMMAND.match(address):
        return "is a command or an assignment; give the address in it alone, from postgresql:// on"
    if "://" in address and address != address.strip():
        where = "begins" if address[0].isspace() else "ends"
        what = "a line break" if "\n" in address or "\r" in address else "a space"
        return f"{where} with {what}; leave it out"
    return None


def _fault_without_scheme(address: str) -> str | None:
    if NO_SLASHES.match(address):
        return f"lacks the // after the colon; {RIGHT}"
    if SEMICOLONS.match(address):
        return f"has the form of ADO.NET, with semicolons; {RIGHT}"
    if NO_SCHEME.match(address):
        return f"does not begin with postgresql://; {RIGHT}"
    return None


def _encoding_fault(address: str) -> str | None:
    return "has a % that begins no sign such as %2F; write %25 for it" if HALF_ENCODED.search(address) else None


def _scheme_fault(scheme: str) -> str | None:
    written, scheme = scheme, scheme.lower()
    kind, _, driver = scheme.partition("+")
    match kind:
        case "postgres" | "postgresql":
            if driver:
                return f"has the form of SQLAlchemy; leave out +{driver}: {RIGHT}"
            return None if written == kind else f"begins with {written}://, in capitals; {RIGHT}"
        case "jdbc":
            return f"has the form of JDBC; {RIGHT}"
        case "http" | "https":
            return f"is that of an API, which --url takes; for a database {RIGHT}"
        case _ if kind in OTHERS or scheme in OTHERS:
            return f"names another kind of database ({scheme}); ayb-jobs needs PostgreSQL: {RIGHT}"
        case _:
            return f"begins with {scheme}://, which PostgreSQL does not know; {RIGHT}"


def _authority_fault(address: str) -> str | None:
    """Tell of a password whose rest PostgreSQL would take for a host, a port or a database, and show in its errors."""
    if not (authority := AUTHORITY.match(address)):
        return None
    if authority[1].count("@") > 1:
        return "has an @ in the user's name or the password; write %40 for it"
    if NO_PORT.search(IN_BRACKETS.sub("", authority[1].rpartition("@")[2])):
        return "has a port that is no number; in a password write %2F for a / and %3F for a ?"
    return None


def _parameter_fault(address: str) -> str | None:
    names = [name for name, _ in parse_qsl(address.partition("?")[2], keep_blank_values=True)]
    faults = [
        f"its parameter {name} is none of PostgreSQL's: {PARAMETERS[name]}" for name in names if name in PARAMETERS
    ]
    return f"has parameters of another program; {'; '.join(faults)}" if faults else None

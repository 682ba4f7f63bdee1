"""Whether the database can be worked on."""

from collections.abc import Iterator

from ayb_jobs.checks.finding import Finding, Severity
from ayb_jobs.errors import DatabaseError, MigrationError, RightMissing
from ayb_jobs.model.refusals import DISK_FULL, MAKE_ROOM, NO_ROOM
from ayb_jobs.model.words import quoted, span_words
from ayb_jobs.storage.database import Connection
from ayb_jobs.storage.fitness import ask_writing, database_fitness
from ayb_jobs.storage.migrate import SchemaStatus
from ayb_jobs.storage.migrating import Blocker, find_migration

# What a server says that refuses one more connection: for want of any, or of any that is left for this user.
NO_CONNECTION_FREE = ("too many clients", "connection slots", "too many connections", "no more connections")

# What a server says that lets this user in no more: of the password, the role, pg_hba.conf, a right, the database.
NOT_LET_IN = (
    "authentication failed",
    "is not permitted to log in",
    "no pg_hba.conf entry",
    "permission denied for database",
    "does not exist",
    "no password supplied",
    "is not currently accepting connections",
)


def unfit_database(conn: Connection) -> Iterator[Finding]:
    """Find what keeps work from being done on this database."""
    fitness = database_fitness(conn)
    if fitness.standby or fitness.read_only:
        yield _unwritable(standby=fitness.standby)
    for reason in fitness.unfit:
        yield Finding(
            name="database.unfit",
            severity=Severity.FAILING,
            fact=reason,
            meaning="No daemon can work on such a database.",
            remedy="Do as the sentence says, or use another database.",
            evidence={},
        )
    schema = fitness.schema
    if not schema.is_current and not fitness.unfit:
        yield _outdated(schema, find_migration(conn))


def _outdated(schema: SchemaStatus, migration: Blocker | None) -> Finding:
    """Return that the schema is older than this program, and whom a migration that is under way waits for."""
    if migration is None:
        return _unready("schema.outdated", schema, "run ayb-jobs migrate", "ayb-jobs migrate")
    if migration.pid is None:
        return _unready("schema.migrating", schema, "a migration is under way", "Wait until it is done.")
    who = f"the session with pid {migration.pid}" if migration.pid else "a prepared transaction"
    name = f" of the application {quoted(migration.application)}" if migration.application else ""
    since = f", in a transaction that began {span_words(migration.open_s)} ago" if migration.open_s is not None else ""
    remedy = f"End its transaction, or: SELECT pg_terminate_backend({migration.pid})"
    if not migration.pid:
        remedy = "COMMIT PREPARED or ROLLBACK PREPARED it; pg_prepared_xacts names it"
    return _unready(
        "schema.migrating",
        schema,
        f"the migration waits for a lock that {who} holds{since}; end that transaction",
        remedy,
        named=f"the migration waits for a lock that {who}{name} holds{since}",
    )


def _unready(name: str, schema: SchemaStatus, told: str, remedy: str, *, named: str = "") -> Finding:
    fact = f"the schema is version {schema.version}, and {schema.needed} is needed"
    return Finding(
        name=name,
        severity=Severity.FAILING,
        fact=f"{fact}; {told}",
        named=f"{fact}; {named}" if named else "",
        meaning="This version of ayb-jobs cannot work on these tables.",
        remedy=remedy,
        evidence={"version": schema.version, "needed": schema.needed},
    )


def unwritable_database(conn: Connection) -> Iterator[Finding]:
    """Find what keeps anybody from writing to this database, whether or not it holds our tables."""
    writing = ask_writing(conn)
    if writing.standby or writing.read_only:
        yield _unwritable(standby=writing.standby)


def outage(error: DatabaseError) -> Finding:
    """Return an error of the database as a finding that tells strangers no host and no user."""
    message = str(error)
    if lacks_what_work_needs(error):
        return Finding(
            name="database.unusable",
            severity=Severity.FAILING,
            fact=error.fact if isinstance(error, RightMissing) else message,
            meaning="What needs it fails until it is there. The daemon tries again by itself.",
            remedy="ayb-jobs grant ROLE --daemon" if isinstance(error, RightMissing) else "ayb-jobs migrate",
            evidence={},
        )
    if "read-only" in message:
        return _unwritable()
    if NO_ROOM in message:
        return disk_full("the database failed a question")
    if any(words in message for words in NO_CONNECTION_FREE):
        return _unreachable("the database has no connection free")
    return _unreachable(_without_names(message) if message.startswith("cannot connect") else message)


def _without_names(message: str) -> str:
    """Return in other words that there is no connection, as `message` says, without its host, user and database."""
    if any(words in message for words in NOT_LET_IN):
        return "the database does not let the daemon in: it refuses its user, its password or its database"
    return "cannot connect to the database; the log has the details"


def disk_full(fact: str) -> Finding:
    """Return that a disk of the database's is full, as `fact` says, which names what cannot be done."""
    return Finding(
        name="database.disk_full",
        severity=Severity.FAILING,
        fact=f"{DISK_FULL}: {fact}",
        meaning="Jobs can neither be enqueued nor end. Daemons keep what they cannot store, and try again within a minute.",
        remedy=MAKE_ROOM,
    )


def lacks_what_work_needs(error: Exception) -> bool:
    """Tell whether the database answers, and a table or a right of ours is missing there."""
    return isinstance(error, MigrationError | RightMissing)


def unanswered(error: Exception) -> Finding:
    """Return an answer that could not be had, for a reason other than the database's state."""
    return _unreachable(f"the database gave no usable answer: {type(error).__name__}; the log has the details")


def _unwritable(**evidence: bool) -> Finding:
    return Finding(
        name="database.read_only",
        severity=Severity.FAILING,
        fact="the database takes no writes: it is a standby, or read-only",
        meaning="No job can be enqueued, run or settled.",
        remedy="name the primary in database.url",
        evidence=evidence,
    )


def _unreachable(fact: str) -> Finding:
    return Finding(
        name="database.unavailable",
        severity=Severity.FAILING,
        fact=fact,
        meaning="No job can be enqueued or run until the database answers. Daemons wait for it and go on by themselves.",
        remedy="See to the database; the daemon's log has its words.",
    )

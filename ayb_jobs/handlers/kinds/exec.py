"""Job types that run a command: a program of the machine with its arguments, without a shell."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg

from ayb_jobs.config import JobTypeSettings
from ayb_jobs.config.section import Doubt, Fault, setting
from ayb_jobs.errors import AttemptFailed, AybJobsError, Discard
from ayb_jobs.frozen import frozen
from ayb_jobs.handlers.commands.command import Command, Ended
from ayb_jobs.handlers.commands.environment import find_program, find_user, kept, of_job
from ayb_jobs.handlers.commands.output import Lines, Tail
from ayb_jobs.handlers.commands.spawner import Request
from ayb_jobs.handlers.context import JobContext
from ayb_jobs.handlers.job_type import Handler
from ayb_jobs.handlers.kinds.kind import Kind
from ayb_jobs.handlers.kinds.notes import Notes
from ayb_jobs.handlers.kinds.payloads import payload_with_defaults
from ayb_jobs.model.results import LEAST_LATER_S, Result, Snooze
from ayb_jobs.model.words import signal_name
from ayb_jobs.redact import Redactor, is_secret_name
from ayb_jobs.storage.queue.outputs import keep_output

MIB = 1024 * 1024
# What sysexits.h says of these codes holds for every attempt, but for the one that asks for another.
TRY_LATER = os.EX_TEMPFAIL
# What a later attempt finds the results of its steps in, as a JSON object.
STEPS = "AYB_JOB_STEPS"
HOPELESS: Mapping[int, str] = {os.EX_USAGE: "usage", os.EX_DATAERR: "data", os.EX_CONFIG: "configuration"}
# So much of the output stands in the error.
TOLD_OF_OUTPUT = 2000
# What a command that was told to stop may take beyond its grace, until its end is known here.
BEYOND_GRACE_S = 3.0


class ExecSettings(JobTypeSettings):
    """`[job_types.NAME]`: a command."""

    exec: list[str] = setting([], "A program and its arguments. No shell reads them; the payload is on standard input.")
    cwd: str = setting("", "The folder that it runs in. Empty: that of the daemon.")
    user: str = setting("", "Whom it runs as; the daemon must run as root. Empty: as the daemon.")
    env: dict[str, str] = setting({}, "Variables of its environment.", secret=True)
    pass_env: list[str] = setting([], "Variables of the daemon's environment that it is given.")
    grace_s: float = setting(
        10.0, "How long it may take to end once it is told to stop, by SIGTERM; then SIGKILL.", ge=0, le=3600
    )
    steps: bool = setting(
        False, "Keep the steps that it tells on descriptor 3, and give them to later attempts as `AYB_JOB_STEPS`."
    )
    max_memory_mb: int | None = setting(None, "How much memory each of its processes may have.", ge=1, le=2**30)
    max_cpu_s: int | None = setting(None, "How much processor time each of its processes may take.", ge=1, le=2**30)
    max_file_mb: int | None = setting(None, "How large a file it writes may be.", ge=0, le=2**30)
    max_open_files: int | None = setting(None, "How many files each of its processes may have open.", ge=8, le=2**30)
    max_processes: int | None = setting(None, "How many processes its user may have in all; not root.", ge=1, le=2**30)

    @property
    def limits(self) -> Mapping[str, int]:
        """What it may use at most, by the kernel's names."""
        given = {
            "RLIMIT_AS": self.max_memory_mb and self.max_memory_mb * MIB,
            "RLIMIT_CPU": self.max_cpu_s,
            "RLIMIT_FSIZE": None if self.max_file_mb is None else self.max_file_mb * MIB,
            "RLIMIT_NOFILE": self.max_open_files,
            "RLIMIT_NPROC": self.max_processes,
        }
        return {name: most for name, most in given.items() if most is not None}

    @property
    def stopping_s(self) -> float:
        """How long a run may take to end once it was told to stop."""
        return self.grace_s + BEYOND_GRACE_S

    def secrets(self) -> set[str]:
        """Return the values of variables whose names say that they are secret."""
        return super().secrets() | {value for name, value in self.env.items() if is_secret_name(name)}

    def contradictions(self) -> Iterator[Fault]:
        """Refuse a command that cannot be started."""
        yield from super().contradictions()
        if not self.exec or not self.exec[0]:
            yield ("exec",), 'is missing; give a program and its arguments, such as ["/usr/local/bin/backup", "--all"]'
        if any("\0" in part for part in (*self.exec, self.cwd, *self.env.values())):
            yield (), "holds a NUL character, which no program can be given"
        for name in (*self.env, *self.pass_env):
            if not name or "=" in name or "\0" in name:
                yield ("env" if name in self.env else "pass_env",), f"names {name!r}, which no variable can be called"
        for name in self.env:
            if name in self.pass_env:
                yield ("pass_env",), f"and `env` both give {name}; keep one"
        if sys.platform != "linux":
            yield ("exec",), "needs Linux, which alone can end all that a command has started"

    def doubts(self) -> Iterator[Doubt]:
        """Tell of a program that this machine does not have."""
        name = self.exec[0]
        try:
            path = find_program(name, {**kept(os.environ, self.pass_env), **self.env})
        except AttemptFailed:
            yield f"exec names {name}, which is in no folder of PATH on this machine", "install it, or write its path"
            return
        if not os.access(Path(self.cwd, path), os.X_OK):
            yield f"exec names {name}, which is no program on this machine", "install it, or correct its path"


@frozen
class Program:
    """The command of a job type: what is the same for all of its jobs."""

    args: Sequence[str]
    inherited: Mapping[str, str]
    env: Mapping[str, str]
    cwd: str
    user: str
    limits: Mapping[str, int]
    grace_s: float
    defaults: Mapping[str, Any]
    secrets: Redactor
    steps: bool

    def __call__(self, ctx: JobContext) -> Result:
        """Run the command for one job, and return what its end means."""
        ctx.check()
        tail, notes = Tail(), Notes(ctx, keeps_steps=self.steps)

        def mask(text: str) -> str:
            return ctx.services.mask(self.secrets(text))

        lines = Lines(lambda line: ctx.log.info("command.output", line=line), mask)

        def on_output(written: bytes) -> None:
            tail.add(written)
            lines.add(written)

        payload = payload_with_defaults(ctx, self.defaults).encode()
        command = Command(ctx.services.spawner, self.request(ctx), payload + b"\n")
        try:
            ctx.when_stopped(lambda _: command.stop(ctx.time_to_stop_s(self.grace_s)))
            ended = command.wait(on_output, notes.add)
        finally:
            command.close()
            lines.end()
            notes.end()
            if lines.skipped:
                ctx.log.warning("command.output_skipped", lines=lines.skipped)
            output = tail.text(mask)
            keep(ctx, output)
        return meaning(ended, output, notes.retry_after_s)

    def request(self, ctx: JobContext) -> Request:
        """Return what is to be started for one job."""
        user, who = find_user(self.user) if self.user else (None, {})
        done = {STEPS: ctx.steps.as_object()} if self.steps else {}
        env = {**self.inherited, **who, **self.env}
        return Request(
            program=find_program(self.args[0], env),
            args=self.args,
            env=env,
            own={**of_job(ctx.job), **done},
            cwd=self.cwd,
            user=user,
            limits=self.limits,
        )


def keep(ctx: JobContext, output: str) -> None:
    """Keep what the command wrote with the attempt. If that fails, the attempt is what it is all the same."""
    if not output:
        return
    try:
        with ctx.services.database.connection() as conn:
            keep_output(conn, ctx.job, output)
    except (AybJobsError, psycopg.Error) as error:
        ctx.log.warning("command.output_not_kept", problem=str(error))


def meaning(ended: Ended, output: str, retry_after_s: float | None) -> Result:
    """Return what the end of a command does to its job, or raise: `Discard`, or `AttemptFailed` for another attempt."""
    if ended.exit == 0:
        return None
    if ended.exit == TRY_LATER and retry_after_s:  # 0 is no time ahead, and would never use up an attempt
        return Snooze(max(LEAST_LATER_S, retry_after_s))
    told = f"{words(ended)}\n{output[-TOLD_OF_OUTPUT:]}".rstrip()
    if ended.exit in HOPELESS:
        raise Discard(told)
    raise AttemptFailed(told)


def words(ended: Ended) -> str:
    """Say how a command ended."""
    if ended.signal is not None:
        return f"the command was killed by {signal_name(ended.signal)}"
    why = HOPELESS.get(ended.exit or 0)
    return f"exit code {ended.exit} ({why})" if why else f"exit code {ended.exit}"


def exec_handler(settings: ExecSettings) -> Handler:
    """Return what runs this command."""
    secrets = settings.secrets() | {os.environ.get(name, "") for name in settings.pass_env if is_secret_name(name)}
    return Program(
        args=settings.exec,
        inherited=kept(os.environ, settings.pass_env),
        env=settings.env,
        cwd=settings.cwd,
        user=settings.user,
        limits=settings.limits,
        grace_s=settings.grace_s,
        defaults=settings.payload,
        secrets=Redactor(secrets - {""}),
        steps=settings.steps,
    )


EXEC = Kind(name="exec", settings=ExecSettings, keys="`exec`", handler=exec_handler)

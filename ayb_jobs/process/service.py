"""The daemon as a process: its log, its database, its signals, its HTTP, and what it tells systemd.

`run_service` reads from top to bottom: find the database, bring its schema up to date, start, wait for a signal, stop.
"""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import closing

from ayb_jobs.checks.loops import LoopAge
from ayb_jobs.config import Config
from ayb_jobs.daemon.daemon import Daemon
from ayb_jobs.daemon.disabled import DisabledDaemon
from ayb_jobs.daemon.identity import new_worker_id
from ayb_jobs.events import Events, FirstSteps, SettingsNoted, TracingUnavailable
from ayb_jobs.handlers.packs import build_registry
from ayb_jobs.handlers.tracing import traced
from ayb_jobs.logs import configure_logging
from ayb_jobs.metrics import Metrics
from ayb_jobs.process import sd_notify
from ayb_jobs.process.called import as_called
from ayb_jobs.process.progress import stuck_names
from ayb_jobs.process.reloading import Reloading
from ayb_jobs.process.serving import served
from ayb_jobs.process.signals import FOR_EVER_S, Signals, watched_signals
from ayb_jobs.process.start_up import StartUp, database_url
from ayb_jobs.runtime.garbage import collect_rarely

EXIT_OK = 0
EXIT_HANDLERS_LEFT = 1
EXIT_FORCED = 128 + signal.SIGTERM

# What stopping may take beyond the time that handlers get: last statements, and an unreachable database.
STOP_S = 60.0
# How often a daemon that takes no more jobs is asked whether its handlers have ended.
DRAIN_LOOK_S = 0.1


def run_service(config: Config, read: Callable[[], Config] | None = None) -> int:
    """Run a daemon in the foreground until it is told to stop; return the process's exit code.

    `read` reads the settings again, when SIGHUP asks a process without a terminal to.

    0 after a clean stop, 1 if handlers were still running after the shutdown timeout, 143 if a second signal cut the
    stop short. Raises `ConfigError`, `MigrationError` or `DatabaseError` if it cannot start.
    """
    tracing = traced(build_registry(config), os.environ)
    registry = tracing.registry
    worker_id = new_worker_id()
    logs = configure_logging(config.log, worker=worker_id, secrets=config.secrets())
    with closing(logs):
        events = Events()
        events.subscribe(logs.subscriber)
        metrics = Metrics()
        events.subscribe(metrics)
        if tracing.problem:
            events.emit(TracingUnavailable(reason=tracing.problem))
        for note in config.notes:
            events.emit(SettingsNoted(note=note))
        with watched_signals() as signals, database_url(config, events) as url:
            daemon: Daemon | DisabledDaemon
            if config.jobs.enabled:
                daemon = Daemon(
                    config=config, url=url, registry=registry, events=events, logger=logs.logger, worker_id=worker_id
                )
                signals.on_second = daemon.hurry
                daemon.on_drain_asked = signals.ask_drain
            else:
                daemon = DisabledDaemon(config=config, url=url, events=events)
            started = threading.Event()
            with served(
                daemon, config=config, registry=registry, events=events, metrics=metrics, started=started
            ) as serving:
                if isinstance(daemon, Daemon):
                    daemon.tell_stuck(lambda: stuck_names(serving.loops()))
                if not config.jobs.enabled or StartUp(config, daemon.database, registry, events, signals).run():
                    collect_rarely()
                    daemon.start()
                    started.set()
                    if logs.for_people and config.jobs.enabled:
                        job_type = min(registry.names(), default=None)
                        events.emit(FirstSteps(program=as_called(), job_type=job_type, dashboard=serving.dashboard))
                    reloading = Reloading(
                        config, read=read or (lambda: config), daemon=daemon, logs=logs, emit=events.emit
                    )
                    tell_systemd_until_stopped(daemon, signals, reloading, serving.loops)
                sd_notify.stopping(config.jobs.shutdown_timeout_s + STOP_S)
                left = daemon.stop(signals.reason or signals.draining)
        tracing.flush()
    if signals.count > 1:
        return EXIT_FORCED
    return EXIT_HANDLERS_LEFT if left else EXIT_OK


def tell_systemd_until_stopped(
    daemon: Daemon | DisabledDaemon,
    signals: Signals,
    reloading: Reloading,
    loops: Callable[[], Sequence[LoopAge]],
) -> None:
    """Report readiness, then feed systemd's watchdog for as long as no loop needs a restart; reload when that is asked.

    Return once a stop is asked for, or a drain, and then no handler runs any more.
    """
    sd_notify.ready()
    pause_s = sd_notify.watchdog_interval_s() or FOR_EVER_S
    while not signals.wait(min(pause_s, DRAIN_LOOK_S) if signals.draining else pause_s):
        if signals.draining and (isinstance(daemon, DisabledDaemon) or not daemon.drain(signals.draining)):
            return
        if signals.take_reload() and not signals.draining:
            sd_notify.reloading()
            reloading.reload()
            sd_notify.ready()
        if not any(loop.needs_restart for loop in loops()):
            sd_notify.watchdog()

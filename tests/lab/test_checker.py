"""The checker on evidence made by hand: it finds what is broken, and nothing where nothing is."""

from dataclasses import replace

from ayb_jobs.lab.checker import (
    BatchLife,
    Dependency,
    Event,
    Evidence,
    Fault,
    JobLimit,
    JobPause,
    Limits,
    Operation,
    Run,
    RunElsewhere,
    Snapshot,
    check,
    timeline,
)

INSERTED = Event(
    1,
    1.0,
    "insert",
    "job",
    "test",
    "key",
    None,
    "queued",
    0,
    0,
    3,
    0,
    0,
    None,
    None,
    None,
    None,
    1.0,
    None,
    None,
    "client",
)
LEASED = INSERTED._replace(
    seq=2, at=2.0, change="update", was_state="queued", state="running", attempts=1, lease_id="lease", lease_until=5.0,
    writer="daemon",
)  # fmt: skip
COMPLETED = LEASED._replace(
    seq=3, at=3.0, was_state="running", state="completed", was_attempts=1, was_lease_id="lease", lease_id=None,
    was_lease_until=5.0, lease_until=None,
)  # fmt: skip
LOST = COMPLETED._replace(state="queued", crashes=1, writer="peer", at=2.6)
RAN = Run("job", "lease", 1, "daemon", 2.1, 2.9, "ok")
ENQUEUED = Operation("enqueue", "key", "ok", "job", 0.9, 1.1)
SOUND = Evidence(
    events=[INSERTED, LEASED, COMPLETED], operations=[ENQUEUED], runs=[RAN], limits=Limits(lease_s=3, clock_s=0)
)


def broken(evidence: Evidence) -> set[str]:
    return {violation.invariant for violation in check(evidence)}


def test_a_sound_life_breaks_nothing() -> None:
    assert broken(SOUND) == set()


def test_a_job_that_never_came_to_be_is_lost() -> None:
    other = ENQUEUED._replace(key="other", job_id="elsewhere")
    assert broken(replace(SOUND, operations=[ENQUEUED, other])) == {"acknowledged_enqueue_lost"}


def test_an_unknown_answer_may_have_made_no_job() -> None:
    other = ENQUEUED._replace(key="other", job_id=None, answer="unknown")
    assert broken(replace(SOUND, operations=[ENQUEUED, other])) == set()


def test_a_settling_by_another_is_stale() -> None:
    events = [INSERTED, LEASED, COMPLETED._replace(writer="another")]
    assert broken(replace(SOUND, events=events)) == {"stale_write_accepted"}


def test_a_completion_before_the_handler_ended_is_stale() -> None:
    assert broken(replace(SOUND, runs=[RAN._replace(ended=4.0)])) == {"stale_write_accepted"}


def test_a_completion_without_a_run_is_told() -> None:
    assert "completed_without_its_run" in broken(replace(SOUND, runs=[]))


def test_a_lease_before_the_job_is_due_is_told() -> None:
    assert broken(replace(SOUND, events=[INSERTED, LEASED._replace(run_at=2.5), COMPLETED])) == {"ran_before_due"}


def test_a_change_after_completion_is_told() -> None:
    again = COMPLETED._replace(seq=4, at=4.0, was_state="completed", was_lease_id=None, state="queued")
    assert {"change_after_completion", "illegal_transition"} <= broken(replace(SOUND, events=[*SOUND.events, again]))


def test_taking_a_lease_from_the_living_is_stale_and_from_the_dead_is_not() -> None:
    again = LEASED._replace(
        seq=4, at=6.0, was_attempts=1, attempts=2, lease_id="second", writer="peer", was_crashes=1, crashes=1
    )
    done = COMPLETED._replace(
        seq=5, at=7.0, was_attempts=2, attempts=2, was_lease_id="second", writer="peer", was_crashes=1, crashes=1
    )
    evidence = replace(
        SOUND,
        events=[INSERTED, LEASED, LOST, again, done],
        runs=[RAN._replace(ended=None, ending="unknown"), Run("job", "second", 2, "peer", 6.1, 6.9, "ok")],
    )
    assert broken(evidence) == {"stale_write_accepted", "unexplained_run"}
    killed = Fault("kill", "daemon", 1.9, 1.95)
    assert broken(replace(evidence, faults=[killed])) == set()
    assert any("kill of daemon" in line for line in timeline(replace(evidence, faults=[killed]), "job"))


FEW = JobLimit("few", frozenset({"test"}), max_running=1)
OTHER = [event._replace(job_id="other", key=None) for event in (INSERTED, LEASED, COMPLETED)]
OTHER[1:] = [OTHER[1]._replace(lease_id="second"), OTHER[2]._replace(was_lease_id="second")]


def test_one_more_than_a_limit_allows_is_told_and_one_after_the_other_is_not() -> None:
    together = [INSERTED, OTHER[0], LEASED, OTHER[1], COMPLETED, OTHER[2]]
    apart = [INSERTED, OTHER[0], LEASED, COMPLETED, OTHER[1], OTHER[2]]
    assert "limit_exceeded" in broken(replace(SOUND, events=together, job_limits=[FEW]))
    assert "limit_exceeded" not in broken(replace(SOUND, events=together, job_limits=[FEW._replace(max_running=2)]))
    assert "limit_exceeded" not in broken(replace(SOUND, events=apart, job_limits=[FEW]))


def test_the_keys_of_a_limit_are_judged_one_by_one() -> None:
    def keyed(events: list[Event], key: str) -> list[Event]:
        return [event._replace(limited_key=key) for event in events]

    each = JobLimit("each", frozenset({"test"}), key_max_running=1)
    one, other = keyed([INSERTED, LEASED, COMPLETED], "a"), keyed(OTHER, "b")
    beside = [one[0], other[0], one[1], other[1], one[2], other[2]]
    assert "limit_exceeded" not in broken(replace(SOUND, events=beside, job_limits=[each]))
    assert "limit_exceeded" in broken(replace(SOUND, events=keyed(beside, "a"), job_limits=[each]))


def test_handlers_that_run_at_once_beyond_a_limit_are_told_though_the_rows_are_right() -> None:
    again = [event._replace(seq=event.seq + 3, at=event.at + 2) for event in OTHER]
    story = replace(SOUND, events=[INSERTED, LEASED, COMPLETED, *again], job_limits=[FEW])
    late, after = (Run("other", "second", 1, "daemon", at, 4.9, "ok") for at in (4.1, 4.5))
    assert "limit_exceeded" in broken(replace(story, runs=[RAN._replace(ended=4.3), late]))
    assert "limit_exceeded" not in broken(replace(story, runs=[RAN._replace(ended=4.3), after]))


def test_a_handler_that_outlives_a_lease_which_a_fault_cost_it_holds_no_place() -> None:
    again = [event._replace(seq=event.seq + 3, at=event.at + 2) for event in OTHER]
    runs = [RAN._replace(ended=4.3), Run("other", "second", 1, "daemon", 4.1, 4.9, "ok")]
    story = replace(SOUND, events=[INSERTED, LEASED, LOST, *again], runs=runs, job_limits=[FEW])
    assert "limit_exceeded" in broken(story)
    assert "limit_exceeded" not in broken(replace(story, faults=[Fault("pause", "daemon", 2.2, 4.2)]))


def test_a_handler_of_a_paused_key_is_told_and_one_of_another_key_is_not() -> None:
    paused = JobPause(frozenset({"test"}), 2.05, 2.5, "a")
    for key, told in (("a", {"paused_but_started"}), ("b", set[str]())):
        events = [event._replace(limited_key=key) for event in (INSERTED, LEASED, COMPLETED)]
        assert broken(replace(SOUND, events=events, job_pauses=[paused])) == told


def test_what_a_worker_leases_is_no_daemons_work() -> None:
    snapshot = Snapshot(at=4.0, rows={"completed": 1}, inserted=1, deleted=0, metrics={"ayb_jobs_leased": 0.0})
    assert broken(replace(SOUND, snapshots=[snapshot])) == {"metrics_do_not_add_up"}
    by_worker = replace(SOUND, snapshots=[snapshot], workers=frozenset({"daemon"}))
    assert broken(by_worker) == set()
    assert by_worker.working == {}


def test_a_handler_that_begins_within_a_pause_is_told_and_one_before_or_after_it_is_not() -> None:
    paused = JobPause(frozenset({"test"}), 2.05, 2.5)
    assert broken(replace(SOUND, job_pauses=[paused])) == {"paused_but_started"}
    assert (
        broken(replace(SOUND, job_pauses=[paused._replace(began=2.15), paused._replace(began=1.0, ended=2.0)])) == set()
    )
    assert broken(replace(SOUND, job_pauses=[paused._replace(types=frozenset({"other"}))])) == set()


def test_two_holders_of_a_unique_key_are_told_and_one_after_the_other_is_not() -> None:
    def claiming(events: list[Event], *, waiting: bool) -> list[Event]:
        return [event._replace(claims="k", claims_waiting=waiting) for event in events]

    beside, after = [INSERTED, LEASED, OTHER[0], COMPLETED], [INSERTED, LEASED, COMPLETED, OTHER[0]]
    assert "unique_broken" in broken(replace(SOUND, events=claiming(beside, waiting=False)))
    assert "unique_broken" not in broken(replace(SOUND, events=claiming(beside, waiting=True)))
    assert "unique_broken" not in broken(replace(SOUND, events=claiming(after, waiting=False)))
    both_wait = [INSERTED, OTHER[0], LEASED, COMPLETED]
    assert "unique_broken" in broken(replace(SOUND, events=claiming(both_wait, waiting=True)))
    again = [INSERTED, LEASED, LOST._replace(lease_id=None), OTHER[0]]
    assert "unique_broken" not in broken(replace(SOUND, events=claiming(again, waiting=True)))


def test_starts_beyond_a_rate_are_told_and_its_burst_is_not() -> None:
    starts = [
        LEASED._replace(lease_id=f"lease {n}", was_lease_id=f"lease {n - 1}", at=2.0 + 0.1 * n) for n in range(40)
    ]
    rate = JobLimit("rated", frozenset({"test"}), interval_s=0.1, burst=1)
    assert "rate_exceeded" not in broken(replace(SOUND, events=[INSERTED, *starts], job_limits=[rate]))
    rate = rate._replace(interval_s=0.2)
    assert "rate_exceeded" in broken(replace(SOUND, events=[INSERTED, *starts], job_limits=[rate]))
    rate = rate._replace(burst=21)
    assert "rate_exceeded" not in broken(replace(SOUND, events=[INSERTED, *starts], job_limits=[rate]))


def test_the_spans_of_a_rate_begin_with_the_statement_that_leased_and_not_before_the_lease_ahead_of_it() -> None:
    def starts(*spans: tuple[float, float]) -> Evidence:
        leased = [
            LEASED._replace(lease_id=f"lease {n}", was_lease_id=f"lease {n - 1}", leased_at=began, at=at)
            for n, (began, at) in enumerate(spans)
        ]
        rate = JobLimit("rated", frozenset({"test"}), interval_s=0.1, burst=1)
        return replace(SOUND, events=[INSERTED, *leased], job_limits=[rate])

    assert "rate_exceeded" in broken(starts((2.0, 2.01), (2.02, 2.09)))
    assert "rate_exceeded" not in broken(starts((2.0, 2.05), (2.05, 2.11)))
    # Both waited for a third one that held the limit: the second spent its token behind the first.
    assert "rate_exceeded" in broken(starts((2.0, 2.5), (2.001, 2.51), (2.1, 2.59)))
    # Two of one statement.
    assert "rate_exceeded" in broken(starts((2.0, 2.01), (2.0, 2.011)))


def test_a_job_that_waits_for_a_place_of_nobody_is_told() -> None:
    at_the_end = INSERTED._replace(seq=9, at=60.0, job_id="third", job_type="else", run_at=60.0)
    held, waits = [INSERTED, LEASED], OTHER[0]
    taken = LEASED._replace(seq=8, at=58.0, lease_until=61.0, was_state="running", was_lease_id="lease")

    def is_told(*events: Event) -> bool:
        return "place_leaked" in broken(replace(SOUND, events=[*events, at_the_end], job_limits=[FEW]))

    assert is_told(*held)
    assert is_told(INSERTED, LEASED, COMPLETED, waits)
    assert not is_told(*held, waits, taken)
    assert not is_told(INSERTED, LEASED, COMPLETED, *OTHER)


ELSEWHERE = replace(SOUND, runs=[], elsewhere=[RunElsewhere("job", 1, 2.1, 2.9)], types_elsewhere=frozenset({"test"}))


def test_what_runs_outside_of_its_daemon_needs_no_run_of_a_handler() -> None:
    assert broken(ELSEWHERE) == set()
    unfinished = [RunElsewhere("job", 1, 2.1, None)]
    assert broken(replace(ELSEWHERE, elsewhere=unfinished)) == {"completed_without_its_run"}


def test_what_runs_outside_of_its_daemon_runs_once_for_each_lease() -> None:
    again = RunElsewhere("job", 1, 2.2, None)
    early = RunElsewhere("job", 1, 1.5, 2.9)
    assert broken(replace(ELSEWHERE, elsewhere=[*ELSEWHERE.elsewhere, again])) == {"ran_elsewhere_without_lease"}
    assert broken(replace(ELSEWHERE, elsewhere=[early])) == {"ran_elsewhere_without_lease"}
    assert broken(replace(ELSEWHERE, elsewhere=[early._replace(started=2.1, attempt=2)])) == {
        "ran_elsewhere_without_lease"
    }


def test_anyone_may_ask_for_a_running_job_to_be_canceled_and_then_it_must_not_complete() -> None:
    asked = LEASED._replace(
        seq=3, at=2.5, was_state="running", was_attempts=1, was_lease_id="lease", writer="client", asks_cancel=True
    )
    canceled = Operation("cancel", "key", "ok", "job", 2.4, 2.6)
    done = COMPLETED._replace(seq=4)
    evidence = replace(SOUND, events=[INSERTED, LEASED, asked, done], operations=[ENQUEUED, canceled])
    assert broken(evidence) == {"acknowledged_cancel_undone"}
    assert broken(replace(evidence, events=[INSERTED, LEASED, asked, done._replace(state="canceled")])) == set()
    assert broken(replace(evidence, events=[INSERTED, LEASED, asked._replace(asks_cancel=False), done])) == {
        "stale_write_accepted",
        "acknowledged_cancel_undone",
    }


def test_rows_that_do_not_add_up_are_told() -> None:
    snapshot = Snapshot(at=2.0, rows={"queued": 1}, inserted=2, deleted=0)
    assert broken(replace(SOUND, snapshots=[snapshot])) == {"rows_do_not_add_up"}


def test_counters_that_differ_from_the_event_log_are_told() -> None:
    counted = {"ayb_jobs_leased": 1.0, "ayb_jobs_completed": 1.0}
    snapshot = Snapshot(at=4.0, rows={"completed": 1}, inserted=1, deleted=0, metrics=counted)
    assert broken(replace(SOUND, snapshots=[snapshot])) == set()
    for twice in ({"ayb_jobs_leased": 2.0}, {"ayb_jobs_completed": 0.0}, {"ayb_jobs_snoozed": 1.0}):
        unequal = snapshot._replace(metrics=counted | twice)
        assert broken(replace(SOUND, snapshots=[unequal])) == {"metrics_do_not_add_up"}


def test_a_stop_that_fails_is_told() -> None:
    fault = Fault("term", "other", 1.0, 2.0, graceful=True, detail="exit 70")
    assert broken(replace(SOUND, faults=[fault])) == {"stop_not_graceful"}


def test_a_cut_that_is_noticed_late_is_told() -> None:
    cut = Fault("cut", "other", 1.0, 20.0, noticed=10.5)
    assert broken(replace(SOUND, faults=[cut])) == set()
    assert broken(replace(SOUND, faults=[cut._replace(noticed=11.5)])) == {"noticed_late"}
    assert broken(replace(SOUND, faults=[cut._replace(noticed=float("inf"))])) == {"noticed_late"}


def test_only_a_long_outage_excuses_a_stop() -> None:
    fault = Fault("term", "other", 1.0, 2.0, graceful=True, detail="exit 1")
    terminated = [Fault("terminate", "database", 1.0 + n / 4, 1.01 + n / 4) for n in range(8)]
    assert broken(replace(SOUND, faults=[fault, *terminated])) == {"stop_not_graceful"}
    limits = replace(SOUND.limits, margin_s=1.0)
    crash = Fault("restart_immediate", "database", 1.2, 1.7)
    assert broken(replace(SOUND, limits=limits, faults=[fault, crash])) == {"stop_not_graceful"}
    crashes = [crash, crash._replace(began=2.0, ended=2.3)]
    assert broken(replace(SOUND, limits=limits, faults=[fault, *crashes])) == set()


def test_a_stop_uses_up_no_attempt_that_was_lost_before_it() -> None:
    story = replace(SOUND, events=[INSERTED, LEASED, LOST], runs=[])
    before, after = (Fault("term", "daemon", at, at + 0.1, graceful=True) for at in (2.5, 2.7))
    assert "stop_used_up_an_attempt" in broken(replace(story, faults=[before]))
    assert "stop_used_up_an_attempt" not in broken(replace(story, faults=[after]))


def test_a_job_is_given_back_after_its_run_only_if_its_own_transaction_was_lost() -> None:
    given_back = COMPLETED._replace(state="queued", attempts=0)
    stopped = Fault("term", "daemon", 2.5, 2.6, graceful=True)
    again = LEASED._replace(seq=4, at=4.0, lease_id="again")
    done = COMPLETED._replace(seq=5, at=4.5, was_lease_id="again")
    runs = [RAN, Run("job", "again", 1, "daemon", 4.1, 4.4, "ok")]
    story = replace(SOUND, events=[INSERTED, LEASED, given_back, again, done], runs=runs, faults=[stopped])
    assert broken(story) == {"attempts_out_of_bounds"}
    assert broken(replace(story, transactional="test", committed={"job": 1})) == set()


def test_a_job_whose_handler_was_told_is_given_back_at_a_stop_or_if_its_lease_could_not_be_extended() -> None:
    given_back = COMPLETED._replace(state="queued", attempts=0)
    again = LEASED._replace(seq=4, at=4.0, lease_id="again")
    done = COMPLETED._replace(seq=5, at=4.5, was_lease_id="again")
    runs = [RAN._replace(ending="stopped"), Run("job", "again", 1, "daemon", 4.1, 4.4, "ok")]
    story = replace(SOUND, events=[INSERTED, LEASED, given_back, again, done], runs=runs)
    earlier, during = (Fault("terminate", "database", began, began + 0.1) for began in (1.0, 2.2))
    assert broken(replace(story, faults=[Fault("term", "daemon", 2.5, 2.6, graceful=True)])) == set()
    assert broken(replace(story, faults=[earlier])) == {"attempts_out_of_bounds"}
    assert broken(replace(story, faults=[during])) == set()


WAITS = Dependency("job", "parent", "cancel")


def parents(state: str, at: int) -> list[Event]:
    """Return the life of a job that another waits for: made first, and ended as event number `at`."""
    made = INSERTED._replace(seq=0, job_id="parent", key=None)
    ended = made._replace(seq=at, change="update", was_state="queued", state=state)
    return [made, ended]


def waiting(state: str, at: int, *events: Event, rule: str = "cancel") -> Evidence:
    both = sorted([*events, *parents(state, at)], key=lambda event: event.seq)
    return replace(SOUND, events=both, dependencies=[WAITS._replace(rule=rule)])


def test_a_child_that_begins_after_its_parent_completed_is_sound() -> None:
    found = broken(waiting("canceled", 1, INSERTED, LEASED, COMPLETED, rule="run"))
    assert found == set()


def test_a_child_that_begins_before_its_parent_has_ended_or_although_it_failed_is_found() -> None:
    assert broken(waiting("canceled", 9, INSERTED, LEASED, COMPLETED, rule="run")) == {"child_before_parent"}
    assert broken(waiting("canceled", 1, INSERTED, LEASED, COMPLETED)) == {"child_before_parent"}


def test_a_child_that_is_canceled_is_told_unless_its_rule_or_somebody_says_so() -> None:
    canceled = LEASED._replace(state="canceled", attempts=0, lease_id=None, lease_until=None)
    held = replace(waiting("canceled", 1, INSERTED, canceled, rule="hold"), runs=[])
    assert broken(held) == {"child_not_held"}
    assert broken(replace(waiting("canceled", 1, INSERTED, canceled), runs=[])) == set()
    assert broken(replace(held, operations=[ENQUEUED, Operation("cancel", "key", "ok", "job", 1.9, 2.1)])) == set()
    assert broken(waiting("canceled", 1, INSERTED, LEASED, COMPLETED, rule="hold")) == {"child_before_parent"}


def test_a_child_that_is_held_is_not_stuck() -> None:
    assert broken(replace(waiting("canceled", 1, INSERTED, rule="hold"), runs=[])) == {"never_ended"}
    assert broken(replace(waiting("canceled", 1, INSERTED, rule="run"), runs=[])) == {"child_stuck", "never_ended"}


def test_a_child_that_waits_for_what_has_ended_is_stuck() -> None:
    evidence = replace(waiting("canceled", 9, INSERTED), runs=[])
    assert broken(evidence) == {"child_stuck", "never_ended"}


def batched(
    *events: Event, callbacks: tuple[tuple[str, str], ...] = (("done", "call"), ("success", "call"))
) -> Evidence:
    """Return the story of a batch with one member, and of the job that it calls as event number 4."""
    called = INSERTED._replace(seq=4, job_id="call", key=None, run_at=9e9)
    life = BatchLife("batch", is_sealed=True, members=["job"], callbacks=callbacks)
    story = [*events, called] if callbacks else [*events]
    return replace(SOUND, events=sorted(story, key=lambda event: event.seq), batches=[life])


def calls(evidence: Evidence) -> list[str]:
    return [violation.message for violation in check(evidence) if violation.invariant == "callback_not_once"]


def test_a_batch_that_calls_once_all_have_ended_is_sound() -> None:
    assert calls(batched(INSERTED, LEASED, COMPLETED)) == []


def test_a_batch_that_calls_too_early_twice_never_or_wrongly_is_found() -> None:
    early = batched(INSERTED, LEASED, COMPLETED._replace(seq=5))
    assert calls(early) == ["batch batch called while members were running"]
    unmade = batched(INSERTED._replace(seq=5), LEASED._replace(seq=6), COMPLETED._replace(seq=7))
    assert calls(unmade) == ["batch batch called while members were not made"]
    twice = batched(INSERTED, LEASED, COMPLETED, callbacks=(("done", "call"), ("done", "call"), ("success", "call")))
    assert calls(twice) == ["batch batch called 2 times that it is done"]
    assert calls(batched(INSERTED, LEASED, COMPLETED, callbacks=())) == [
        "batch batch has ended, and none of its callbacks was enqueued"
    ]
    assert calls(batched(INSERTED, LEASED, callbacks=())) == []
    wrong = batched(INSERTED, LEASED, COMPLETED, callbacks=(("done", "call"), ("failure", "call")))
    assert calls(wrong) == ["batch batch called ['done', 'failure'] where ['done', 'success'] is true"]

"""Statements that are written out twice differ in the one step that their names say."""

import re
from collections.abc import Mapping

from ayb_jobs.storage.fleet import unclaimable, waits
from ayb_jobs.storage.migrations import shipped_migrations
from ayb_jobs.storage.queue import (
    beside_limits,
    browsing,
    canceling,
    lanes,
    lateness,
    leases,
    leasing,
    limited,
    minutes,
    outputs,
    pruning,
    put_under,
    results,
    settling,
    successors,
    turns,
)
from ayb_jobs.storage.queue import chosen as chosen_jobs
from ayb_jobs.storage.schedules import ledger


def steps(statement: str) -> Mapping[str, str]:
    """Split a statement into its named steps and what follows them, which is called `answer`."""
    parts = re.split(r"(?:WITH(?: RECURSIVE)?|\), ?)\s*(?:\n\s*)?(\w+) AS (?:MATERIALIZED )?\(\n", statement)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    last = parts[-2]
    body, _, answer = found[last].rpartition("\n    )\n")
    return {**found, last: body, "answer": answer}


def words(text: str) -> list[str]:
    """Return the words of a statement, without the type that a number needs on connections of applications alone."""
    return text.replace("0.5::float8", "0.5").split()


def body(function: str) -> str:
    """Return what stands in a function of ours, as its statement in Python would."""
    texts = [migration.sql.decode() for migration in shipped_migrations()]
    found = [
        part
        for text in texts
        for part in re.findall(rf"FUNCTION (?:TABLES|PLACE)\.{function}\(.*?\$body\$(.*?)\$body\$", text, re.DOTALL)
    ]
    return re.sub(r"\b(?:TABLES|PLACE)\.", "", found[-1])


def assignments(text: str) -> list[str]:
    """Return what the first UPDATE of a statement sets, in order, without the names of its variables."""
    found = re.search(r"\bUPDATE _ayb_jobs.*?\bSET\b(.*?)\b(?:FROM ended\s+)?WHERE\b", text, re.DOTALL)
    assert found is not None
    return words(found[1])


def test_removing_differs_from_keeping_in_what_becomes_of_the_completed_alone() -> None:
    keep, remove = steps(settling.SETTLE_JOBS), steps(settling.SETTLE_AND_REMOVE_JOBS)
    assert set(remove) - set(keep) == {"removed", "updated"}
    for step in ("impatient", "ended", "logged", "answer"):
        assert words(keep[step]) == words(remove[step])
    updated = remove["updated"].replace("SELECT id FROM ended WHERE state <> 'completed'", "SELECT id FROM ended")
    assert words(updated) == words(keep["settled"])
    assert words(remove["settled"]) == words("SELECT * FROM removed UNION ALL SELECT * FROM updated")


def test_completing_leaves_out_of_settling_what_does_nothing_if_all_completed() -> None:
    settle, complete = steps(settling.SETTLE_JOBS), steps(settling.COMPLETE_JOBS)
    assert set(complete) == set(settle)
    for step in ("impatient", "answer"):
        assert words(complete[step]) == words(settle[step])
    assert words(complete["settled"]) == words(if_completed(settle["settled"]))
    logged = re.sub(r"outcome,\s+error,", "outcome,", settle["logged"]).replace(
        "outcome, records,", "'completed', records,"
    )
    assert words(complete["logged"]) == words(logged)


def test_removing_what_all_completed_leaves_out_of_removing_what_does_nothing_then() -> None:
    removed = steps(settling.SETTLE_AND_REMOVE_JOBS)["removed"].replace(" WHERE state = 'completed'", "")
    complete, remove = steps(settling.COMPLETE_JOBS), steps(settling.REMOVE_COMPLETED_JOBS)
    assert words(remove["settled"]) == words(if_completed(removed))
    for step in set(complete) - {"settled"}:
        assert words(remove[step]) == words(complete[step])


def if_completed(step: str) -> str:
    """Return what a step comes to if all it is given completed."""
    without = re.sub(
        r"run_at = CASE .*? END,|max_attempts = CASE .*? END,|last_error = coalesce\(.*?\),", "", step, flags=re.DOTALL
    )
    for general, completed in {
        "ended.state,": "'completed',",
        "job.state = ended.state AND": "job.state = 'completed' AND",
        "CASE ended.state WHEN 'completed' THEN now() END": "now()",
        "CASE ended.state WHEN 'canceled' THEN now() END": "NULL",
        "ended.outcome, ended.error,": "",
    }.items():
        without = re.sub(r"\s+".join(map(re.escape, general.split())), completed, without)
    return without


def test_extending_and_releasing_look_for_their_leases_alike() -> None:
    extend, release = steps(leases.EXTEND_LEASES), steps(leases.RELEASE_JOBS)
    for step in ("held", "free"):
        assert words(extend[step]) == words(release[step])


def test_leasing_by_turn_differs_in_what_each_lane_may_lock_and_what_is_passed_over() -> None:
    plain, turn, due = steps(leasing.LEASE_JOBS), steps(turns.LEASE_BY_TURN), steps(turns.FIND_DUE)
    assert set(turn) - set(plain) == {"lane", "counted", "turn", "met"}
    for step in ("batch", "open_types", "answer"):
        assert words(turn[step]) == words(plain[step])
    for step in set(due) - {"answer"}:
        assert words(due[step]) == words(turn[step])
    walk = turn["met"].replace("AND job.id <> ALL (%(aside)s::uuid[])", "")
    assert words(walk_of(walk).replace("lane.most", "%(limit)s")) == words(walk_of(plain["due"]))


def test_what_is_counted_by_turn_is_what_is_locked() -> None:
    turn = steps(turns.LEASE_BY_TURN)
    counted = walk_of(turn["counted"]).replace("lane.share", "lane.most FOR UPDATE SKIP LOCKED")
    assert words(counted) == words(walk_of(turn["met"]))


def test_leasing_what_is_chosen_differs_in_how_it_is_found_and_leaves_the_payload() -> None:
    plain, chosen = steps(leasing.LEASE_JOBS), steps(chosen_jobs.LEASE_CHOSEN)
    # Which of the chosen ones are paused is asked where they are found.
    assert set(plain) == set(chosen) - {"met"} | {"open_types"}
    assert plain["batch"] == chosen["batch"]
    before, text, after = re.split(r"(CASE\s+WHEN pg_column_size\(payload\).*?\bEND)", plain["answer"], flags=re.DOTALL)
    assert lanes.PLAIN_TEXT in text
    assert words(f"{before}NULL{after}") == words(chosen["answer"])


def walk_of(step: str) -> str:
    """Return how a step walks one lane."""
    return step[step.index("SELECT job.run_at") : step.index(") AS next_in_lane")]


def test_leasing_beside_limits_walks_and_leases_as_leasing_by_turn_does() -> None:
    beside, turn = steps(beside_limits.LEASE_BESIDE_LIMITS), steps(turns.LEASE_BY_TURN)
    for step in ("batch", "open_types", "lane", "counted", "turn"):
        assert words(beside[step]) == words(turn[step])
    for step in ("met", "due"):
        assert words(re.sub(r", (\w+\.)?type\b(?! =)", "", beside[step])) == words(turn[step])
    others = " WHERE type <> ALL (ARRAY(SELECT type FROM limited_types))"
    assert words(beside["leased"].replace(others, "")) == words(turn["answer"])


def test_jobs_are_put_under_their_limits_alike() -> None:
    met, given = steps(beside_limits.LEASE_BESIDE_LIMITS), steps(put_under.PUT_UNDER)
    assert words(met["limited_types"]) == words(given["limited_types"])
    moved = "RETURNING CASE WHEN job.priority > 4 THEN job.id END AS id"
    raised = "CASE WHEN job.priority > 4 THEN job.priority ELSE job.priority + 4 END"
    told = "RETURNING job.id, coalesce(job.limited_by, '') AS limited_by"
    ours = given["put_under"].replace(raised, "job.priority + 4").replace(told, "")
    listed = "job.id = ANY (ARRAY(SELECT id FROM due)) AND "
    assert words(met["put_under"].replace(moved, "").replace(listed, "")) == words(ours)


def test_the_first_jobs_under_a_limit_are_looked_for_in_the_order_in_which_leasing_meets_them() -> None:
    leases, finds = body("_ayb_job_lease_limited"), limited.FIND_FIRST_LIMITED
    for given, name in (("%(name)s::text", "p_name"), ("%(after)s::text", "p_after")):
        finds = finds.replace(given, name)
    assert words(walk_of_keys(finds)) == words(walk_of_keys(leases))


def walk_of_keys(text: str) -> str:
    """Return how a statement walks the keys of a limit."""
    return text[
        text.index("WITH RECURSIVE keys") : text.index(", open AS") if ", open AS" in text else text.index(", share AS")
    ]


def test_workers_put_jobs_under_their_limits_as_daemons_do() -> None:
    ours = body("_ayb_job_put_under").replace("p_ids", "%(ids)s::uuid[]")
    assert words(ours) == words(put_under.PUT_UNDER)


def test_a_worker_frees_successors_as_daemons_do() -> None:
    ours = body("_ayb_job_free_successors").replace("p_schedule_ids", "%(schedule_ids)s::uuid[]")
    assert words(ours) == words(successors.FREE_SUCCESSORS)


def test_a_worker_writes_into_a_leased_row_what_a_daemon_writes() -> None:
    ours = (
        body("ayb_jobs_lease")
        .replace("ayb_jobs_lease.lease_s", "%(lease_s)s")
        .replace("ayb_jobs_lease.worker", "%(worker_id)s")
        .replace("taken_at", "now()")  # the caller's transaction may be old
    )
    daemons = leasing.LEASE_JOBS.replace(
        "encode((SELECT random FROM batch) || tidsend(ctid), 'hex')::uuid", "gen_random_uuid()"
    )
    assert assignments(ours[ours.index("state = 'running'") - 100 :]) == assignments(daemons)


def test_a_worker_writes_into_a_settled_row_what_a_daemon_writes() -> None:
    """But for the attempt of a job that is given back, and for the lease of one that is to end canceled."""
    ours = body("ayb_jobs_settle")
    for added in (
        "attempts = CASE ended.outcome WHEN 'released' THEN greatest(job.attempts - 1, 0) ELSE job.attempts END,",
        "canceling_lease_id = NULL,",
    ):
        assert added in ours
        ours = ours.replace(added, "")
    due = "now() + ended.delay_s * interval '1 second'"
    assert assignments(ours.replace(f"coalesce({due}, job.run_at)", due)) == assignments(settling.SETTLE_JOBS)


def test_leases_that_moved_are_looked_for_as_others_are() -> None:
    moved, held = steps(canceling.EXTEND_CANCELED), steps(leases.EXTEND_LEASES)
    for step in ("held", "free"):
        assert words(moved[step].replace("canceling_lease_id", "lease_id")) == words(held[step])


def test_the_careful_statements_differ_in_how_the_payload_is_written() -> None:
    for plain, careful in (
        (leasing.LEASE_JOBS, leasing.LEASE_JOBS_WITH_CARE),
        (turns.LEASE_BY_TURN, turns.LEASE_BY_TURN_WITH_CARE),
        (beside_limits.LEASE_BESIDE_LIMITS, beside_limits.LEASE_BESIDE_LIMITS_WITH_CARE),
    ):
        assert plain != careful
        assert careful.replace(lanes.CAREFUL_TEXT, lanes.PLAIN_TEXT) == plain


def test_the_lanes_of_queued_jobs_are_walked_alike() -> None:
    lanes = steps(browsing.COUNT_SHOWN)["lanes"]
    for statement in (
        lateness.FIND_LONGEST,
        lateness.LIST_PAUSED_JOBS,
        minutes.MEASURE_LEVEL,
        unclaimable.COUNT_UNCLAIMABLE,
        unclaimable.COUNT_UNCLAIMABLE_BY_ALL,
    ):
        assert words(steps(statement)["lanes"].partition("\n    )\n")[0]) == words(lanes)
    of_a_queue = "AND (%(queue)s::text IS NULL OR queue = %(queue)s::text)"
    for statement in (browsing.LIST_BY_DUE_TIME, waits.LIST_WAITING):
        assert words(steps(statement)["lanes"].replace(of_a_queue, "")) == words(lanes)


def test_old_rows_are_deleted_one_by_one_alike() -> None:
    alerts = ledger.DELETE_ALERTS
    for statement, table, key in (
        (outputs.DELETE_OUTPUTS, "_ayb_job_outputs", "lease_id"),
        (results.DELETE_RESULTS, "_ayb_job_results", "job_id"),
    ):
        assert words(statement) == words(re.sub(r"\bid\b", key, alerts.replace("_ayb_job_alerts", table)))
    executions = pruning.DELETE_EXECUTIONS.replace("_ayb_job_executions", "_ayb_job_alerts").replace("bigint", "uuid")
    assert words(executions) == words(alerts)

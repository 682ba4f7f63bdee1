"""The statement by which an application has a job end canceled, on any driver's connection."""

from ayb_jobs.storage.channel import MAY_NOTIFY

# What `storage.queue.canceling` does to one job, as any driver sends it. Operators have just the types that they are
# made for (see `enqueueing`).
REQUEST_CANCEL = f"""
    WITH found AS MATERIALIZED (
        SELECT id, state FROM _ayb_jobs WHERE id = CAST(%(id)s AS text)::uuid FOR UPDATE
    ), canceled AS (
        UPDATE _ayb_jobs
        SET state = CASE state::text WHEN 'queued' THEN 'canceled' ELSE state END,
            canceled_at = CASE state::text WHEN 'queued' THEN now() END,
            cancel_requested_at = CASE state::text WHEN 'running' THEN coalesce(cancel_requested_at, now()) END,
            canceling_lease_id = CASE state::text WHEN 'running' THEN coalesce(canceling_lease_id, lease_id, gen_random_uuid()) END,
            lease_id = NULL,
            updated_at = CASE WHEN cancel_requested_at IS NULL THEN now() ELSE updated_at END
        WHERE id = (SELECT found.id FROM found WHERE found.state::text IN ('queued', 'running'))
        RETURNING id, batch_id,
            CASE WHEN state::text = 'canceled' OR cancel_requested_at IS NOT NULL THEN state END AS state
    )
    SELECT found.state, canceled.state,
        CASE
            WHEN canceled.state::text = 'running' AND {MAY_NOTIFY} THEN pg_notify('ayb_jobs', 'canceled')::text
            WHEN canceled.state::text = 'canceled' AND {MAY_NOTIFY} AND (
                canceled.batch_id IS NOT NULL
                OR EXISTS (SELECT FROM _ayb_job_dependencies AS edge WHERE edge.parent_id = canceled.id AND edge.is_open)
            ) THEN pg_notify('ayb_jobs', 'ended '::text || canceled.id::text)::text
        END
    FROM found LEFT JOIN canceled ON true
"""

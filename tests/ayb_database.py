"""A database as AYB's own migrations leave it: its tables, rows, role for end users, and that role's rights."""

from contextlib import closing

from ayb_jobs.storage.database import connect

# Roles belong to the whole server, on which tests run side by side.
ROLES = """
    DO $$
    BEGIN
        CREATE ROLE ayb_authenticated NOLOGIN;
    EXCEPTION
        WHEN duplicate_object OR unique_violation THEN NULL;
    END
    $$;
"""

# AYB serves its end users by this role; its rights come with each table that is made later.
RIGHTS = """
    GRANT USAGE ON SCHEMA public TO ayb_authenticated;
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO ayb_authenticated;
"""

JOB_TABLES = """
    CREATE TABLE _ayb_job_schedules (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name varchar(100) NOT NULL UNIQUE,
        job_type varchar(100) NOT NULL, payload jsonb NOT NULL DEFAULT '{}', cron_expr varchar(100) NOT NULL,
        timezone varchar(50) NOT NULL DEFAULT 'UTC', enabled boolean NOT NULL DEFAULT true,
        max_attempts int NOT NULL DEFAULT 3 CHECK (max_attempts >= 1), next_run_at timestamptz, last_run_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE TABLE _ayb_jobs (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), type varchar(100) NOT NULL, payload jsonb NOT NULL DEFAULT '{}',
        state varchar(20) NOT NULL DEFAULT 'queued'
            CHECK (state IN ('queued', 'running', 'completed', 'failed', 'canceled')),
        run_at timestamptz NOT NULL DEFAULT now(), lease_until timestamptz, worker_id varchar(100),
        attempts int NOT NULL DEFAULT 0, max_attempts int NOT NULL DEFAULT 3 CHECK (max_attempts >= 1),
        last_error text, last_run_at timestamptz, idempotency_key varchar(255),
        schedule_id uuid CONSTRAINT fk_ayb_jobs_schedule REFERENCES _ayb_job_schedules (id) ON DELETE SET NULL,
        created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
        completed_at timestamptz, canceled_at timestamptz
    );
    CREATE INDEX idx_ayb_jobs_claimable ON _ayb_jobs (state, run_at) WHERE state = 'queued';
    CREATE INDEX idx_ayb_jobs_lease ON _ayb_jobs (state, lease_until) WHERE state = 'running';
    CREATE UNIQUE INDEX idx_ayb_jobs_idempotency ON _ayb_jobs (idempotency_key) WHERE idempotency_key IS NOT NULL;
"""

OTHER_TABLES = """
    CREATE TABLE _ayb_sessions (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid, token_hash text, expires_at timestamptz NOT NULL
    );
    CREATE TABLE _ayb_webhook_deliveries (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), delivered_at timestamptz);
    CREATE TABLE _ayb_oauth_tokens (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), expires_at timestamptz, revoked_at timestamptz
    );
    CREATE TABLE _ayb_oauth_authorization_codes (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(), expires_at timestamptz, used_at timestamptz
    );
    CREATE TABLE _ayb_magic_links (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), expires_at timestamptz);
    CREATE TABLE _ayb_password_resets (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), expires_at timestamptz);
    CREATE TABLE _ayb_matview_refreshes (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        schema_name varchar(63) NOT NULL CHECK (schema_name ~ '^[A-Za-z_][A-Za-z0-9_]*$'),
        view_name varchar(63) NOT NULL CHECK (view_name ~ '^[A-Za-z_][A-Za-z0-9_]*$'),
        refresh_mode varchar(20) NOT NULL DEFAULT 'standard' CHECK (refresh_mode IN ('standard', 'concurrent')),
        last_refresh_at timestamptz, last_refresh_duration_ms int,
        last_refresh_status varchar(20) CHECK (last_refresh_status IN ('success', 'error')), last_refresh_error text,
        created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (schema_name, view_name)
    );
"""

# What AYB itself seeds: its four schedules.
SCHEDULES = """
    INSERT INTO _ayb_job_schedules (name, job_type, cron_expr, payload, next_run_at) VALUES
        ('session_cleanup_hourly', 'stale_session_cleanup', '0 * * * *', '{}', now() + interval '1 hour'),
        ('webhook_delivery_prune_daily', 'webhook_delivery_prune', '0 3 * * *', '{"retention_hours": 168}',
            now() + interval '1 hour'),
        ('expired_oauth_cleanup_daily', 'expired_oauth_cleanup', '0 4 * * *', '{}', now() + interval '1 hour'),
        ('expired_auth_cleanup_daily', 'expired_auth_cleanup', '0 5 * * *', '{}', now() + interval '1 hour');
"""


def make_ayb_database(url: str, *, jobs: bool = True) -> None:
    """Make the database at `url`, which is empty, one of AYB's; without `jobs` of a release that had no job queue."""
    with closing(connect(url)) as conn:
        conn.execute(ROLES)
        conn.execute(RIGHTS)
        conn.execute(OTHER_TABLES)
        if jobs:
            conn.execute(JOB_TABLES)
            conn.execute(SCHEDULES)

-- Queues and job types whose jobs nobody leases for now: who paused them, when, why, and until when (null: until they
-- are resumed). A daemon writes beside its heartbeat up to which pause it has given back what it had not started; null
-- means none, as of a daemon of an earlier version. Pauses are numbered under a lock, so that a higher one came later.
CREATE TABLE _ayb_job_pauses (
    kind varchar(10) NOT NULL CHECK (kind IN ('queue', 'type')),
    name varchar(100) NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    reason varchar(1000),
    paused_by varchar(100) NOT NULL,
    paused_at timestamptz NOT NULL DEFAULT now(),
    until timestamptz,
    PRIMARY KEY (kind, name)
);

ALTER TABLE _ayb_job_workers ADD COLUMN pauses_confirmed bigint;

-- Queues, job types and keys of limits whose jobs nobody leases for now: who paused them, when, why, and until when
-- (null: until they are resumed). The pause of a key is named `LIMIT/KEY`. A daemon writes beside its heartbeat up to
-- which pause it has given back what it had not started; null means none, as of a daemon of an earlier version. Pauses
-- are numbered under a lock, so that a higher one came later. Whoever pauses a key holds the limit's row until the
-- commit, so each lease of the key that does not see the pause was committed before it.
CREATE TABLE _ayb_job_pauses (
    kind varchar(10) NOT NULL CHECK (kind IN ('queue', 'type', 'key')),
    name varchar(301) NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    reason varchar(1000),
    paused_by varchar(100) NOT NULL,
    paused_at timestamptz NOT NULL DEFAULT now(),
    until timestamptz,
    PRIMARY KEY (kind, name)
);

-- The name of a key is what was paused.
ALTER TABLE _ayb_job_audit ALTER COLUMN target TYPE varchar(301);

ALTER TABLE _ayb_job_workers ADD COLUMN pauses_confirmed bigint;

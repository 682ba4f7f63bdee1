-- What operators changed by hand: who, what, before, after, when. A row is written in the transaction that it tells of.

CREATE TABLE _ayb_job_audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    actor varchar(100) NOT NULL,
    action varchar(50) NOT NULL,
    target varchar(100),
    before jsonb,
    after jsonb
);

CREATE INDEX idx_ayb_job_audit_target ON _ayb_job_audit (target, id);

-- Who is alive: each daemon writes its row at its start and every few seconds after, and removes it when it stops.
-- Never a proof of death: leases alone decide whose job may run again.

CREATE TABLE _ayb_job_workers (
    id varchar(100) PRIMARY KEY,
    host varchar(255) NOT NULL,
    pid int NOT NULL,
    version varchar(50) NOT NULL,
    concurrency int NOT NULL,
    queues text[] NOT NULL,
    types text[] NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now()
);

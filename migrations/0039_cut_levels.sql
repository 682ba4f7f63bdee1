-- A level that was measured while there were more lanes of queue and priority than are looked at is one of at least so much.
ALTER TABLE _ayb_job_levels ADD COLUMN cut boolean NOT NULL DEFAULT false;

-- Ten tables as AYB and Barycenter have them, with 10,000 rows each. Of every ten rows one is still valid (n % 10 = 0)
-- and nine are not, in each of the ways in which a row of that table can be out of date.

CREATE TABLE _ayb_sessions (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid NOT NULL DEFAULT gen_random_uuid(),
    token_hash text NOT NULL, expires_at timestamptz NOT NULL
);
INSERT INTO _ayb_sessions (token_hash, expires_at)
SELECT md5(n::text), now() + CASE WHEN n % 10 = 0 THEN interval '7 days' ELSE -n * interval '1 minute' END
FROM generate_series(1, 10000) AS n;

CREATE TABLE _ayb_webhook_deliveries (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), event text NOT NULL, delivered_at timestamptz NOT NULL
);
INSERT INTO _ayb_webhook_deliveries (event, delivered_at)
SELECT 'record.created', now() - CASE WHEN n % 10 = 0 THEN interval '1 day' ELSE interval '8 days' + n * interval '1 minute' END
FROM generate_series(1, 10000) AS n;

CREATE TABLE _ayb_oauth_tokens (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), expires_at timestamptz NOT NULL, revoked_at timestamptz
);
INSERT INTO _ayb_oauth_tokens (expires_at, revoked_at)
SELECT now() + CASE WHEN n % 10 IN (0, 1) THEN interval '30 days' ELSE -interval '2 days' - n * interval '1 minute' END,
    CASE n % 10 WHEN 0 THEN now() - interval '1 hour' WHEN 1 THEN now() - interval '3 days' END
FROM generate_series(1, 10000) AS n;

CREATE TABLE _ayb_oauth_authorization_codes (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), expires_at timestamptz NOT NULL, used_at timestamptz
);
INSERT INTO _ayb_oauth_authorization_codes (expires_at, used_at)
SELECT now() + CASE WHEN n % 10 IN (0, 1) THEN interval '10 minutes' ELSE -n * interval '1 minute' END,
    CASE n % 10 WHEN 0 THEN now() - interval '1 hour' WHEN 1 THEN now() - interval '2 days' END
FROM generate_series(1, 10000) AS n;

CREATE TABLE _ayb_magic_links (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), expires_at timestamptz NOT NULL
);
INSERT INTO _ayb_magic_links (expires_at)
SELECT now() + CASE WHEN n % 10 = 0 THEN interval '1 hour' ELSE -n * interval '1 minute' END
FROM generate_series(1, 10000) AS n;

CREATE TABLE _ayb_password_resets (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), expires_at timestamptz NOT NULL
);
INSERT INTO _ayb_password_resets (expires_at)
SELECT now() + CASE WHEN n % 10 = 0 THEN interval '1 hour' ELSE -n * interval '1 minute' END
FROM generate_series(1, 10000) AS n;

CREATE TABLE sessions (id bigserial PRIMARY KEY, expires_at bigint NOT NULL);
CREATE TABLE refresh_tokens (id bigserial PRIMARY KEY, expires_at bigint NOT NULL);
CREATE TABLE webauthn_challenges (id bigserial PRIMARY KEY, expires_at bigint NOT NULL);
CREATE TABLE device_codes (id bigserial PRIMARY KEY, expires_at bigint NOT NULL);

INSERT INTO sessions (expires_at)
SELECT extract(epoch FROM now())::bigint + CASE WHEN n % 10 = 0 THEN 86400 ELSE -n END
FROM generate_series(1, 10000) AS n;
INSERT INTO refresh_tokens (expires_at) SELECT expires_at FROM sessions;
INSERT INTO webauthn_challenges (expires_at) SELECT expires_at FROM sessions;
INSERT INTO device_codes (expires_at) SELECT expires_at FROM sessions;

ANALYZE;

-- JSON as text. A number of a few bytes may be a hundred thousand digits as text: `1e131071`, `0e-16383`. Writing a
-- payload of those takes a second, and a look that leases hundreds of them a minute. So numbers are judged before they
-- are written.
DO $make$
DECLARE
    tables text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = '_ayb_jobs'::regclass);
BEGIN
    -- Whether a number may have more than a hundred digits before its point, or behind it. A few small numbers do no
    -- harm, and neither do digits behind the point in a small value. A quotient has as many digits behind the point as
    -- its divisor, up to a thousand: a third has more than a hundred threes only if the number has, also if all are 0.
    EXECUTE replace(replace($create$
        CREATE FUNCTION TABLES._ayb_job_has_long_numbers(value jsonb) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
            RETURN (pg_column_size(value) > 64 OR pg_column_compression(value) IS NOT NULL) AND (
                value @? 'strict $.** ? (@ > 1e100 || @ < -1e100)'
                OR (pg_column_size(value) > 2000 OR pg_column_compression(value) IS NOT NULL)
                    AND value @? 'strict $.** ? (1 / (@ * 0 + 3) > 0.THREES)'
            )
    $create$, 'TABLES.', tables || '.'), 'THREES', repeat('3', 100));

    -- Null where the text is more than anybody could use: long numbers alone have more than a mebibyte of digits,
    -- counted at their least, or the whole has more than 64.
    EXECUTE replace($create$
        CREATE OR REPLACE FUNCTION TABLES._ayb_job_text(value jsonb) RETURNS text LANGUAGE plpgsql STABLE STRICT PARALLEL RESTRICTED
            SET search_path = pg_catalog, pg_temp AS $body$
        DECLARE
            written text;
        BEGIN
            IF TABLES._ayb_job_has_long_numbers(value) AND 1048576 < (
                SELECT sum(scale(number::numeric) + (ARRAY[0, 100, 1000, 10000, 20000, 40000, 80000])[
                    1 + width_bucket(abs(number::numeric), ARRAY[1e100, 1e1000, 1e10000, 1e20000, 1e40000, 1e80000])
                ])
                FROM jsonb_path_query(value, 'strict $.** ? (@.type() == "number")') AS number
            ) THEN
                RETURN NULL;
            END IF;
            written := value;
            RETURN CASE WHEN octet_length(written) <= 64 * 1024 * 1024 THEN written END;
        EXCEPTION
            WHEN program_limit_exceeded OR out_of_memory THEN
                RETURN NULL;
        END
        $body$
    $create$, 'TABLES.', tables || '.');
END
$make$;

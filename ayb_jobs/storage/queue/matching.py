"""The filter of `model.filters` as a condition that the statements of lists, counts and bulk changes share."""

# An error's first line with its numbers and ids made alike, so that errors that differ in nothing else are one group.
# A number that follows a letter belongs to a name, such as `v2`.
# The sign stands in ASCII, which every database's encoding has.
ALIKE_ERROR = r"""
    regexp_replace(
        left(split_part(last_error, chr(10), 1), 300),
        '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}|0x[0-9a-fA-F]+|\m[0-9a-f]*[0-9][0-9a-f]{7,}\M|(?<![A-Za-z0-9])[0-9]+',
        '<n>', 'g'
    )
"""
# What stands before the first number is compared first: that takes a tenth of the time.
MATCHING = f"""
    (%(type)s::text IS NULL OR type = %(type)s::text)
        AND (%(queue)s::text IS NULL OR queue = %(queue)s::text)
        AND (%(key)s::text IS NULL OR idempotency_key = %(key)s::text)
        AND (%(batch_id)s::uuid IS NULL OR batch_id = %(batch_id)s::uuid)
        AND (%(since)s::timestamptz IS NULL OR created_at >= %(since)s::timestamptz)
        AND (%(until)s::timestamptz IS NULL OR created_at < %(until)s::timestamptz)
        AND (%(error)s::text IS NULL OR strpos(lower(last_error), lower(%(error)s::text)) > 0)
        AND (
            %(alike)s::text IS NULL
            OR (starts_with(last_error, split_part(%(alike)s::text, '<n>', 1)) AND {ALIKE_ERROR} = %(alike)s::text)
        )
"""

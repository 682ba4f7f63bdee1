"""The kinds of job types: what `[job_types.NAME]` may be, one file each.

A kind is a thing (`kind`): its name, the settings that it takes with their faults, and how a job of it is run. The
table of all kinds is `table`; loading the configuration gets it handed down, finds the kind of each job type by the
keys in it, and reports its faults with their lines. A new kind is one file and one line in the table.

`python` runs functions of the application's modules, `sql` statements, `cleanup` deletes in batches (`batches`).
`parameters` is what the two kinds of SQL share: a payload's values, bound to `%(name)s`.
"""

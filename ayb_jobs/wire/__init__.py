"""The API's JSON once, for HTTP and the command line: field names, shapes, instants.

`text` builds JSON, `names` has the names of fields, and each of the other files has the shapes of one subject. They are
apart, since not everyone who shows jobs needs cron. Answers are built as text: PostgreSQL stores numbers and nesting
that Python cannot decode, and an answer must show them all the same.
"""

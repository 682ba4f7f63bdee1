"""The dashboard: pages that the server renders whole, beside the API and by its rules.

A page asks storage and the checks, and an action calls an operation, as every other door does. `shell` knows who visits
and renders; `session` is the cookie behind a login; each other file has the pages of one subject. Pages need no
JavaScript. `static/live.js` keeps them up to date while somebody looks.
"""

"""What is sent to addresses outside, which may be slow, dead, or hostile.

`client` keeps the connections of a daemon and bounds each exchange; `answers` says what the answer to a job means.
`resolving` finds a name's addresses, once for each connection; `addresses` says which of them are private. `signing`
signs what is sent, by Standard Webhooks. Importing `client`, `resolving` or `signing` needs the extra `http`.
"""

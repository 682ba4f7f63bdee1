"""What is sent to addresses outside, which may be slow, dead, or hostile.

`resolving` finds a name's addresses, once for each connection; `addresses` says which of them are private. `signing`
signs what is sent, by Standard Webhooks. Importing `resolving` or `signing` needs the extra `http`.
"""

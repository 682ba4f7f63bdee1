"""The kinds of handlers, one file each."""

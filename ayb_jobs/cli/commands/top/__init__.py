"""`ayb-jobs top`: how things stand, live in a terminal, and keys that act.

`lines` are what a screen is made of, `tables` and `screen` say what stands on it. `looking` reads the database again
and again, `acting` does on a thread of its own what a key asks for, and `live` ties them to the terminal.
"""

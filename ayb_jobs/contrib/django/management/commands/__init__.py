"""Commands for `manage.py`, one file each."""

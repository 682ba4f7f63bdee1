"""The daemon as a process: its log, its signals, and what it tells systemd."""

"""A worker daemon with a Postgres queue."""

__version__ = "0.1.0"

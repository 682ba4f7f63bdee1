"""Builds every part of a daemon, starts them and stops them."""

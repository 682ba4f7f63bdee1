"""The SQL of daemons: who is alive, whose lifeline broke, what waits although nobody can run it."""

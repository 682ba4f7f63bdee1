"""What daemons do for each other: heartbeat, lifeline, recoverer."""

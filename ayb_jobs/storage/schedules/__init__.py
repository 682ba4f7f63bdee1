"""The SQL of schedules: definitions, due fires, their ledger, what is overdue, alerts."""

"""When schedules fire: cron, time zones, missed fires and overlaps, previews, imports. Pure."""

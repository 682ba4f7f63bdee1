"""What a job passes on its way: producer, buffer, slot, completer; lease keeper and watchdog beside it."""

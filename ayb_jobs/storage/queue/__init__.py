"""The SQL of jobs: enqueue, lease, settle, recover, prune, count."""

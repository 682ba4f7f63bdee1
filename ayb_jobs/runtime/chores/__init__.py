"""What is done beside the jobs: scheduler, pruner, alerter."""

"""No models: the queue migrates its tables itself. Django sends `post_migrate` only to apps that have this file."""

"""The two ways to the work: by the database and by the API."""

"""`python -m ayb_jobs`: the same as `ayb-jobs`."""

from ayb_jobs.cli.main import main

main()

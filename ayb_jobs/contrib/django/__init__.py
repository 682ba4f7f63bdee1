"""An app for Django: `INSTALLED_APPS += ["ayb_jobs.contrib.django"]`.

`manage.py ayb_jobs` is the program `ayb-jobs` on the project's database, with the handlers of the apps' `jobs.py`.
`manage.py migrate` brings the queue's tables up to date, also in the databases that Django makes for tests.
"""

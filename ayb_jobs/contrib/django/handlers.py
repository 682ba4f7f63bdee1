"""The handlers of a project: those of its apps' `jobs.py`. Importing this sets Django up, also in child processes."""

import django
from django.apps import apps

from ayb_jobs.contrib.django.discovery import discovered

if not apps.ready:
    django.setup()

registry = discovered(module=__name__)

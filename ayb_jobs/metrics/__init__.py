"""What is counted of the daemon's work.

`catalogue` names every metric, its labels and its meaning. `counting` listens to events and counts. How the numbers are
written for a scraper is decided where they are served.
"""

from ayb_jobs.metrics.catalogue import CATALOGUE, Kind, Labels, Metric
from ayb_jobs.metrics.counting import (
    MOST_QUEUES,
    MOST_TYPES,
    OTHER,
    Histogram,
    Metrics,
    Names,
    Snapshot,
    first_sqlstate,
)

__all__ = [
    "CATALOGUE",
    "MOST_QUEUES",
    "MOST_TYPES",
    "OTHER",
    "Histogram",
    "Kind",
    "Labels",
    "Metric",
    "Metrics",
    "Names",
    "Snapshot",
    "first_sqlstate",
]

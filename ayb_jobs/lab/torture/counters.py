"""What the daemons count of themselves, as their metrics tell it, added up over the fleet."""

import time
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence

from prometheus_client.parser import text_string_to_metric_families

from ayb_jobs.lab.torture.fleet import Daemon

TOTAL = "_total"
ANSWER_S = 10.0
# A daemon counts what it has committed a moment later.
SETTLED_S = 0.3


def counters(daemons: Sequence[Daemon]) -> Mapping[str, float]:
    """Return each counter's sum over all daemons and labels, once they count no further; by names without `_total`.

    Ask while no job is left to run. Every daemon has to serve its API.
    """
    last = _scrape(daemons)
    while True:
        time.sleep(SETTLED_S)
        told = _scrape(daemons)
        if told == last:
            return told
        last = told


def _scrape(daemons: Sequence[Daemon]) -> Mapping[str, float]:
    sums: Counter[str] = Counter()
    for daemon in daemons:
        with urllib.request.urlopen(f"{daemon.api_url()}/metrics", timeout=ANSWER_S) as answer:  # noqa: S310 - ours
            text = answer.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.startswith("ayb_jobs_") and sample.name.endswith(TOTAL):
                    sums[sample.name.removesuffix(TOTAL)] += sample.value  # type: ignore[assignment] # a float's Counter
    return dict(sums)

"""The audit trail as the API shows it."""

from ayb_jobs.model.actions import Deed
from ayb_jobs.wire.text import Stored, object_text


def deed_text(deed: Deed) -> str:
    """Return the JSON of a change by hand."""
    return object_text(
        {
            "id": deed.id,
            "at": deed.at,
            "actor": deed.actor,
            "action": deed.action,
            "target": deed.target,
            "before": None if deed.before_text is None else Stored(deed.before_text),
            "after": None if deed.after_text is None else Stored(deed.after_text),
        }
    )

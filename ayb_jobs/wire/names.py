"""The API's names of fields: the model's in camelCase, and `Sec` for a number of seconds."""

# AYB's names that follow no rule.
OWN = {"cron": "cronExpr"}


def api_name(field: str) -> str:
    """Return the API's name of a field of the model: `timeout_s` is `timeoutSec`."""
    if field in OWN:
        return OWN[field]
    head, *words = f"{field.removesuffix('_s')}_sec".split("_") if field.endswith("_s") else field.split("_")
    return head + "".join(word.title() for word in words)

"""The API's names of fields: the model's in camelCase, and `Sec` for a number of seconds."""

# Names that follow no rule: AYB's own, and spans, which are numbers of seconds here.
OWN = {"cron": "cronExpr", "delay": "delaySec", "max_wait": "maxWaitSec"}


def api_name(field: str) -> str:
    """Return the API's name of a field of the model: `timeout_s` is `timeoutSec`.

    A place before it, as in `[3].timeout_s`, stays, and so does what a payload holds, as in `payload.retention_hours`.
    """
    if field.startswith("["):
        place, dot, name = field.partition(".")
        return place + dot + api_name(name)
    field, dot, within = field.partition(".")
    if field in OWN:
        return OWN[field] + dot + within
    head, *words = f"{field.removesuffix('_s')}_sec".split("_") if field.endswith("_s") else field.split("_")
    return head + "".join(word.title() for word in words) + dot + within

"""The commands that queues, job types and keys of limits have alike. Nothing is imported that they need."""

from collections.abc import Mapping

from ayb_jobs.cli.lazy import Lazy


def pausing_commands(group: str, *, all_: str, one: str) -> Mapping[str, Lazy]:
    """Return the commands of a group: `all_` is what it lists, `one` what it pauses, as words of a sentence."""
    return {
        "list": Lazy(f"{group}.commands:list_", f"List {all_}.", ("ls", "ps", "all", "stats")),
        "pause": Lazy(f"{group}.commands:pause", f"Keep jobs of {one} from starting.", ("hold", "suspend", "disable")),
        "resume": Lazy(
            f"{group}.commands:resume", f"Let jobs of {one} start again.", ("unpause", "start", "continue", "enable")
        ),
    }

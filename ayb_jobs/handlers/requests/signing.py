"""Signs what is sent, by Standard Webhooks, so that a receiver can tell who sent it, whole, and when."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook


def signed(message_id: str, body: str, secrets: Sequence[str]) -> Mapping[str, str]:
    """Return the headers of a message: its id, the time, and a signature by each of the secrets.

    A receiver takes any signature that is right, so that a secret can be changed while messages are sent.
    """
    now = datetime.now(UTC)
    headers = {"webhook-id": message_id, "webhook-timestamp": str(int(now.timestamp()))}
    if secrets:
        signatures = [Webhook(secret).sign(message_id, now, body) for secret in secrets]
        headers["webhook-signature"] = " ".join(signatures)
    return headers

"""A certificate for 127.0.0.1 that nobody trusts unless told, and its key, which is no secret."""

import ssl
from pathlib import Path

CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBUDCB+KADAgECAgEBMAoGCCqGSM49BAMCMA8xDTALBgNVBAMMBHRlc3QwIBcN
MjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMA8xDTALBgNVBAMMBHRlc3Qw
WTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAShHO5CaO31llqnWKvsC9RqumQJ7cNs
1SmSQjj/0PxfyqOdPmQR6iHdaFLTE8J/oQ1k0TsgIxcW6DTQuP8JY8Rao0MwQTAP
BgNVHREECDAGhwR/AAABMA8GA1UdEwEB/wQFMAMBAf8wHQYDVR0OBBYEFJkDf9D1
r8U8YvsdpDf8FTI0qboRMAoGCCqGSM49BAMCA0cAMEQCIHjLgwJDKRUJwALvuKJe
S4G5Y5PM0UDIXYH/UeBvqVpJAiBRKsso5DHL9bEDlCGGDZiqZrNm5GG8XiW4i15f
tnSkuQ==
-----END CERTIFICATE-----
"""
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg03f7okcwEJalhmbQ
8LHz89tUieHhPBk8nOC6RQM8QdqhRANCAAShHO5CaO31llqnWKvsC9RqumQJ7cNs
1SmSQjj/0PxfyqOdPmQR6iHdaFLTE8J/oQ1k0TsgIxcW6DTQuP8JY8Ra
-----END PRIVATE KEY-----
"""


def server_context(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """Return what a server needs for TLS, and the file that a client has to trust."""
    trusted = folder / "trusted.pem"
    trusted.write_text(CERTIFICATE)
    both = folder / "server.pem"
    both.write_text(KEY + CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, trusted

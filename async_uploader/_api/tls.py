"""Why a TLS connection fails, in words. Pure; knows OpenSSL's names and codes."""

from __future__ import annotations

import ssl
from enum import IntEnum
from typing import Final

from async_uploader._parsing import sentence


class _VerifyCode(IntEnum):
    """OpenSSL's codes of why a certificate is not trusted (X509_V_ERR_…)."""

    NOT_YET_VALID = 9
    EXPIRED = 10
    OTHER_NAME = 62
    OTHER_ADDRESS = 64


def why_not_trusted(error: object) -> str:
    """Why a certificate is refused, as a part of a sentence about the server."""
    why = sentence(getattr(error, "verify_message", "")) or sentence(str(error)) or "no reason given"
    match getattr(error, "verify_code", None):
        case _VerifyCode.NOT_YET_VALID:
            return "its certificate is not valid yet; check the clock of this machine"
        case _VerifyCode.EXPIRED:
            return "its certificate has expired; it must be renewed there, if the clock of this machine is right"
        case _VerifyCode.OTHER_NAME | _VerifyCode.OTHER_ADDRESS:
            return f"its certificate is for another name ({why.rstrip('.')})"
    return f"its certificate is not trusted ({why.rstrip('.')}); SSL_CERT_FILE can name a CA of your own"


_NO_VERSION: Final = "the server and this machine have no TLS version in common"
# OpenSSL's names of what went wrong in a handshake, in words; others are shown as they are.
_TLS_REASONS: Final = {
    "TLSV1_ALERT_PROTOCOL_VERSION": _NO_VERSION,
    "UNSUPPORTED_PROTOCOL": _NO_VERSION,
    "NO_PROTOCOLS_AVAILABLE": "this machine allows no TLS version",
    "WRONG_VERSION_NUMBER": "the server does not speak TLS; check the address and the port",
    "HTTP_REQUEST": "the server does not speak TLS; check the address and the port",
}


def why_no_tls(error: OSError) -> str:
    """Why there is no TLS connection, as a part of a sentence."""
    name = getattr(error, "reason", None)
    if isinstance(error, ConnectionError | ssl.SSLEOFError):
        return f"the connection was closed; perhaps {_NO_VERSION}"
    if not isinstance(name, str):
        return sentence(error.strerror) or sentence(str(error)) or type(error).__name__
    _, _, alert = name.partition("_ALERT_")
    words = (alert or name).replace("_", " ").lower()
    return _TLS_REASONS.get(name) or (f"the server refused it ({words})" if alert else words)


def is_lasting(error: OSError) -> bool:
    """Whether the same handshake will fail again: both sides have spoken, and do not agree."""
    return isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)

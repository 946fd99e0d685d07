"""Explains why a TLS connection failed, from the names and codes of OpenSSL. Pure."""

from __future__ import annotations

import ssl
from enum import IntEnum
from typing import Final

from async_uploader._parsing import single_line


class _VerifyCode(IntEnum):
    """OpenSSL's codes for an untrusted certificate (``X509_V_ERR_…``)."""

    NOT_YET_VALID = 9
    EXPIRED = 10
    OTHER_NAME = 62
    OTHER_ADDRESS = 64


def certificate_problem(error: object) -> str:
    """Why a certificate is not trusted, as part of a sentence."""
    reason = single_line(getattr(error, "verify_message", "")) or single_line(str(error)) or "no reason given"
    match getattr(error, "verify_code", None):
        case _VerifyCode.NOT_YET_VALID:
            return "its certificate is not valid yet; check the clock of this machine"
        case _VerifyCode.EXPIRED:
            return "its certificate has expired; check the clock of this machine, or ask the operator to renew it"
        case _VerifyCode.OTHER_NAME | _VerifyCode.OTHER_ADDRESS:
            return f"its certificate is for another name ({reason.rstrip('.')})"
    return f"its certificate is not trusted ({reason.rstrip('.')}); set SSL_CERT_FILE to trust a CA of your own"


_NO_VERSION: Final = "the server and this machine have no TLS version in common"
# Explanations for OpenSSL's names of handshake failures. Other names are shown in lower case.
_TLS_REASONS: Final = {
    "TLSV1_ALERT_PROTOCOL_VERSION": _NO_VERSION,
    "UNSUPPORTED_PROTOCOL": _NO_VERSION,
    "NO_PROTOCOLS_AVAILABLE": "this machine allows no TLS version",
    "WRONG_VERSION_NUMBER": "the server does not speak TLS; check the address and the port",
    "HTTP_REQUEST": "the server does not speak TLS; check the address and the port",
}


def tls_problem(error: OSError) -> str:
    """Why a TLS connection failed, as part of a sentence."""
    name = getattr(error, "reason", None)
    if isinstance(error, ConnectionError | ssl.SSLEOFError):
        return f"the connection was closed; perhaps {_NO_VERSION}"
    if not isinstance(name, str):
        return single_line(error.strerror) or single_line(str(error)) or "no reason given"
    _, _, alert = name.partition("_ALERT_")
    words = (alert or name).replace("_", " ").lower()
    return _TLS_REASONS.get(name) or (f"the server refused it ({words})" if alert else words)


def is_permanent(error: OSError) -> bool:
    """Whether a retry of the handshake will fail, too: the two sides have no common settings."""
    return isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)

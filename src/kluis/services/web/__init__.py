"""HTTP parts that all services share: operations, errors, bearer tokens, health, metrics, logs.

A service declares its :class:`Operation` s; :class:`Service` is the ASGI application that serves them.
"""

from kluis.services.web.bearer import Bearer, Caller, Issuer, WrongAudience
from kluis.services.web.call import Answer, Call
from kluis.services.web.operation import Operation
from kluis.services.web.refusal import Refusal
from kluis.services.web.service import Gate, Service
from kluis.services.web.telemetry import Happening

__all__ = [
    "Answer",
    "Bearer",
    "Call",
    "Caller",
    "Gate",
    "Happening",
    "Issuer",
    "Operation",
    "Refusal",
    "Service",
    "WrongAudience",
]

"""MLflow's webhooks: who sent this, and is it new?

MLflow signs `DELIVERY_ID.TIMESTAMP.BODY` with HMAC-SHA256 and sends `v1,` and the signature in base64.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from hashlib import sha256

__all__ = ["verify"]

# A signature is good for this long, as the Standard Webhooks that MLflow follows recommend.
_TOLERANCE_S = 300.0


def verify(headers: Mapping[str, str], body: bytes, secret: bytes, now_s: float) -> bool:
    """Whether a delivery was signed with `secret` within the last five minutes; compares in constant time."""
    delivery, timestamp = headers.get("x-mlflow-delivery-id", ""), headers.get("x-mlflow-timestamp", "")
    scheme, _, signature = headers.get("x-mlflow-signature", "").partition(",")
    if scheme != "v1" or not timestamp.isdecimal() or abs(now_s - int(timestamp[:12])) > _TOLERANCE_S:
        return False
    try:
        given = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return False
    signed = b".".join((delivery.encode(), timestamp.encode(), body))
    return hmac.compare_digest(given, hmac.new(secret, signed, sha256).digest())

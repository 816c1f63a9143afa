"""Content keys: short names that are equal if, and only if, the values are."""

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """Return JSON with sorted keys: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def content_key(value: Any) -> str:
    """Return 16 hex digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()[:16]

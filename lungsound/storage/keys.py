"""Content keys: equal values, equal names."""

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def content_key(value: Any) -> str:
    """16 hex digits that name a value: equal values, equal keys."""
    return hashlib.sha256(canonical_json(value)).hexdigest()[:16]

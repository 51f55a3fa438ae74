"""What schemathesis is told beside the API's own description."""

import itertools
import re

import schemathesis

NUMBERS = itertools.count(1)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Nobody waits minutes for a job that does not come: waits that are allowed are made short. Nor does anybody name two
    requests alike that are not: keys that are allowed are made new, but for one of several. And no address is called but one of this
machine where nobody is."""
    headers = case.headers or {}
    for name in headers:
        key = headers[name]
        if name.lower() == "idempotency-key" and isinstance(key, str) and key.isalnum():
            number = next(NUMBERS)
            headers[name] = f"key-{number - number % 4 // 3}"
    body = case.body
    if case.path == "/v1/leases" and isinstance(body, dict) and isinstance(body.get("wait"), str):
        if body["wait"] and body["wait"][-1] in "smhd":
            body["wait"] = "1ms"
    if case.path == "/v1/webhooks/{webhook}" and isinstance(body, dict) and isinstance(body.get("url"), str):
        if re.match("https?://[^/@#]+(/[^#]*)?$", body["url"], re.IGNORECASE):
            body["url"] = "http://127.0.0.1:1/"

"""What schemathesis is told beside the API's own description."""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    """Nobody waits minutes for a job that does not come: waits that are allowed are made short."""
    body = case.body
    if case.path == "/v1/leases" and isinstance(body, dict) and isinstance(body.get("wait"), str):
        if body["wait"] and body["wait"][-1] in "smhd":
            body["wait"] = "1ms"

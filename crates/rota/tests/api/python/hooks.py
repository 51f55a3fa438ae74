"""What schemathesis is told beside the API's own description."""

import itertools
import os
import re

import requests
import schemathesis
from schemathesis.generation.meta import TestPhase

# Where the server is, for who asks it beside, and with which token.
URL, TOKEN = os.environ.get("ROTA_API_URL"), os.environ.get("ROTA_API_TOKEN")

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
    # By chance nothing that is named is there. Of those requests that are right, every other one is about something that is.
    is_right = case.meta is not None and case.meta.phase.name == TestPhase.FUZZING and case.meta.generation.mode.is_positive
    if URL and is_right and next(NUMBERS) % 2 == 0:
        name_what_is_there(case)


def name_what_is_there(case):
    if case.path in ("/v1/jobs/cancel", "/v1/jobs/kick", "/v1/jobs/retry"):
        case.body = {"q": "queue:made-*", "dry_run": True}
    if case.path == "/v1/webhooks/{webhook}" and case.method == "PUT":
        case.body = {"url": "http://127.0.0.1:1/"}
    for part in ("id", "lease", "schedule", "webhook"):
        if f"{{{part}}}" in case.path:
            case.path_parameters[part] = make(part, case.path)


def make(part, path):
    """What a request can be about; its name."""
    name = f"made-{next(NUMBERS)}"
    if part == "schedule":
        ask("PUT", f"/v1/schedules/{name}", {"every": "24h", "job": {"queue": name, "text": "x"}})
        return name
    if part == "webhook":
        ask("DELETE", "/v1/webhooks/made")
        ask("PUT", "/v1/webhooks/made", {"url": "http://127.0.0.1:1/"})
        if path.endswith("/old-secret"):
            ask("POST", "/v1/webhooks/made/rotate", {})
        return "made"
    job = ask("POST", "/v1/jobs", {"queue": name, "text": "x", "delay": "1h" if path.endswith("/kick") else "0s"})
    if part == "lease":
        return ask("POST", "/v1/leases", {"queues": [name]})["leases"][0]["lease"]
    return job["id"]


def ask(method, path, body=None):
    headers = {"authorization": f"Bearer {TOKEN}"}
    return requests.request(method, URL + path, json=body, headers=headers, timeout=300).json()


@schemathesis.hook
def after_call(context, case, response):
    """Writes down what was asked and how it was answered, a line each, for who counts."""
    if path := os.environ.get("ROTA_API_ASKED"):
        with open(path, "a", encoding="utf-8") as asked:
            asked.write(f"{case.operation.label} {response.status_code}\n")

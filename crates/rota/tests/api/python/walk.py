"""A walk through the HTTP API with nothing but requests, as a user would write it.

Usage: walk.py HOST PORT. Prints a line for each step, and ends with status 1 at the first answer that is not the expected.
"""

import base64
import json
import sys
import threading
from datetime import datetime

import requests


def moment(text):
    """Moments have as many digits behind the second as they need, so that as texts they do not compare."""
    return datetime.fromisoformat(text)


class Api:
    """The API at one address."""

    def __init__(self, host, port):
        self.url = f"http://{host}:{port}"
        self.session = requests.Session()

    def call(self, method, path, body=None, status=200):
        answer = self.session.request(method, self.url + path, json=body, timeout=300)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        expected = "application/problem+json" if status >= 400 else "application/json"
        assert answer.headers["content-type"] == expected, answer.headers
        return answer.json()


def step(name):
    print(name, flush=True)


def walk(api):
    step("put")
    job = api.call("POST", "/v1/jobs", {"queue": "mail", "json": {"to": "ann"}, "key": "welcome-1"}, 201)
    assert job["state"] == "ready" and job["priority"] == 1024 and job["max_attempts"] == 25, job
    bytes_job = {"queue": "mail", "base64": base64.b64encode(b"\x00\xff").decode(), "priority": 2000}
    second = api.call("POST", "/v1/jobs", bytes_job, 201)

    step("key")
    taken = api.call("POST", "/v1/jobs", {"queue": "mail", "text": "x", "key": "welcome-1"}, 409)
    assert taken["type"] == "/problems/key-taken" and taken["job"] == job["id"], taken
    kept = {"queue": "mail", "text": "x", "key": "welcome-1", "on_conflict": "keep"}
    assert api.call("POST", "/v1/jobs", kept)["id"] == job["id"]
    assert api.call("GET", "/v1/queues/mail/keys/welcome-1")["json"] == {"to": "ann"}

    step("reserve")
    leases = api.call("POST", "/v1/leases", {"queues": ["mail"], "count": 10})["leases"]
    assert [lease["job"]["id"] for lease in leases] == [job["id"], second["id"]], leases
    assert base64.b64decode(leases[1]["job"]["base64"]) == b"\x00\xff", leases
    touched = api.call("POST", f"/v1/leases/{leases[0]['lease']}/touch")
    assert moment(touched["ends_at"]) >= moment(leases[0]["ends_at"]), touched

    step("complete")
    assert api.call("POST", f"/v1/leases/{leases[0]['lease']}/complete") == {"id": job["id"]}
    ended = api.call("POST", f"/v1/leases/{leases[0]['lease']}/complete", status=409)
    assert ended["type"] == "/problems/lease-outdated", ended
    api.call("GET", f"/v1/jobs/{job['id']}", status=404)

    step("fail, release, bury")
    failed = api.call("POST", f"/v1/leases/{leases[1]['lease']}/fail", {"delay": "1h"})
    assert failed["state"] == "delayed" and failed["attempts"] == 1, failed
    api.call("POST", f"/v1/jobs/{second['id']}/kick")
    [lease] = api.call("POST", "/v1/leases", {"queues": ["mail"]})["leases"]
    released = api.call("POST", f"/v1/leases/{lease['lease']}/release", {"priority": 5})
    assert released["state"] == "ready" and released["priority"] == 5, released
    [lease] = api.call("POST", "/v1/leases", {"queues": ["mail"]})["leases"]
    assert api.call("POST", f"/v1/leases/{lease['lease']}/bury")["state"] == "buried"
    assert api.call("POST", "/v1/queues/mail/kick") == {"kicked": 1, "source": "buried"}

    step("cancel")
    api.call("DELETE", f"/v1/jobs/{second['id']}")
    api.call("DELETE", f"/v1/jobs/{second['id']}", status=404)

    step("wait")
    late = []
    waits = {"queues": ["later"], "wait": "1m"}
    other = Api(*api.url.removeprefix("http://").split(":"))
    waiter = threading.Thread(target=lambda: late.extend(other.call("POST", "/v1/leases", waits)["leases"]))
    waiter.start()
    api.call("POST", "/v1/jobs", {"queue": "later", "text": "now", "delay": "20ms"}, 201)
    waiter.join()
    assert [lease["job"]["text"] for lease in late] == ["now"], late
    api.call("POST", f"/v1/leases/{late[0]['lease']}/complete")

    step("stream")
    for text in ["one", "two", "three"]:
        api.call("POST", "/v1/jobs", {"queue": "pictures", "text": text}, 201)
    wish, lines = {"queues": ["pictures"], "max": 1}, {"accept": "application/x-ndjson"}
    worked = []
    with requests.post(f"{api.url}/v1/leases/stream", json=wish, headers=lines, stream=True, timeout=300) as stream:
        assert stream.headers["content-type"] == "application/x-ndjson", stream.headers
        for said in map(json.loads, stream.iter_lines(chunk_size=1)):
            if said["kind"] == "lease":
                worked.append(said["job"]["text"])
                api.call("POST", f"/v1/leases/{said['lease']}/complete")
            elif said["kind"] == "ended" and len(worked) == 3:
                break
    assert worked == ["one", "two", "three"], worked

    step("many")
    jobs = [{"queue": "bulk", "text": str(n)} for n in range(250)]
    results = api.call("POST", "/v1/jobs", {"jobs": jobs})["results"]
    assert [result["status"] for result in results] == [201] * 250
    seen, cursor = [], ""
    while True:
        page = api.call("GET", f"/v1/jobs?queue=bulk&limit=100{cursor}")
        seen += [job["id"] for job in page["jobs"]]
        if "cursor" not in page:
            break
        cursor = f"&cursor={page['cursor']}"
    assert len(seen) == 250 and len(set(seen)) == 250, len(seen)

    step("queue")
    api.call("POST", "/v1/queues/bulk/pause", {"for": "10m"})
    assert api.call("POST", "/v1/leases", {"queues": ["bulk"]}) == {"leases": []}
    queue = api.call("POST", "/v1/queues/bulk/resume")
    assert queue["jobs"]["ready"] == 250 and "paused_until" not in queue, queue
    names = [queue["name"] for queue in api.call("GET", "/v1/queues")["queues"]]
    assert "bulk" in names, names

    step("problem")
    wrong = api.call("POST", "/v1/jobs", {"queue": "mail", "text": "x", "prioritty": 1}, 422)
    assert wrong["pointer"] == "#/prioritty" and "priority" in wrong["hint"], wrong

    step("stats")
    stats = api.call("GET", "/v1/stats")
    assert stats["jobs"]["ready"] == 250 and stats["totals"]["cancelled"] == 1, stats
    print("done")


if __name__ == "__main__":
    walk(Api(sys.argv[1], sys.argv[2]))

"""What the Python scripts share: running one step after another and printing each answer in a form that only differs
from server to server where the servers differ."""

import threading
import time
import zlib

# Values that depend on the machine, the moment or how the server was started.
SERVER_UNSTABLE = {
    "pid", "version", "uptime", "id", "hostname", "os", "platform", "rusage-utime", "rusage-stime",
    "binlog-oldest-index", "binlog-current-index", "binlog-max-size", "binlog-records-written",
    "binlog-records-migrated", "current-connections", "total-connections",
    # Whoever starts a server may ask for them before the script does.
    "cmd-stats",
}
LAST_STANDARD_SERVER_KEY = "platform"
DEADLINE_SECONDS = 300


class TooSlow(Exception):
    """A lease of a second was over before the steps that need it had run."""


class Run:
    """One walk through a client. `errors` maps an exception the client may raise to the text of the answer."""

    def __init__(self, errors):
        self.errors = errors
        self.first_id = None
        # Connections that stay open until the end: what the server counts after a close depends on when it sees it.
        self.open = []
        self._held_back = None
        self._lease_began = None

    def job(self, job_id):
        """A job id as its distance from the first one seen."""
        if self.first_id is None:
            self.first_id = job_id
        return f"job{job_id - self.first_id:+d}"

    def step(self, name, call, show=None):
        """Runs `call`, prints its answer or its error, and returns what it returned (`None` after an error)."""
        result = None
        try:
            result = call()
            answer = "done" if result is None else (show or plain)(result)
        except Exception as error:
            answer = self.errors(error)
            if answer is None:
                raise
        line = f"{name}: {answer}"
        if self._held_back is None:
            print(line, flush=True)
        else:
            self._held_back.append(line)
        return result

    def attempt(self, steps, undo):
        """Runs `steps`, which race against leases of a second, again if this machine was too busy to win.

        `undo` takes away what a lost attempt left and returns how many jobs it had put.
        """
        for _ in range(60):
            self._held_back = []
            try:
                steps()
            except TooSlow:
                self._held_back = None
                self.first_id += undo()
                continue
            for line in self._held_back:
                print(line, flush=True)
            self._held_back = None
            return
        raise SystemExit("this machine stalls for a second again and again")

    def lease_begins(self):
        """To be called before a lease of a second begins."""
        self._lease_began = time.monotonic()

    def lease_holds(self):
        """To be called after the steps that need the lease."""
        if time.monotonic() - self._lease_began > 0.9:
            raise TooSlow

    def until(self, what, condition):
        """Asks `condition` again and again until it holds; what it waited for is no step."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit(f"waited {DEADLINE_SECONDS} s in vain: {what}")
            time.sleep(0.01)

    def job_stats(self, stats):
        """`stats-job`, without the age and the file; time left is shown by what it is near to."""
        shown = []
        for key, value in stats.items():
            if key in ("age", "file"):
                continue
            if key == "id":
                value = self.job(value)
            if key == "time-left":
                limit = {"reserved": stats["ttr"], "delayed": stats["delay"]}.get(stats["state"], 0)
                value = near(value, limit)
            shown.append(f"{key}={value}")
        return " ".join(shown)


class Background:
    """A call that blocks, in a thread of its own, so that the script can act meanwhile."""

    def __init__(self, call):
        self._call = call
        self._result = None
        self._error = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self._result = self._call()
        except Exception as error:
            self._error = error

    def result(self):
        """What the call returned or raised, once it has."""
        self._thread.join(DEADLINE_SECONDS)
        if self._thread.is_alive():
            raise SystemExit(f"a call did not return within {DEADLINE_SECONDS} s")
        if self._error is not None:
            raise self._error
        return self._result


def plain(value):
    if isinstance(value, (bytes, str)):
        return body(value)
    return str(value)


def body(data):
    """Short bodies as a Python literal, long ones by length and checksum."""
    if len(data) <= 64:
        return repr(data)
    raw = data if isinstance(data, bytes) else data.encode()
    return f"{len(data)} long, crc32 {zlib.crc32(raw):08x}"


def near(value, limit):
    """A count of seconds that runs down from `limit`, without saying how far it has run."""
    return f"near {limit}" if limit and max(0, limit - 10) <= value <= limit else str(value)


def keys(stats):
    return " ".join(stats)


def tube_stats(stats):
    shown = dict(stats)
    shown["pause-time-left"] = near(shown["pause-time-left"], shown["pause"])
    return " ".join(f"{key}={value}" for key, value in shown.items())


def standard_keys(stats):
    """The server's keys up to the last one beanstalkd has; a server may add its own after it."""
    names = list(stats)
    return " ".join(names[: names.index(LAST_STANDARD_SERVER_KEY) + 1])


def further_keys(stats):
    names = list(stats)
    return " ".join(names[names.index(LAST_STANDARD_SERVER_KEY) + 1 :]) or "none"


def server_stats(stats):
    shown = [key for key in standard_keys(stats).split() if key not in SERVER_UNSTABLE]
    return " ".join(f"{key}={stats[key]}" for key in shown)

"""Walks through every method of greenstalk against the server at HOST PORT and prints a line per step."""

import re
import socket
import sys
import time

import greenstalk
from greenstalk import Client

from steps import Background, Run, further_keys, plain, server_stats, standard_keys, tube_stats

HOST, PORT = sys.argv[1], int(sys.argv[2])
TUBE, OTHER, THIRD = "greenstalk", "greenstalk-other", "greenstalk-third"
EVERY_NAME_CHARACTER = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-+/;.$_()"


NAMES = [
    ("200-long", "n" * 200), ("201-long", "n" * 201), ("empty", ""), ("dash-first", "-dash"),
    ("star", "sta*r"), ("space", "spa ce"), ("every-character", EVERY_NAME_CHARACTER), ("not-ascii", "tübe"),
    ("digits", "7"), ("nul", "nu\0l"),
]


def error_text(error):
    if isinstance(error, greenstalk.UnknownResponseError):
        return f"UnknownResponseError {error.status!r} {error.values!r}"
    if isinstance(error, (greenstalk.Error, ConnectionError, UnicodeError, TypeError)):
        return type(error).__name__
    return None


run = Run(error_text)
step, until = run.step, run.until


def connect(**options):
    options.setdefault("encoding", None)
    return Client((HOST, PORT), **options)


def show_job(job):
    return f"{run.job(job.id)} {plain(job.body)}"


def put_jobs(client, bodies, **options):
    return [client.put(body, **options) for body in bodies]


def watching(client):
    return client.stats_tube(TUBE)["current-watching"]


def drain(client, prefix, count):
    for index in range(count):
        job = step(f"{prefix}-{index + 1}", lambda: client.reserve(timeout=0), show_job)
        if job is not None:
            client.delete(job)
    step(f"{prefix}-then", lambda: client.reserve(timeout=0), show_job)


def names(client):
    step("using-at-first", client.using)
    step("watching-at-first", client.watching)
    step("tubes-at-first", client.tubes)
    step("use", lambda: client.use(TUBE))
    step("using", client.using)
    step("watch", lambda: client.watch(TUBE))
    step("watch-twice", lambda: client.watch(TUBE))
    step("watch-other", lambda: client.watch(OTHER))
    step("watching", client.watching)
    step("tubes", client.tubes)
    step("ignore-other", lambda: client.ignore(OTHER))
    step("ignore-unwatched", lambda: client.ignore(OTHER))
    step("ignore-default", lambda: client.ignore("default"))
    step("ignore-last", lambda: client.ignore(TUBE))
    step("watching-after", client.watching)
    step("tubes-after", client.tubes)

    for label, name in NAMES:
        step(f"use-name-{label}", lambda: client.use(name))
        step(f"using-after-{label}", client.using)
        step(f"watch-name-{label}", lambda: client.watch(name))
        step(f"ignore-name-{label}", lambda: client.ignore(name))
        step(f"stats-tube-name-{label}", lambda: client.stats_tube(name), tube_stats)
    client.use(TUBE)
    step("tube-is-gone", lambda: client.stats_tube(EVERY_NAME_CHARACTER), tube_stats)


def pause_names(client):
    for label, name in NAMES:
        try:
            client.use(name)
        except (greenstalk.BadFormatError, UnicodeError):
            pass
        step(f"pause-tube-name-{label}", lambda: client.pause_tube(name, 0))
    client.use(TUBE)


def bodies(client):
    every_byte = bytes(range(256))
    for label, data in [
        ("text", b"hello"), ("empty", b""), ("every-byte", every_byte), ("line-ends", b"\r\n\r\nput 0 0 1 1\r\n"),
        ("nul", b"\0"), ("limit", every_byte * 255 + every_byte[:255]),
    ]:
        job_id = step(f"put-{label}", lambda: client.put(data), run.job)
        step(f"peek-{label}", lambda: client.peek(job_id), show_job)
        job = step(f"reserve-{label}", lambda: client.reserve(timeout=0), show_job)
        step(f"delete-{label}", lambda: client.delete(job))
    step("put-over-limit", lambda: client.put(b"x" * 65536), run.job)
    step("using-after-over-limit", client.using)
    step("put-far-over-limit", lambda: client.put(b"x" * 300000), run.job)
    step("using-after-far-over-limit", client.using)

    text = Client((HOST, PORT), use=TUBE, watch=[TUBE])
    run.open.append(text)
    job_id = step("put-str", lambda: text.put("grüße ✓"), run.job)
    job = step("reserve-str", lambda: text.reserve(timeout=0), show_job)
    step("peek-str", lambda: text.peek(job_id), show_job)
    step("delete-str", lambda: text.delete(job))
    step("put-str-without-encoding", lambda: client.put("text"), run.job)


def arguments(client):
    for label, options in [
        ("defaults", {}), ("most-urgent", {"priority": 0}), ("least-urgent", {"priority": 2**32 - 1}),
        ("urgent", {"priority": 1023}), ("not-urgent", {"priority": 1024}), ("ttr-0", {"ttr": 0}),
        ("ttr-most", {"ttr": 2**32 - 1}), ("delay-most", {"delay": 2**32 - 1}),
        ("all", {"priority": 7, "delay": 100, "ttr": 90}),
    ]:
        job_id = step(f"put-{label}", lambda: client.put(b"a", **options), run.job)
        step(f"stats-job-{label}", lambda: client.stats_job(job_id), run.job_stats)
        step(f"stats-tube-{label}", lambda: client.stats_tube(TUBE), tube_stats)
        step(f"delete-{label}", lambda: client.delete(job_id))

    # The header is refused, so the body is read as a command and its answer comes next.
    for label, options in [
        ("priority-too-large", {"priority": 2**32}), ("priority-negative", {"priority": -1}),
        ("delay-negative", {"delay": -1}), ("ttr-negative", {"ttr": -1}), ("delay-too-large", {"delay": 2**32}),
    ]:
        with connect() as lost:
            step(f"put-{label}", lambda: lost.put(b"kick 0", **options), run.job)
            step(f"using-after-{label}", lost.using)


def order(client):
    put_jobs(client, [b"first", b"second"], priority=5)
    client.put(b"urgent", priority=1)
    client.put(b"third", priority=5)
    client.put(b"least", priority=2**32 - 1)
    step("peek-ready-most-urgent", client.peek_ready, show_job)
    drain(client, "order", 5)

    client.watch(OTHER)
    client.put(b"here", priority=9)
    client.use(OTHER)
    client.put(b"there", priority=8)
    client.put(b"there too", priority=9)
    client.use(TUBE)
    drain(client, "order-across-tubes", 3)
    client.ignore(OTHER)


def life(client, second):
    job_id = step("put", lambda: client.put(b"work", priority=10, ttr=60), run.job)
    step("touch-ready", lambda: client.touch(greenstalk.Job(job_id, b"")))
    step("release-ready", lambda: client.release(greenstalk.Job(job_id, b"")))
    step("bury-ready", lambda: client.bury(greenstalk.Job(job_id, b"")))
    step("kick-job-ready", lambda: client.kick_job(job_id))
    job = step("reserve", client.reserve, show_job)
    step("stats-job-reserved", lambda: client.stats_job(job), run.job_stats)
    step("stats-tube-reserved", lambda: client.stats_tube(TUBE), tube_stats)
    step("touch", lambda: client.touch(job))
    step("touch-of-another", lambda: second.touch(job))
    step("release-of-another", lambda: second.release(job))
    step("bury-of-another", lambda: second.bury(job))
    step("delete-of-another", lambda: second.delete(job))
    step("kick-job-reserved", lambda: client.kick_job(job))
    step("peek-reserved-of-another", lambda: second.peek(job_id), show_job)
    step("reserve-job-reserved", lambda: second.reserve_job(job_id), show_job)
    step("reserve-job-own", lambda: client.reserve_job(job_id), show_job)
    step("release", lambda: client.release(job, priority=3))
    step("stats-job-released", lambda: client.stats_job(job), run.job_stats)
    job = step("reserve-released", lambda: client.reserve(timeout=0), show_job)
    step("release-delayed", lambda: client.release(job, priority=2, delay=100))
    step("stats-job-delayed", lambda: client.stats_job(job), run.job_stats)
    step("peek-delayed", client.peek_delayed, show_job)
    step("kick-job-delayed", lambda: client.kick_job(job))
    step("stats-job-kicked", lambda: client.stats_job(job), run.job_stats)
    job = step("reserve-kicked", lambda: client.reserve(timeout=0), show_job)
    step("bury", lambda: client.bury(job, priority=4))
    step("stats-job-buried", lambda: client.stats_job(job), run.job_stats)
    step("peek-buried", client.peek_buried, show_job)
    step("kick-job-buried", lambda: client.kick_job(job))
    job = step("reserve-job-ready", lambda: client.reserve_job(job_id), show_job)
    step("bury-default-priority", lambda: client.bury(job))
    job = step("reserve-job-buried", lambda: client.reserve_job(job_id), show_job)
    step("release-long-delay", lambda: client.release(job, delay=100))
    job = step("reserve-job-delayed", lambda: client.reserve_job(job_id), show_job)
    step("stats-job-at-last", lambda: client.stats_job(job), run.job_stats)
    step("delete", lambda: client.delete(job))
    step("delete-twice", lambda: client.delete(job))
    step("touch-deleted", lambda: client.touch(job))
    step("release-deleted", lambda: client.release(job))
    step("bury-deleted", lambda: client.bury(job))
    step("kick-job-deleted", lambda: client.kick_job(job))
    step("peek-deleted", lambda: client.peek(job_id), show_job)
    step("reserve-job-deleted", lambda: client.reserve_job(job_id), show_job)
    step("stats-job-deleted", lambda: client.stats_job(job_id), run.job_stats)
    step("peek-ready-none", client.peek_ready, show_job)
    step("peek-delayed-none", client.peek_delayed, show_job)
    step("peek-buried-none", client.peek_buried, show_job)
    step("stats-tube-none", lambda: client.stats_tube(THIRD), tube_stats)
    step("pause-tube-none", lambda: client.pause_tube(THIRD, 1))
    step("delete-0", lambda: client.delete(0))
    step("peek-largest", lambda: client.peek(2**64 - 1), show_job)
    step("peek-too-large", lambda: client.peek(2**64), show_job)

    ready, delayed = client.put(b"ready"), client.put(b"delayed", delay=100)
    buried = client.put(b"buried", priority=0)
    client.bury(client.reserve(timeout=0))
    step("delete-ready-by-another", lambda: second.delete(ready))
    step("delete-delayed-by-another", lambda: second.delete(delayed))
    step("delete-buried-by-another", lambda: second.delete(buried))


def kicks(client):
    for data in (b"b1", b"b2", b"b3"):
        client.put(data)
        client.bury(client.reserve(timeout=0), priority=9 - int(data[1:]))
    put_jobs(client, [b"d1", b"d2"], delay=100)
    step("stats-tube-before-kicks", lambda: client.stats_tube(TUBE), tube_stats)
    step("peek-buried-oldest", client.peek_buried, show_job)
    step("kick-0", lambda: client.kick(0))
    step("kick-2-of-3-buried", lambda: client.kick(2))
    step("kick-buried-only", lambda: client.kick(10))
    step("kick-delayed", lambda: client.kick(10))
    step("kick-nothing", lambda: client.kick(10))
    step("kick-too-many", lambda: client.kick(2**64))
    step("stats-tube-after-kicks", lambda: client.stats_tube(TUBE), tube_stats)
    drain(client, "kicked", 5)


def deadlines(observer):
    with connect(use=THIRD, watch=THIRD) as holder:
        job_id = step("put-ttr-1", lambda: holder.put(b"short", ttr=1), run.job)
        run.lease_begins()
        job = step("reserve-ttr-1", lambda: holder.reserve(timeout=0), show_job)
        step("reserve-near-deadline", lambda: holder.reserve(timeout=0), show_job)
        step("reserve-job-near-deadline", lambda: holder.reserve_job(job_id), show_job)
        step("touch-ttr-1", lambda: holder.touch(job))
        step("reserve-still-near-deadline", lambda: holder.reserve(timeout=5), show_job)
        step("put-ready-near-deadline", lambda: holder.put(b"ready beats the deadline"), run.job)
        ready = step("reserve-ready-near-deadline", lambda: holder.reserve(timeout=0), show_job)
        run.lease_holds()
        step("delete-ready-near-deadline", lambda: holder.delete(ready))

        expired = []

        def comes_back():
            run.lease_begins()
            try:
                expired.append(holder.reserve(timeout=5))
            except greenstalk.DeadlineSoonError:
                return False
            return True

        until("a job with a TTR of 1 comes back", comes_back)
        step("expired-comes-back", lambda: expired[0], show_job)
        step("stats-job-expired", lambda: observer.stats_job(job_id), run.job_stats)
        step("delete-expired", lambda: holder.delete(job_id))
        run.lease_holds()


def undo_deadlines(client):
    """Waits until the lost attempt's tube is gone, deleting what comes back into it."""

    def empty():
        try:
            stats = client.stats_tube(THIRD)
        except greenstalk.NotFoundError:
            return True
        if stats["current-jobs-ready"]:
            client.watch(THIRD)
            client.delete(client.reserve(timeout=0))
            client.ignore(THIRD)
        return False

    until("the lost attempt's jobs are gone", empty)
    return 2


def time_outs(client, second):
    step("reserve-time-out-too-large", lambda: client.reserve(timeout=2**32), show_job)
    before = time.monotonic()
    step("reserve-1-second", lambda: client.reserve(timeout=1), show_job)
    step("reserve-1-second-waited", lambda: time.monotonic() - before >= 0.9)

    run.attempt(lambda: deadlines(client), lambda: undo_deadlines(client))

    far = client.put(b"far", delay=100)
    step("reserve-too-early", lambda: client.reserve(timeout=0), show_job)
    client.delete(far)
    late = step("put-delay-1", lambda: client.put(b"late", delay=1), run.job)
    job = step("reserve-when-due", lambda: client.reserve(timeout=120), show_job)
    step("stats-job-was-delayed", lambda: client.stats_job(late), run.job_stats)
    step("release-delay-1", lambda: client.release(job, delay=1))
    job = step("reserve-released-when-due", lambda: second.reserve(timeout=120), show_job)
    step("delete-late", lambda: second.delete(job))

    put_jobs(client, [b"due, not urgent"], priority=9, delay=1)
    put_jobs(client, [b"due, urgent"], priority=1, delay=1)
    until("two delayed jobs are ready", lambda: client.stats_tube(TUBE)["current-jobs-ready"] == 2)
    drain(client, "due-together", 2)


def pauses(client, second):
    client.put(b"held up")
    step("pause-tube", lambda: client.pause_tube(TUBE, 60))
    step("stats-tube-paused", lambda: client.stats_tube(TUBE), tube_stats)
    step("reserve-paused", lambda: client.reserve(timeout=0), show_job)
    step("peek-ready-paused", client.peek_ready, show_job)
    waiting = Background(lambda: second.reserve(timeout=120))
    until("a consumer waits", lambda: client.stats_tube(TUBE)["current-waiting"] == 1)
    step("pause-tube-0", lambda: client.pause_tube(TUBE, 0))
    job = step("reserve-unpaused", waiting.result, show_job)
    step("release-unpaused", lambda: second.release(job))
    step("stats-tube-unpaused", lambda: client.stats_tube(TUBE), tube_stats)
    step("pause-tube-1", lambda: client.pause_tube(TUBE, 1))
    job = step("reserve-after-pause", lambda: second.reserve(timeout=120), show_job)
    step("delete-after-pause", lambda: second.delete(job))


def clocks(client):
    """Whoever only looks sees time go by too: nothing is asked of the server meanwhile, so nothing else moves it on."""
    job_id = step("put-to-grow-old", lambda: client.put(b"old", ttr=60), run.job)
    job = step("reserve-to-grow-old", lambda: client.reserve(timeout=0), show_job)
    client.pause_tube(TUBE, 60)
    began = time.monotonic()

    # However busy the machine is, the server has seen at least as much time go by as the client has between an answer
    # and its next question.
    time.sleep(1.1)
    passed = time.monotonic() - began
    job_stats, pause_left = client.stats_job(job_id), client.stats_tube(TUBE)["pause-time-left"]
    step("age-grows", lambda: job_stats["age"] >= int(passed))
    step("time-left-falls", lambda: job_stats["time-left"] <= 60 - passed)
    step("pause-time-left-falls", lambda: pause_left <= 60 - passed)
    client.pause_tube(TUBE, 0)
    step("delete-old", lambda: client.delete(job))


def connections(client, second):
    waiting = Background(lambda: second.reserve())
    until("a consumer waits", lambda: client.stats_tube(TUBE)["current-waiting"] == 1)
    step("stats-tube-waiting", lambda: client.stats_tube(TUBE), tube_stats)
    step("put-to-waiting", lambda: client.put(b"at once"), run.job)
    job = step("waiting-got", waiting.result, show_job)
    step("stats-tube-got", lambda: client.stats_tube(TUBE), tube_stats)
    step("delete-got", lambda: second.delete(job))

    third = connect(watch=TUBE)
    both = [Background(lambda c=c: c.reserve(timeout=120)) for c in (second, third)]
    until("two consumers wait", lambda: client.stats_tube(TUBE)["current-waiting"] == 2)
    put_jobs(client, [b"one", b"two"])
    got = [waiting.result() for waiting in both]
    step("two-waiting-got", lambda: sorted(job.body for job in got))
    for owner, job in zip((second, third), got):
        owner.delete(job)

    kept = step("put-to-be-given-back", lambda: client.put(b"given back"), run.job)
    step("reserve-then-close", lambda: third.reserve(timeout=0), show_job)
    waiting = Background(lambda: second.reserve(timeout=120))
    until("a consumer waits", lambda: client.stats_tube(TUBE)["current-waiting"] == 1)
    third.close()
    job = step("given-back-to-waiting", waiting.result, show_job)
    step("stats-job-given-back", lambda: client.stats_job(kept), run.job_stats)
    step("delete-given-back", lambda: second.delete(job))

    plain_socket = socket.create_connection((HOST, PORT))
    with Client(plain_socket, None, use=OTHER, watch=[OTHER, "default"]) as over_socket:
        step("over-socket-using", over_socket.using)
        step("over-socket-watching", over_socket.watching)
        step("over-socket-representation", lambda: repr(over_socket).startswith("greenstalk.Client("))
    until("the tube is gone", lambda: OTHER not in client.tubes())
    step("stats-tube-gone", lambda: client.stats_tube(OTHER), tube_stats)


def main():
    client, second = connect(), connect(watch=TUBE)
    stats = step("stats-at-first", client.stats, server_stats)
    step("stats-keys", lambda: stats, standard_keys)
    step("stats-keys-after", lambda: stats, further_keys)
    step("version-is-a-number", lambda: bool(re.fullmatch(r"[0-9]+\.[0-9]+", stats["version"])))
    names(client)
    bodies(client)
    arguments(client)
    order(client)
    life(client, second)
    kicks(client)
    # What comes after this asks until something holds: how often is no matter of the server's.
    step("stats-in-the-middle", client.stats, server_stats)
    # beanstalkd counts some of the refused ones, so they come after the counters.
    pause_names(client)
    time_outs(client, second)
    pauses(client, second)
    clocks(client)
    connections(client, second)
    for connection in run.open:
        connection.close()
    until("the other connections are gone", lambda: watching(client) == 2 and len(client.tubes()) == 2)
    step("stats-tube-at-last", lambda: client.stats_tube(TUBE), tube_stats)
    step("tubes-at-last", client.tubes)
    second.close()
    client.close()
    step("after-close", lambda: client._sock.fileno() == -1)


main()

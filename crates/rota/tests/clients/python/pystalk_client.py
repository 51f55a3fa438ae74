"""Walks through every method of pystalk against the server at HOST PORT and prints a line per step.

pystalk has no touch, no peek by id, no reserve-job and none of the two commands that name a connection's own tubes.
"""

import logging
import re
import sys
import time

from pystalk import BeanstalkClient, BeanstalkError, ProductionPool
from pystalk.client import BeanstalkConnectionError, Job
from pystalk.pool import NoMoreClients

from steps import Background, Run, further_keys, plain, server_stats, standard_keys, tube_stats

HOST, PORT = sys.argv[1], int(sys.argv[2])
TUBE, OTHER, THIRD = "pystalk", "pystalk-other", "pystalk-third"


NAMES = [
    ("200-long", "n" * 200), ("201-long", "n" * 201), ("empty", ""), ("dash-first", "-dash"), ("star", "sta*r"),
    ("space", "spa ce"), ("not-ascii", "tübe"), ("nul", "nu\0l"), ("number", "7"),
]


def error_text(error):
    if isinstance(error, BeanstalkConnectionError):
        return "BeanstalkConnectionError"
    if isinstance(error, BeanstalkError):
        return f"BeanstalkError {error.message}"
    if isinstance(error, (NoMoreClients, KeyError, ValueError)):
        return f"{type(error).__name__} {error}"
    return None


run = Run(error_text)
step, until = run.step, run.until


def connect(tube, **options):
    client = BeanstalkClient(HOST, PORT, **options)
    client.use(tube)
    client.watch(tube)
    return client


def show_job(job):
    return f"{run.job(job.job_id)} {plain(job.job_data)}"


def show_jobs(jobs):
    return ", ".join(show_job(job) for job in jobs) or "none"


def show_put(answer):
    status, job_id = answer
    return f"{status!r} {run.job(job_id)}"


def no_job(job_id):
    return Job(job_id, b"")


def drain(client, name):
    """Reserves by pystalk's own iterator until nothing is left, deleting each job."""

    def each():
        jobs = []
        for job in client.reserve_iter():
            client.delete_job(job)
            jobs.append(job)
        return jobs

    step(name, each, show_jobs)


def alone(client):
    """True when only this connection and the second use the server."""
    stats = client.stats_tube(TUBE)
    return stats["current-using"] == stats["current-watching"] == 2 and len(client.list_tubes()) == 2


def names(client):
    step("list-tubes-at-first", client.list_tubes)
    step("watchlist-at-first", lambda: sorted(client.watchlist))
    step("use", lambda: client.use(TUBE))
    step("watch", lambda: client.watch(TUBE))
    step("watchlist", lambda: sorted(client.watchlist))
    step("list-tubes", client.list_tubes)
    step("stats-tube", lambda: client.stats_tube(TUBE), tube_stats)
    step("watch-other", lambda: client.watch(OTHER))
    step("watch-twice", lambda: client.watch(OTHER))
    step("list-tubes-with-other", client.list_tubes)
    step("ignore-other", lambda: client.ignore(OTHER))
    step("ignore-unwatched", lambda: client.ignore(OTHER))
    step("ignore-last", lambda: client.ignore(TUBE))
    step("list-tubes-without-other", client.list_tubes)

    setter = BeanstalkClient(HOST, PORT)
    step("set-watchlist", lambda: setattr(setter, "watchlist", [OTHER, "default"]))
    step("set-watchlist-to-other", lambda: setattr(setter, "watchlist", [THIRD]))
    step("set-watchlist-result", lambda: sorted(setter.watchlist))
    step("list-tubes-of-watchlist", setter.list_tubes)
    run.open.append(setter)

    for label, name in NAMES:
        other = BeanstalkClient(HOST, PORT)
        step(f"use-name-{label}", lambda: other.use(name))
        step(f"watch-name-{label}", lambda: other.watch(name))
        step(f"stats-tube-name-{label}", lambda: other.stats_tube(name)["current-using"])
        if label == "number":
            # A name is quoted or not, and YAML makes a text or a number of it.
            step("stats-tube-number-is", lambda: type(other.stats_tube(name)["name"]).__name__)
        run.open.append(other)


def pause_names():
    for label, name in NAMES:
        client = BeanstalkClient(HOST, PORT)
        try:
            client.use(name)
        except BeanstalkError:
            pass
        step(f"pause-tube-name-{label}", lambda: client.pause_tube(name, 0))
        step(f"unpause-tube-name-{label}", lambda: client.unpause_tube(name))
        client.close()


def bodies(client):
    every_byte = bytes(range(256))
    for label, data in [
        ("text", b"hello"), ("str", "grüße ✓"), ("empty", b""), ("every-byte", every_byte),
        ("line-ends", b"\r\n\r\nput 0 0 1 1\r\n"), ("limit", every_byte * 255 + every_byte[:255]),
    ]:
        step(f"put-{label}", lambda: client.put_job(data), show_put)
        step(f"peek-{label}", client.peek_ready, show_job)
        job = step(f"reserve-{label}", lambda: client.reserve_job(0), show_job)
        step(f"delete-{label}", lambda: client.delete_job(job))
    step("put-over-limit", lambda: client.put_job(b"x" * 65536), show_put)
    step("list-tubes-after-over-limit", client.list_tubes)

    decoding = connect(TUBE, auto_decode=True, socket_timeout=120)
    step("put-to-decode", lambda: decoding.put_job("grüße ✓"), show_put)
    job = step("reserve-decoded", lambda: decoding.reserve_job(0), show_job)
    step("delete-decoded", lambda: decoding.delete_job(job.job_id))
    step("reserve-longer-than-the-socket-waits", lambda: decoding.reserve_job(10), show_job)
    run.open.append(decoding)


def arguments(client):
    for label, options in [
        ("defaults", {}), ("most-urgent", {"pri": 0}), ("least-urgent", {"pri": 2**32 - 1}), ("urgent", {"pri": 1023}),
        ("not-urgent", {"pri": 1024}), ("ttr-0", {"ttr": 0}), ("all", {"pri": 7, "delay": 100, "ttr": 90}),
    ]:
        answer = step(f"put-{label}", lambda: client.put_job(b"a", **options), show_put)
        step(f"stats-job-{label}", lambda: client.stats_job(answer[1]), run.job_stats)
        step(f"stats-tube-{label}", lambda: client.stats_tube(TUBE), tube_stats)
        step(f"delete-{label}", lambda: client.delete_job(answer[1]))
    # The header is refused, so the body is read as a command.
    for label, options in [("priority-too-large", {"pri": 2**32}), ("delay-negative", {"delay": -1})]:
        lost = BeanstalkClient(HOST, PORT)
        step(f"put-{label}", lambda: lost.put_job(b"quit", **options), show_put)
        step(f"connection-after-{label}", lambda: lost.socket.recv(1))
        lost.close()

    # Priorities order what comes back, also across the tubes of the watch list.
    step("put-into", lambda: client.put_job_into(OTHER, b"there", pri=8, delay=0, ttr=60), show_put)
    step("put-after-put-into", lambda: client.put_job(b"here", pri=9), show_put)
    with client.using(OTHER) as proxy:
        step("put-using", lambda: proxy.put_job(b"urgent", pri=1, delay=0, ttr=60), show_put)
    step("tube-after-using", lambda: client.current_tube)
    step("stats-tube-other", lambda: client.stats_tube(OTHER), tube_stats)
    client.watch(OTHER)
    drain(client, "order-across-tubes")
    client.ignore(OTHER)
    step("stats-tube-other-gone", lambda: client.stats_tube(OTHER), tube_stats)


def life(client, second):
    _, job_id = step("put", lambda: client.put_job(b"work", pri=10, ttr=60), show_put)
    step("release-ready", lambda: client.release_job(job_id))
    step("bury-ready", lambda: client.bury_job(job_id))
    step("kick-job-ready", lambda: client.kick_job(job_id))
    job = step("reserve", client.reserve_job, show_job)
    step("stats-job-reserved", lambda: client.stats_job(job), run.job_stats)
    step("stats-tube-reserved", lambda: client.stats_tube(TUBE), tube_stats)
    step("release-of-another", lambda: second.release_job(job))
    step("bury-of-another", lambda: second.bury_job(job))
    step("delete-of-another", lambda: second.delete_job(job))
    step("kick-job-reserved", lambda: client.kick_job(job))
    step("release", lambda: client.release_job(job, pri=3))
    step("stats-job-released", lambda: client.stats_job(job_id), run.job_stats)
    job = step("reserve-released", lambda: client.reserve_job(0), show_job)
    step("release-delayed", lambda: client.release_job(job.job_id, 2, 100))
    step("stats-job-delayed", lambda: client.stats_job(job), run.job_stats)
    step("peek-delayed", client.peek_delayed, show_job)
    step("kick-job-delayed", lambda: client.kick_job(job))
    job = step("reserve-kicked", lambda: client.reserve_job(0), show_job)
    step("bury", lambda: client.bury_job(job, pri=4))
    step("stats-job-buried", lambda: client.stats_job(job), run.job_stats)
    step("peek-buried", client.peek_buried, show_job)
    step("kick-job-buried", lambda: client.kick_job(job_id))
    step("stats-job-kicked", lambda: client.stats_job(job), run.job_stats)
    job = step("reserve-last", lambda: client.reserve_job(0), show_job)
    step("delete", lambda: client.delete_job(job))
    step("delete-twice", lambda: client.delete_job(job))
    step("release-deleted", lambda: client.release_job(job))
    step("bury-deleted", lambda: client.bury_job(job))
    step("kick-job-deleted", lambda: client.kick_job(no_job(job_id)))
    step("stats-job-deleted", lambda: client.stats_job(job_id), run.job_stats)
    step("peek-ready-none", client.peek_ready, show_job)
    step("peek-delayed-none", client.peek_delayed, show_job)
    step("peek-buried-none", client.peek_buried, show_job)
    step("stats-tube-none", lambda: client.stats_tube(THIRD), tube_stats)
    step("pause-tube-none", lambda: client.pause_tube(THIRD))
    step("unpause-tube-none", lambda: client.unpause_tube(THIRD))


def kicks(client):
    for data in (b"b1", b"b2", b"b3"):
        client.put_job(data)
        client.bury_job(client.reserve_job(0))
    for data in (b"d1", b"d2"):
        client.put_job(data, delay=100)
    step("stats-tube-before-kicks", lambda: client.stats_tube(TUBE), tube_stats)
    step("kick-2-of-3-buried", lambda: client.kick_jobs(2))
    step("kick-buried-only", lambda: client.kick_jobs(10))
    step("kick-delayed", lambda: client.kick_jobs(10))
    step("kick-nothing", lambda: client.kick_jobs(10))
    step("stats-tube-after-kicks", lambda: client.stats_tube(TUBE), tube_stats)
    drain(client, "reserve-iter")

    # Each iterator peeks at the same job until somebody takes it away.
    def each(jobs):
        seen = []
        for job in jobs:
            client.delete_job(job)
            seen.append(job)
        return seen

    for label, jobs, options in [
        ("ready", client.peek_ready_iter, {}), ("delayed", client.peek_delayed_iter, {"delay": 100}),
    ]:
        for data in (b"first", b"second"):
            client.put_job(data, **options)
        step(f"peek-{label}-iter", lambda: each(jobs()), show_jobs)
    for data in (b"first", b"second"):
        client.put_job(data)
        client.bury_job(client.reserve_job(0))
    step("peek-buried-iter", lambda: each(client.peek_buried_iter()), show_jobs)


def pools(client):
    logging.getLogger("pystalk.ProductionPool").disabled = True
    uri = f"beanstalk://{HOST}:{PORT}"
    pool = ProductionPool([BeanstalkClient(HOST, PORT), BeanstalkClient.from_uri(uri, 5.0)], initial_shuffle=False)
    pool.use(TUBE)
    step("pool-put", lambda: pool.put_job(b"from the pool"), show_put)
    step("pool-put-again", lambda: pool.put_job("from its second connection"), show_put)
    step("pool-put-into", lambda: pool.put_job_into(OTHER, b"into", pri=3, delay=0, ttr=10), show_put)
    step("pool-put-over-limit", lambda: pool.put_job(b"x" * 65536), show_put)
    client.watch(OTHER)
    drain(client, "pool-jobs")
    client.ignore(OTHER)
    one = ProductionPool.from_uris([uri.replace("beanstalk:", "beanstalkd:")], socket_timeout=5.0, round_robin=False)
    one.use(OTHER)
    step("pool-from-uris", lambda: one.put_job(b"one"), show_put)
    step("pool-peek", one._clients[0].client.peek_ready, show_job)
    for record in [*pool._clients, *one._clients]:
        record.client.close()
    step("from-uri-bad-scheme", lambda: BeanstalkClient.from_uri(f"http://{HOST}:{PORT}"))


def deadlines(observer):
    holder = connect(THIRD)
    try:
        _, job_id = step("put-ttr-1", lambda: holder.put_job(b"short", ttr=1), show_put)
        run.lease_begins()
        step("reserve-ttr-1", lambda: holder.reserve_job(0), show_job)
        step("reserve-near-deadline", lambda: holder.reserve_job(0), show_job)
        step("reserve-iter-near-deadline", lambda: list(holder.reserve_iter()), show_jobs)
        run.lease_holds()
        expired = []

        def comes_back():
            run.lease_begins()
            try:
                expired.append(holder.reserve_job(5))
            except BeanstalkError as error:
                assert error.message == "DEADLINE_SOON", error.message
                return False
            return True

        until("a job with a TTR of 1 comes back", comes_back)
        step("expired-comes-back", lambda: expired[0], show_job)
        step("stats-job-expired", lambda: observer.stats_job(job_id), run.job_stats)
        step("delete-expired", lambda: holder.delete_job(job_id))
        run.lease_holds()
    finally:
        holder.close()


def undo_deadlines(client):
    """Waits until the lost attempt's tube is gone, deleting what comes back into it."""

    def empty():
        try:
            stats = client.stats_tube(THIRD)
        except BeanstalkError:
            return True
        if stats["current-jobs-ready"]:
            with client.using(THIRD):
                client.delete_job(client.peek_ready())
        return False

    until("the lost attempt's jobs are gone", empty)
    return 1


def time_outs(client, second):
    step("reserve-time-out-too-large", lambda: client.reserve_job(2**32), show_job)
    before = time.monotonic()
    step("reserve-1-second", lambda: client.reserve_job(1), show_job)
    step("reserve-1-second-waited", lambda: time.monotonic() - before >= 0.9)
    run.attempt(lambda: deadlines(client), lambda: undo_deadlines(client))

    step("put-delay-1", lambda: client.put_job(b"late", delay=1), show_put)
    job = step("reserve-when-due", lambda: client.reserve_job(120), show_job)
    step("release-delay-1", lambda: client.release_job(job, delay=1))
    job = step("reserve-released-when-due", lambda: second.reserve_job(120), show_job)
    step("delete-late", lambda: second.delete_job(job))

    client.put_job(b"held up")
    step("pause-tube", lambda: client.pause_tube(TUBE))
    step("stats-tube-paused", lambda: client.stats_tube(TUBE), tube_stats)
    step("reserve-paused", lambda: client.reserve_job(0), show_job)
    waiting = Background(lambda: second.reserve_job(120))
    until("a consumer waits", lambda: client.stats_tube(TUBE)["current-waiting"] == 1)
    step("unpause-tube", lambda: client.unpause_tube(TUBE))
    job = step("reserve-unpaused", waiting.result, show_job)
    step("release-unpaused", lambda: second.release_job(job))
    step("pause-tube-1", lambda: client.pause_tube(TUBE, 1))
    job = step("reserve-after-pause", lambda: second.reserve_job(120), show_job)
    step("delete-after-pause", lambda: second.delete_job(job))


def connections(client, second):
    waiting = Background(lambda: second.reserve_job(120))
    until("a consumer waits", lambda: client.stats_tube(TUBE)["current-waiting"] == 1)
    step("stats-tube-waiting", lambda: client.stats_tube(TUBE), tube_stats)
    step("put-to-waiting", lambda: client.put_job(b"at once"), show_put)
    job = step("waiting-got", waiting.result, show_job)
    step("delete-got", lambda: second.delete_job(job))

    third = connect(TUBE)
    _, kept = step("put-to-be-given-back", lambda: client.put_job(b"given back"), show_put)
    step("reserve-then-close", lambda: third.reserve_job(0), show_job)
    waiting = Background(lambda: second.reserve_job(120))
    until("a consumer waits", lambda: client.stats_tube(TUBE)["current-waiting"] == 1)
    third.close()
    job = step("given-back-to-waiting", waiting.result, show_job)
    step("stats-job-given-back", lambda: client.stats_job(kept), run.job_stats)
    step("delete-given-back", lambda: second.delete_job(job))

    # pystalk connects again by itself and takes up its tubes.
    until("the closed connection is gone", lambda: client.stats_tube(TUBE)["current-watching"] == 2)
    step("put-after-close", lambda: third.put_job(b"again"), show_put)
    step("stats-tube-after-close", lambda: client.stats_tube(TUBE), tube_stats)
    job = step("reserve-after-close", lambda: third.reserve_job(0), show_job)
    step("delete-after-close", lambda: third.delete_job(job))
    third.close()
    step("ping", client.ping)


def main():
    client, second = BeanstalkClient(HOST, PORT), connect(TUBE)
    stats = step("stats-at-first", client.stats, server_stats)
    step("stats-keys", lambda: stats, standard_keys)
    step("stats-keys-after", lambda: stats, further_keys)
    step("version-is-a-number", lambda: bool(re.fullmatch(r"[0-9]+\.[0-9]+", stats["version"])))
    names(client)
    bodies(client)
    arguments(client)
    life(client, second)
    kicks(client)
    # What comes after this asks until something holds: how often is no matter of the server's.
    step("stats-in-the-middle", client.stats, server_stats)
    for connection in run.open:
        connection.close()
    # beanstalkd counts some of the refused ones, so they come after the counters.
    pause_names()
    pools(client)
    client.watch(OTHER)
    drain(client, "last-of-the-pools")
    client.ignore(OTHER)
    until("the other connections are gone", lambda: alone(client))
    time_outs(client, second)
    connections(client, second)
    until("the other connections are gone", lambda: alone(client))
    step("stats-tube-at-last", lambda: client.stats_tube(TUBE), tube_stats)
    step("list-tubes-at-last", client.list_tubes)
    second.close()
    client.close()


main()

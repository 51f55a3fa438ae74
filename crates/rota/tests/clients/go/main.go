// Walks through every method of go-beanstalk against the server at HOST PORT and prints a line per step.
//
// go-beanstalk has no command for the tubes of a connection, no reserve without a time-out and no quit; it sends use,
// watch and ignore by itself before the command that needs them.
package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"regexp"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/beanstalkd/go-beanstalk"
)

const (
	tubeName  = "go-beanstalk"
	otherName = "go-beanstalk-other"
	thirdName = "go-beanstalk-third"
)

var address string

var names = []struct{ label, name string }{
	{"199-long", strings.Repeat("n", 199)}, {"200-long", strings.Repeat("n", 200)}, {"empty", ""},
	{"dash-first", "-dash"}, {"star", "sta*r"}, {"number", "7"},
}

// connection is a Conn with the tube it puts into and the tubes it reserves from.
type connection struct {
	*beanstalk.Conn
	tube *beanstalk.Tube
	set  *beanstalk.TubeSet
}

func connect(name string) connection {
	conn, err := beanstalk.Dial("tcp", address)
	must(err)
	return connection{conn, beanstalk.NewTube(conn, name), beanstalk.NewTubeSet(conn, name)}
}

func count(conn *beanstalk.Conn, name, key string) string {
	stats, err := beanstalk.NewTube(conn, name).Stats()
	must(err)
	return stats[key]
}

// alone is true when only two connections watch the tube and no tube is left but the first two.
func alone(client connection) bool {
	tubes, err := client.ListTubes()
	must(err)
	return len(tubes) == 2 && count(client.Conn, tubeName, "current-watching") == "2"
}

func (r *run) drain(client connection, set *beanstalk.TubeSet, name string) {
	for index := 1; ; index++ {
		id, body, err := set.Reserve(0)
		r.found(fmt.Sprintf("%s-%d", name, index), id, body, err)
		if err != nil {
			return
		}
		must(client.Delete(id))
	}
}

func (r *run) listTubes(name string, client connection) {
	tubes, err := client.ListTubes()
	r.step(name, strings.Join(tubes, " "), err)
}

func (r *run) tubes(client connection) {
	r.listTubes("list-tubes-at-first", client)
	id, err := client.Put([]byte("into default"), 1, 0, time.Minute)
	r.put("put-into-default", id, err)
	id, body, err := client.Reserve(0)
	r.found("reserve-from-default", id, body, err)
	r.done("delete-from-default", client.Delete(id))
	id, body, err = client.PeekReady()
	r.found("peek-ready-of-default", id, body, err)
	stats, err := client.Tube.Stats()
	r.tubeStats("stats-tube-default", stats, err)
	id, body, err = client.set.Reserve(0)
	r.found("reserve-watches", id, body, err)
	id, body, err = client.tube.PeekReady()
	r.found("peek-ready-uses", id, body, err)
	r.listTubes("list-tubes", client)
	both := beanstalk.NewTubeSet(client.Conn, tubeName, otherName)
	id, body, err = both.Reserve(0)
	r.found("reserve-watches-two", id, body, err)
	r.listTubes("list-tubes-of-two", client)
	id, body, err = client.set.Reserve(0)
	r.found("reserve-watches-one-again", id, body, err)
	r.listTubes("list-tubes-of-one", client)

	for _, bad := range names {
		// A name that the client itself refuses leaves its connection waiting for an answer for ever, and one that only
		// the server refuses leaves an answer too many: that connection is of no more use.
		putting, asking := connect(bad.name), connect(bad.name)
		id, err := putting.tube.Put([]byte("by name"), 0, 0, time.Minute)
		r.put("put-name-"+bad.label, id, err)
		stats, err := asking.tube.Stats()
		r.step("stats-tube-name-"+bad.label, stats["current-using"], err)
		if id != 0 {
			must(asking.Delete(id))
		}
		id, body, err = client.Reserve(0)
		r.found("reserve-from-default-after-"+bad.label, id, body, err)
		if err == nil {
			must(client.Delete(id))
		}
		must(putting.Close())
		must(asking.Close())
		r.until("the tube is gone", func() bool {
			tubes, err := client.ListTubes()
			must(err)
			return len(tubes) == 2
		})
	}
	text, err := client.tube.Stats()
	must(err)
	r.step("stats-tube-quotes-the-name", fmt.Sprint(strings.HasPrefix(text["name"], `"`)), nil)
}

func (r *run) pauseNames() {
	for _, bad := range names {
		client := connect(bad.name)
		r.done("pause-tube-name-"+bad.label, client.tube.Pause(0))
		must(client.Close())
	}
}

func (r *run) bodies(client connection) {
	everyByte := make([]byte, 256)
	for index := range everyByte {
		everyByte[index] = byte(index)
	}
	limit := bytes.Repeat(everyByte, 256)[:65535]
	for _, with := range []struct {
		label string
		body  []byte
	}{
		{"text", []byte("hello")}, {"empty", []byte{}}, {"every-byte", everyByte},
		{"line-ends", []byte("\r\n\r\nput 0 0 1 1\r\n")}, {"limit", limit},
	} {
		id, err := client.tube.Put(with.body, 0, 0, time.Minute)
		r.put("put-"+with.label, id, err)
		body, err := client.Peek(id)
		r.found("peek-"+with.label, id, body, err)
		id, body, err = client.set.Reserve(0)
		r.found("reserve-"+with.label, id, body, err)
		r.done("delete-"+with.label, client.Delete(id))
	}
	id, err := client.tube.Put(append(limit, 'x'), 0, 0, time.Minute)
	r.put("put-over-limit", id, err)
	id, err = client.tube.Put(bytes.Repeat(limit, 5), 0, 0, time.Minute)
	r.put("put-far-over-limit", id, err)
	r.listTubes("list-tubes-after-over-limit", client)
}

func (r *run) arguments(client connection) {
	for _, with := range []struct {
		label      string
		priority   uint32
		delay, ttr time.Duration
	}{
		{"most-urgent", 0, 0, time.Minute}, {"least-urgent", 1<<32 - 1, 0, time.Minute},
		{"urgent", 1023, 0, time.Minute}, {"not-urgent", 1024, 0, time.Minute}, {"ttr-0", 5, 0, 0},
		{"part-of-a-second", 5, 999 * time.Millisecond, 1999 * time.Millisecond},
		{"all", 7, 100 * time.Second, 90 * time.Second}, {"negative", 5, -time.Second, time.Second},
	} {
		id, err := client.tube.Put([]byte("a"), with.priority, with.delay, with.ttr)
		r.put("put-"+with.label, id, err)
		stats, err := client.StatsJob(id)
		r.jobStats("stats-job-"+with.label, stats, err)
		tube, err := client.tube.Stats()
		r.tubeStats("stats-tube-"+with.label, tube, err)
		r.done("delete-"+with.label, client.Delete(id))
	}

	other := beanstalk.NewTube(client.Conn, otherName)
	for _, with := range []struct {
		tube     *beanstalk.Tube
		body     string
		priority uint32
	}{{client.tube, "first", 5}, {client.tube, "second", 5}, {client.tube, "urgent", 1}, {other, "there", 4}} {
		_, err := with.tube.Put([]byte(with.body), with.priority, 0, time.Minute)
		must(err)
	}
	r.drain(client, beanstalk.NewTubeSet(client.Conn, tubeName, otherName), "order-across-tubes")
}

func (r *run) life(client, second connection) {
	id, err := client.tube.Put([]byte("work"), 10, 0, time.Minute)
	r.put("put", id, err)
	r.done("touch-ready", client.Touch(id))
	r.done("release-ready", client.Release(id, 1, 0))
	r.done("bury-ready", client.Bury(id, 1))
	r.done("kick-job-ready", client.KickJob(id))
	found, body, err := client.tube.PeekReady()
	r.found("peek-ready", found, body, err)
	found, body, err = client.set.Reserve(5 * time.Second)
	r.found("reserve", found, body, err)
	r.statsJob("stats-job-reserved", client, id)
	r.done("touch", client.Touch(id))
	r.done("touch-of-another", second.Touch(id))
	r.done("release-of-another", second.Release(id, 1, 0))
	r.done("bury-of-another", second.Bury(id, 1))
	r.done("delete-of-another", second.Delete(id))
	r.done("kick-job-reserved", client.KickJob(id))
	body, err = second.Peek(id)
	r.found("peek-reserved-of-another", id, body, err)
	body, err = second.ReserveJob(id)
	r.found("reserve-job-reserved", id, body, err)
	body, err = client.ReserveJob(id)
	r.found("reserve-job-own", id, body, err)
	r.done("release", client.Release(id, 3, 0))
	r.statsJob("stats-job-released", client, id)
	body, err = client.ReserveJob(id)
	r.found("reserve-job-ready", id, body, err)
	r.done("release-delayed", client.Release(id, 2, 100*time.Second))
	r.statsJob("stats-job-delayed", client, id)
	found, body, err = client.tube.PeekDelayed()
	r.found("peek-delayed", found, body, err)
	r.done("kick-job-delayed", client.KickJob(id))
	r.statsJob("stats-job-kicked", client, id)
	found, body, err = client.set.Reserve(0)
	r.found("reserve-kicked", found, body, err)
	r.done("bury", client.Bury(id, 4))
	r.statsJob("stats-job-buried", client, id)
	found, body, err = client.tube.PeekBuried()
	r.found("peek-buried", found, body, err)
	r.done("kick-job-buried", client.KickJob(id))
	found, body, err = client.set.Reserve(0)
	r.found("reserve-last", found, body, err)
	r.statsJob("stats-job-at-last", client, id)
	r.done("delete", client.Delete(id))
	r.done("delete-twice", client.Delete(id))
	r.done("touch-deleted", client.Touch(id))
	r.done("release-deleted", client.Release(id, 1, 0))
	r.done("release-negative", client.Release(id, 1, -time.Second))
	r.done("bury-deleted", client.Bury(id, 1))
	r.done("kick-job-deleted", client.KickJob(id))
	body, err = client.Peek(id)
	r.found("peek-deleted", id, body, err)
	body, err = client.ReserveJob(id)
	r.found("reserve-job-deleted", id, body, err)
	r.statsJob("stats-job-deleted", client, id)
	found, body, err = client.tube.PeekReady()
	r.found("peek-ready-none", found, body, err)
	found, body, err = client.tube.PeekDelayed()
	r.found("peek-delayed-none", found, body, err)
	found, body, err = client.tube.PeekBuried()
	r.found("peek-buried-none", found, body, err)
	none := beanstalk.NewTube(client.Conn, thirdName)
	stats, err := none.Stats()
	r.tubeStats("stats-tube-none", stats, err)
	r.done("pause-tube-none", none.Pause(time.Second))
}

func (r *run) statsJob(name string, client connection, id uint64) {
	stats, err := client.StatsJob(id)
	r.jobStats(name, stats, err)
}

func (r *run) statsTube(name string, client connection) {
	stats, err := client.tube.Stats()
	r.tubeStats(name, stats, err)
}

func (r *run) kicks(client connection) {
	for _, body := range []string{"b1", "b2", "b3"} {
		id, err := client.tube.Put([]byte(body), 5, 0, time.Minute)
		must(err)
		_, _, err = client.set.Reserve(0)
		must(err)
		must(client.Bury(id, 5))
	}
	for _, body := range []string{"d1", "d2"} {
		_, err := client.tube.Put([]byte(body), 5, 100*time.Second, time.Minute)
		must(err)
	}
	r.statsTube("stats-tube-before-kicks", client)
	for _, with := range []struct {
		name  string
		bound int
	}{{"kick-2-of-3-buried", 2}, {"kick-buried-only", 10}, {"kick-delayed", 10}, {"kick-nothing", 10}} {
		kicked, err := client.tube.Kick(with.bound)
		r.step(with.name, fmt.Sprint(kicked), err)
	}
	kicked, err := client.tube.Kick(-1)
	r.step("kick-negative", fmt.Sprint(kicked), err)
	r.statsTube("stats-tube-after-kicks", client)
	r.drain(client, client.set, "kicked")
}

// pipelines uses one connection from many goroutines: each sends without waiting for the answers of the others.
func (r *run) pipelines(client connection) {
	const puts = 100
	ids := make([]uint64, puts)
	var all sync.WaitGroup
	for index := range ids {
		all.Add(1)
		go func(index int) {
			defer all.Done()
			id, err := client.tube.Put([]byte("pipelined"), 5, 0, time.Minute)
			must(err)
			ids[index] = id
		}(index)
	}
	all.Wait()
	sort.Slice(ids, func(a, b int) bool { return ids[a] < ids[b] })
	r.step("pipelined-puts", fmt.Sprintf("%d, last %s", len(ids), r.job(ids[puts-1])), nil)
	r.step("pipelined-first", r.job(ids[0]), nil)

	wrong := make([]bool, puts)
	for index := range ids {
		all.Add(1)
		go func(index int) {
			defer all.Done()
			body, err := client.Peek(ids[index])
			if err != nil || string(body) != "pipelined" {
				wrong[index] = true
			}
			must(client.Delete(ids[index]))
		}(index)
	}
	all.Wait()
	mistakes := 0
	for _, is := range wrong {
		if is {
			mistakes++
		}
	}
	r.step("pipelined-wrong-peeks", fmt.Sprint(mistakes), nil)
	r.statsTube("stats-tube-after-pipelines", client)
}

func (r *run) deadlines(observer connection) {
	holder := connect(thirdName)
	defer holder.Close()
	id, err := holder.tube.Put([]byte("short"), 5, 0, time.Second)
	r.put("put-ttr-1", id, err)
	r.leaseBegins()
	found, body, err := holder.set.Reserve(0)
	r.found("reserve-ttr-1", found, body, err)
	found, body, err = holder.set.Reserve(0)
	r.found("reserve-near-deadline", found, body, err)
	found, body, err = holder.set.Reserve(time.Hour)
	r.found("reserve-long-near-deadline", found, body, err)
	r.done("touch-ttr-1", holder.Touch(id))
	r.leaseHolds()
	if r.tooSlow {
		return
	}
	r.until("a job with a TTR of 1 comes back", func() bool {
		r.leaseBegins()
		found, body, err = holder.set.Reserve(5 * time.Second)
		if err != nil && errorText(err) != "reserve-with-timeout: deadline soon" {
			must(err)
		}
		return err == nil
	})
	r.found("expired-comes-back", found, body, err)
	r.statsJob("stats-job-expired", observer, id)
	r.done("delete-expired", holder.Delete(id))
	r.leaseHolds()
}

// undoDeadlines waits until the lost attempt's tube is gone, deleting what comes back into it.
func undoDeadlines(r *run, client connection) uint64 {
	third := beanstalk.NewTube(client.Conn, thirdName)
	r.until("the lost attempt's jobs are gone", func() bool {
		_, err := third.Stats()
		if err != nil {
			return true
		}
		if id, _, err := third.PeekReady(); err == nil {
			must(client.Delete(id))
		}
		// Only to let go of the third tube.
		_, _, _ = client.tube.PeekReady()
		return false
	})
	return 1
}

func (r *run) timeOuts(client, second connection) {
	found, body, err := client.set.Reserve((1 << 32) * time.Second)
	r.found("reserve-time-out-too-large", found, body, err)
	found, body, err = client.set.Reserve(-time.Second)
	r.found("reserve-negative", found, body, err)
	before := time.Now()
	found, body, err = client.set.Reserve(time.Second)
	r.found("reserve-1-second", found, body, err)
	r.step("reserve-1-second-waited", fmt.Sprint(time.Since(before) >= 900*time.Millisecond), nil)
	r.attempt(func() { r.deadlines(client) }, func() uint64 { return undoDeadlines(r, client) })

	late, err := client.tube.Put([]byte("late"), 5, time.Second, time.Minute)
	r.put("put-delay-1", late, err)
	found, body, err = client.set.Reserve(120 * time.Second)
	r.found("reserve-when-due", found, body, err)
	r.done("release-delay-1", client.Release(late, 5, time.Second))
	found, body, err = second.set.Reserve(120 * time.Second)
	r.found("reserve-released-when-due", found, body, err)
	r.done("delete-late", second.Delete(late))

	held, err := client.tube.Put([]byte("held up"), 5, 0, time.Minute)
	r.put("put-held-up", held, err)
	r.done("pause-tube", client.tube.Pause(time.Minute))
	r.done("pause-tube-negative", client.tube.Pause(-time.Second))
	r.statsTube("stats-tube-paused", client)
	found, body, err = client.set.Reserve(0)
	r.found("reserve-paused", found, body, err)
	waiting := r.wait(client, second)
	r.done("pause-tube-0", client.tube.Pause(0))
	got := <-waiting
	r.found("reserve-unpaused", got.id, got.body, got.err)
	r.done("release-unpaused", second.Release(held, 5, 0))
	r.done("pause-tube-1", client.tube.Pause(time.Second))
	found, body, err = second.set.Reserve(120 * time.Second)
	r.found("reserve-after-pause", found, body, err)
	r.done("delete-after-pause", second.Delete(held))
}

type reserved struct {
	id   uint64
	body []byte
	err  error
}

// wait lets second reserve and returns when the server counts it as waiting.
func (r *run) wait(client, second connection) <-chan reserved {
	waiting := make(chan reserved, 1)
	go func() {
		id, body, err := second.set.Reserve(120 * time.Second)
		waiting <- reserved{id, body, err}
	}()
	r.until("a consumer waits", func() bool { return count(client.Conn, tubeName, "current-waiting") == "1" })
	return waiting
}

func (r *run) connections(client, second connection) {
	waiting := r.wait(client, second)
	r.statsTube("stats-tube-waiting", client)
	id, err := client.tube.Put([]byte("at once"), 5, 0, time.Minute)
	r.put("put-to-waiting", id, err)
	got := <-waiting
	r.found("waiting-got", got.id, got.body, got.err)
	r.done("delete-got", second.Delete(id))

	third := connect(tubeName)
	kept, err := client.tube.Put([]byte("given back"), 5, 0, time.Minute)
	r.put("put-to-be-given-back", kept, err)
	found, body, err := third.set.Reserve(0)
	r.found("reserve-then-close", found, body, err)
	waiting = r.wait(client, second)
	r.done("close", third.Close())
	got = <-waiting
	r.found("given-back-to-waiting", got.id, got.body, got.err)
	r.statsJob("stats-job-given-back", client, kept)
	r.done("delete-given-back", second.Delete(kept))
	r.step("after-close", "answered", closedError(third.Touch(kept)))

	stream, err := net.Dial("tcp", address)
	must(err)
	over := beanstalk.NewConn(stream)
	r.listTubes("over-a-stream", connection{Conn: over})
	r.done("close-the-stream", over.Close())
	timed, err := beanstalk.DialTimeout("tcp", address, 5*time.Second)
	must(err)
	r.listTubes("dialled-with-time-out", connection{Conn: timed})
	must(timed.Close())
}

// closedError hides the addresses that Go names in the error of a closed connection.
func closedError(err error) error {
	if err != nil && strings.Contains(err.Error(), "use of closed network connection") {
		return fmt.Errorf("closed")
	}
	return err
}

func main() {
	if len(os.Args) != 3 {
		fail("usage: go-client HOST PORT")
	}
	address = net.JoinHostPort(os.Args[1], os.Args[2])
	r := &run{}
	client, second := connect(tubeName), connect(tubeName)
	_, _, err := second.set.Reserve(0)
	r.step("second-watches", "a job", err)
	stats, err := client.Conn.Stats()
	r.serverStats("stats-at-first", stats, err)
	standard, further := splitKeys(stats)
	r.step("stats-keys", standard, nil)
	r.step("stats-keys-after", further, nil)
	version := strings.Trim(stats["version"], `"`)
	r.step("version-is-a-number", fmt.Sprint(regexp.MustCompile(`^[0-9]+\.[0-9]+$`).MatchString(version)), nil)
	r.tubes(client)
	r.bodies(client)
	r.arguments(client)
	r.life(client, second)
	r.kicks(client)
	r.pipelines(client)
	stats, err = client.Conn.Stats()
	// How often tubes() asked for the list of tubes, until a closed connection's tube was gone, is no matter of the
	// server's.
	delete(stats, "cmd-list-tubes")
	r.serverStats("stats-in-the-middle", stats, err)
	// beanstalkd counts some of the refused ones, so they come after the counters.
	r.pauseNames()
	r.timeOuts(client, second)
	r.connections(client, second)
	r.until("the other connections are gone", func() bool { return alone(client) })
	r.statsTube("stats-tube-at-last", client)
	r.listTubes("list-tubes-at-last", client)
	must(second.Close())
	must(client.Close())
}

package main

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/beanstalkd/go-beanstalk"
)

// The server's values that depend on the machine, the moment or how the server was started.
var serverUnstable = map[string]bool{
	"pid": true, "version": true, "uptime": true, "id": true, "hostname": true, "os": true, "platform": true,
	"rusage-utime": true, "rusage-stime": true, "binlog-oldest-index": true, "binlog-current-index": true,
	"binlog-max-size": true, "binlog-records-written": true, "binlog-records-migrated": true,
	"current-connections": true, "total-connections": true,
	// Whoever starts a server may ask for them before the script does.
	"cmd-stats": true,
}

const deadline = 20 * time.Second

// run is one walk through the client: it prints a line per step, in a form that only differs from server to server
// where the servers differ.
type run struct {
	firstID    uint64
	seen       bool
	holdBack   bool
	heldBack   []string
	leaseBegan time.Time
	tooSlow    bool
}

// job gives an id as its distance from the first one seen.
func (r *run) job(id uint64) string {
	if !r.seen {
		r.seen, r.firstID = true, id
	}
	return fmt.Sprintf("job%+d", int64(id-r.firstID))
}

// step prints the answer, or the error in its place.
func (r *run) step(name string, answer string, err error) {
	if err != nil {
		answer = errorText(err)
	}
	line := name + ": " + answer
	if r.holdBack {
		r.heldBack = append(r.heldBack, line)
	} else {
		fmt.Println(line)
	}
}

func (r *run) done(name string, err error) { r.step(name, "done", err) }

func (r *run) put(name string, id uint64, err error) uint64 {
	r.step(name, r.jobUnless(id, err), err)
	return id
}

func (r *run) found(name string, id uint64, body []byte, err error) uint64 {
	r.step(name, r.jobUnless(id, err)+" "+showBody(body), err)
	return id
}

func (r *run) jobUnless(id uint64, err error) string {
	if err != nil {
		return ""
	}
	return r.job(id)
}

// until asks again and again until the condition holds; what it waited for is no step.
func (r *run) until(what string, condition func() bool) {
	for end := time.Now().Add(deadline); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			fail("waited %v in vain: %s", deadline, what)
		}
	}
}

// attempt runs steps that race against leases of a second, again if this machine was too busy to win. undo takes away
// what a lost attempt left and returns how many jobs it had put.
func (r *run) attempt(steps func(), undo func() uint64) {
	for count := 0; count < 60; count++ {
		r.holdBack, r.heldBack, r.tooSlow = true, nil, false
		steps()
		r.holdBack = false
		if !r.tooSlow {
			fmt.Println(strings.Join(r.heldBack, "\n"))
			return
		}
		r.firstID += undo()
	}
	fail("this machine stalls for a second again and again")
}

// leaseBegins is to be called before a lease of a second begins, leaseHolds after the steps that need it.
func (r *run) leaseBegins() { r.leaseBegan = time.Now() }

func (r *run) leaseHolds() { r.tooSlow = r.tooSlow || time.Since(r.leaseBegan) > 900*time.Millisecond }

// jobStats shows stats-job without the age and the file, and time left by what it is near to.
func (r *run) jobStats(name string, stats map[string]string, err error) {
	if err == nil {
		id, idErr := strconv.ParseUint(stats["id"], 10, 64)
		if idErr != nil {
			fail("stats-job names no id: %v", stats)
		}
		limit := map[string]string{"reserved": stats["ttr"], "delayed": stats["delay"]}[stats["state"]]
		stats["id"], stats["time-left"] = r.job(id), near(stats["time-left"], limit)
		stats["tube"] = strings.Trim(stats["tube"], `"`)
		delete(stats, "age")
		delete(stats, "file")
	}
	r.step(name, show(stats, func(string) bool { return true }), err)
}

func (r *run) tubeStats(name string, stats map[string]string, err error) {
	if err == nil {
		stats["pause-time-left"] = near(stats["pause-time-left"], stats["pause"])
		stats["name"] = strings.Trim(stats["name"], `"`)
	}
	r.step(name, show(stats, func(string) bool { return true }), err)
}

func (r *run) serverStats(name string, stats map[string]string, err error) {
	r.step(name, show(stats, func(key string) bool { return isStandard(key) && !serverUnstable[key] }), err)
}

// show gives the pairs in the order of their keys: go-beanstalk hands on a map.
func show(stats map[string]string, wanted func(key string) bool) string {
	var shown []string
	for _, key := range sortedKeys(stats) {
		if wanted(key) {
			shown = append(shown, key+"="+stats[key])
		}
	}
	return strings.Join(shown, " ")
}

func sortedKeys(stats map[string]string) []string {
	keys := make([]string, 0, len(stats))
	for key := range stats {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

// near shows a count of seconds that runs down from limit without saying how far it has run.
func near(value, limit string) string {
	seconds, err := strconv.ParseInt(value, 10, 64)
	most, limitErr := strconv.ParseInt(limit, 10, 64)
	if err == nil && limitErr == nil && most > 0 && seconds >= 0 && seconds <= most && seconds >= most-10 {
		return "near " + limit
	}
	return value
}

// showBody gives short bodies as a Go literal, long ones by length and checksum.
func showBody(body []byte) string {
	if len(body) <= 64 {
		return strconv.Quote(string(body))
	}
	return fmt.Sprintf("%d long, crc32 %08x", len(body), crc32.ChecksumIEEE(body))
}

// errorText gives the server's answer, or the client's own complaint.
func errorText(err error) string {
	var answer beanstalk.ConnError
	if errors.As(err, &answer) {
		return answer.Op + ": " + answer.Err.Error()
	}
	return err.Error()
}

func fail(format string, values ...interface{}) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}

// must is for what no server may refuse between two steps.
func must(err error) {
	if err != nil {
		fail("between steps: %v", err)
	}
}

// standardKeys are those of beanstalkd; a server may have more of its own.
var standardKeys = strings.Fields(`current-jobs-urgent current-jobs-ready current-jobs-reserved current-jobs-delayed
	current-jobs-buried cmd-put cmd-peek cmd-peek-ready cmd-peek-delayed cmd-peek-buried cmd-reserve
	cmd-reserve-with-timeout cmd-delete cmd-release cmd-use cmd-watch cmd-ignore cmd-bury cmd-kick cmd-touch cmd-stats
	cmd-stats-job cmd-stats-tube cmd-list-tubes cmd-list-tube-used cmd-list-tubes-watched cmd-pause-tube job-timeouts
	total-jobs max-job-size current-tubes current-connections current-producers current-workers current-waiting
	total-connections pid version rusage-utime rusage-stime uptime binlog-oldest-index binlog-current-index
	binlog-records-migrated binlog-records-written binlog-max-size draining id hostname os platform`)

func isStandard(key string) bool {
	for _, standard := range standardKeys {
		if key == standard {
			return true
		}
	}
	return false
}

// splitKeys gives the keys that beanstalkd has and those that only this server has, each sorted.
func splitKeys(stats map[string]string) (standard, further string) {
	var known, own []string
	for _, key := range sortedKeys(stats) {
		if isStandard(key) {
			known = append(known, key)
		} else {
			own = append(own, key)
		}
	}
	if len(own) == 0 {
		own = []string{"none"}
	}
	return strings.Join(known, " "), strings.Join(own, " ")
}

// What the Node scripts share: running one step after another and printing each answer in a form that only differs
// from server to server where the servers differ.
'use strict'

const crypto = require('node:crypto')

// Values that depend on the machine, the moment or how the server was started.
const SERVER_UNSTABLE = new Set([
  'pid', 'version', 'uptime', 'id', 'hostname', 'os', 'platform', 'rusage-utime', 'rusage-stime',
  'binlog-oldest-index', 'binlog-current-index', 'binlog-max-size', 'binlog-records-written',
  'binlog-records-migrated', 'current-connections', 'total-connections',
  // Whoever starts a server may ask for them before the script does.
  'cmd-stats',
])
const LAST_STANDARD_SERVER_KEY = 'platform'
const DEADLINE_MS = 300_000

class TooSlow extends Error {}

// One walk through a client. `errorText` gives the text of the answer for what the client rejects with.
class Run {
  constructor(errorText) {
    this.errorText = errorText
    this.firstId = undefined
    this.heldBack = undefined
    this.leaseBegan = 0
  }

  // A job id as its distance from the first one seen.
  job(id) {
    const number = Number(id)
    this.firstId ??= number
    const distance = number - this.firstId
    return `job${distance < 0 ? '' : '+'}${distance}`
  }

  // Runs `call`, prints its answer or its error, and returns what it returned (`undefined` after an error).
  async step(name, call, show = plain) {
    let answer
    let result
    try {
      result = await call()
      answer = result === undefined ? 'done' : show(result)
    } catch (error) {
      answer = this.errorText(error)
      if (answer === undefined) throw error
    }
    const line = `${name}: ${answer}`
    if (this.heldBack === undefined) console.log(line)
    else this.heldBack.push(line)
    return result
  }

  // Asks `condition` again and again until it holds; what it waited for is no step.
  async until(what, condition) {
    const deadline = Date.now() + DEADLINE_MS
    while (!(await condition())) {
      if (Date.now() > deadline) throw new Error(`waited ${DEADLINE_MS / 1000} s in vain: ${what}`)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }

  // Runs `steps`, which race against leases of a second, again if this machine was too busy to win. `undo` takes away
  // what a lost attempt left and returns how many jobs it had put.
  async attempt(steps, undo) {
    for (let count = 0; count < 60; count += 1) {
      this.heldBack = []
      try {
        await steps()
      } catch (error) {
        if (!(error instanceof TooSlow)) throw error
        this.heldBack = undefined
        this.firstId += await undo()
        continue
      }
      this.heldBack.forEach((line) => console.log(line))
      this.heldBack = undefined
      return
    }
    throw new Error('this machine stalls for a second again and again')
  }

  // To be called before a lease of a second begins.
  leaseBegins() {
    this.leaseBegan = performance.now()
  }

  // To be called after the steps that need the lease.
  leaseHolds() {
    if (performance.now() - this.leaseBegan > 900) throw new TooSlow()
  }

  // `stats-job`, without the age and the file; time left is shown by what it is near to.
  jobStats(stats) {
    const limits = { reserved: stats.ttr, delayed: stats.delay }
    const shown = Object.entries(stats).filter(([key]) => key !== 'age' && key !== 'file')
    return shown.map(([key, value]) => {
      if (key === 'id') return `id=${this.job(value)}`
      if (key === 'time-left') return `time-left=${near(value, limits[stats.state] ?? 0)}`
      return `${key}=${value}`
    }).join(' ')
  }
}

function plain(value) {
  if (Buffer.isBuffer(value) || typeof value === 'string') return body(value)
  return Array.isArray(value) ? value.map(plain).join(' ') : String(value)
}

// Short bodies as JSON text, long ones by length and checksum.
function body(data) {
  const raw = Buffer.from(data)
  if (raw.length > 64) return `${raw.length} long, sha256 ${crypto.createHash('sha256').update(raw).digest('hex').slice(0, 12)}`
  return `${Buffer.isBuffer(data) ? 'buffer ' : ''}${JSON.stringify(raw.toString('latin1'))}`
}

// A count of seconds that runs down from `limit`, without saying how far it has run.
function near(value, limit) {
  const seconds = Number(value)
  const most = Number(limit)
  return most > 0 && seconds <= most && seconds >= Math.max(0, most - 10) ? `near ${most}` : String(value)
}

function tubeStats(stats) {
  const shown = { ...stats, 'pause-time-left': near(stats['pause-time-left'], stats.pause) }
  return Object.entries(shown).map(([key, value]) => `${key}=${value}`).join(' ')
}

// The server's keys up to the last one beanstalkd has; a server may add its own after it.
function standardKeys(stats) {
  const names = Object.keys(stats)
  return names.slice(0, names.indexOf(LAST_STANDARD_SERVER_KEY) + 1).join(' ')
}

function furtherKeys(stats) {
  const names = Object.keys(stats)
  return names.slice(names.indexOf(LAST_STANDARD_SERVER_KEY) + 1).join(' ') || 'none'
}

function serverStats(stats) {
  const names = standardKeys(stats).split(' ').filter((name) => !SERVER_UNSTABLE.has(name))
  return names.map((name) => `${name}=${stats[name]}`).join(' ')
}

module.exports = { Run, plain, body, tubeStats, standardKeys, furtherKeys, serverStats }

// Walks through every method of jackd against the server at HOST PORT and prints a line per step.
//
// Two methods of jackd 2.2.2 do not do what they say: `put` sends a Buffer as its JSON text, so no binary body leaves
// it, and `pauseTube` sends no line end, which this script adds through the delay. Answers with a body must not arrive
// together with the next answer, so only commands without one are pipelined.

import { createRequire } from 'node:module'
import assert from 'node:assert'

const require = createRequire(import.meta.url)
const JackdClient = require('jackd')
const { Run, plain, tubeStats, standardKeys, furtherKeys, serverStats } = require('./steps.cjs')

const [host, port] = [process.argv[2], Number(process.argv[3])]
const [TUBE, OTHER, THIRD] = ['jackd', 'jackd-other', 'jackd-third']

const NAMES = [
  ['200-long', 'n'.repeat(200)], ['201-long', 'n'.repeat(201)], ['empty', ''], ['dash-first', '-dash'],
  ['star', 'sta*r'], ['space', 'spa ce'], ['nul', 'nu\0l'], ['number', '7'],
]

const run = new Run((error) => {
  if (error.response !== undefined) return `InvalidResponseError ${error.response}`
  if (error instanceof assert.AssertionError) return 'AssertionError'
  return /^[A-Z_]+$/.test(error.message) ? error.message : undefined
})
const step = run.step.bind(run)
const until = run.until.bind(run)

const showId = (id) => run.job(id)
const showJob = ({ id, payload }) => `${run.job(id)} ${plain(payload)}`
const showJobStats = (text) => run.jobStats(parse(text))
const showTubeStats = (text) => tubeStats(parse(text))

// jackd hands on the text of what it calls YAML.
function parse(text) {
  assert(text.startsWith('---\n') && text.endsWith('\n'), text)
  return Object.fromEntries(text.slice(4, -1).split('\n').map((line) => {
    const [key, value] = line.split(/: (.*)/s)
    return [key, value.replace(/^"(.*)"$/, '$1')]
  }))
}

async function connect(tube, options) {
  const client = new JackdClient(options)
  await client.connect({ host, port })
  if (tube !== undefined) {
    await client.use(tube)
    await client.watch(tube)
    await client.ignore('default')
  }
  return client
}

async function tubeCount(client, key, tube = TUBE) {
  return Number(parse(await client.statsTube(tube))[key])
}

async function alone(client) {
  const both = (await tubeCount(client, 'current-using')) === 2 && (await tubeCount(client, 'current-watching')) === 2
  return both && (await client.listTubes()).split('\n').length === 4
}

async function drain(client, name) {
  for (let count = 1; ; count += 1) {
    const job = await step(`${name}-${count}`, () => client.reserveWithTimeout(0), showJob)
    if (job === undefined) return
    await client.delete(job.id)
  }
}

async function names(client) {
  await step('is-connected', () => client.isConnected())
  await step('tube-at-first', () => client.getCurrentTube())
  await step('list-tubes-at-first', () => client.listTubes())
  await step('list-tubes-watched-at-first', () => client.listTubesWatched())
  await step('use', () => client.use(TUBE))
  await step('list-tube-used', () => client.listTubeUsed())
  await step('watch', () => client.watch(TUBE))
  await step('watch-twice', () => client.watch(TUBE))
  await step('watch-other', () => client.watch(OTHER))
  await step('list-tubes', () => client.listTubes())
  await step('list-tubes-watched', () => client.listTubesWatched())
  await step('ignore-other', () => client.ignore(OTHER))
  await step('ignore-unwatched', () => client.ignore(OTHER))
  await step('ignore-default', () => client.ignore('default'))
  await step('ignore-last', () => client.ignore(TUBE))
  await step('list-tubes-after', () => client.listTubes())

  for (const [label, name] of NAMES) {
    await step(`use-name-${label}`, () => client.use(name))
    await step(`tube-after-${label}`, () => client.getCurrentTube())
    await step(`watch-name-${label}`, () => client.watch(name))
    await step(`ignore-name-${label}`, () => client.ignore(name))
    await step(`stats-tube-name-${label}`, () => client.statsTube(name), showTubeStats)
  }
  await client.use(TUBE)
  const text = await client.statsTube(TUBE)
  await step('stats-tube-quotes-the-name', () => /^name: "jackd"$/m.test(text))
}

async function pauseNames(client) {
  for (const [label, name] of NAMES) {
    await client.use(name).catch(() => {})
    await step(`pause-tube-name-${label}`, () => client.pauseTube(name, { delay: '0\r\n' }))
  }
  await client.use(TUBE)
}

async function bodies(client) {
  const limit = 'abcdefgh'.repeat(8191) + '1234567'
  for (const [label, payload] of [
    ['text', 'hello'], ['utf-8', 'grüße ✓'], ['line-ends', '\r\n\r\nput 0 0 1 1\r\n'], ['nul', '\0'],
    ['object', { type: 'object' }], ['buffer', Buffer.from([0, 255])], ['limit', limit],
  ]) {
    const id = await step(`put-${label}`, () => client.put(payload), showId)
    await step(`peek-${label}`, () => client.peek(id), showJob)
    await step(`reserve-${label}`, () => client.reserve(), showJob)
    await step(`delete-${label}`, () => client.delete(id))
  }
  await step('put-empty', () => client.put(''), showId)
  await step('put-over-limit', () => client.put(`${limit}x`), showId)
  await step('tube-after-over-limit', () => client.getCurrentTube())

  const legacy = await connect(TUBE, { useLegacyStringPayloads: true })
  const id = await step('put-legacy', () => legacy.put('legacy'), showId)
  await step('peek-legacy', () => legacy.peek(id), showJob)
  await step('reserve-legacy', () => legacy.reserve(), showJob)
  await step('delete-legacy', () => legacy.delete(id))
  return legacy
}

async function options(client) {
  for (const [label, given] of [
    ['defaults', undefined], ['least-urgent', { priority: 2 ** 32 - 1 }], ['urgent', { priority: 1023 }],
    ['not-urgent', { priority: 1024 }], ['ttr-1', { ttr: 1 }], ['all', { priority: 7, delay: 100, ttr: 90 }],
  ]) {
    const id = await step(`put-${label}`, () => client.put('a', given), showId)
    await step(`stats-job-${label}`, () => client.statsJob(id), showJobStats)
    await step(`stats-tube-${label}`, () => client.statsTube(TUBE), showTubeStats)
    await step(`delete-${label}`, () => client.delete(id))
  }
  for (const [label, given] of [
    ['priority-too-large', { priority: 2 ** 32 }], ['priority-negative', { priority: -1 }],
    ['delay-negative', { delay: -1 }], ['ttr-negative', { ttr: -1 }],
  ]) {
    // The header is refused, so the body is read as a command; this one makes the server close the connection.
    const lost = await connect()
    const closed = new Promise((resolve) => lost.socket.once('close', resolve))
    await step(`put-${label}`, () => lost.put('quit', given), showId)
    await closed
    await step(`connected-after-${label}`, () => lost.isConnected())
  }

  await client.put('first', { priority: 5 })
  await client.put('second', { priority: 5 })
  await client.put('urgent', { priority: 1 })
  await client.use(OTHER)
  await client.put('there', { priority: 4 })
  await client.use(TUBE)
  await client.watch(OTHER)
  await drain(client, 'order-across-tubes')
  await client.ignore(OTHER)
}

async function life(client, second) {
  const id = await step('put', () => client.put('work', { priority: 10, ttr: 60 }), showId)
  await step('touch-ready', () => client.touch(id))
  await step('release-ready', () => client.release(id))
  await step('bury-ready', () => client.bury(id))
  await step('kick-job-ready', () => client.kickJob(id))
  await step('peek-ready', () => client.peekReady(), showJob)
  await step('reserve', () => client.reserve(), showJob)
  await step('stats-job-reserved', () => client.statsJob(id), showJobStats)
  await step('stats-tube-reserved', () => client.statsTube(TUBE), showTubeStats)
  await step('touch', () => client.touch(id))
  await step('touch-of-another', () => second.touch(id))
  await step('release-of-another', () => second.release(id))
  await step('bury-of-another', () => second.bury(id))
  await step('delete-of-another', () => second.delete(id))
  await step('kick-job-reserved', () => client.kickJob(id))
  await step('peek-reserved-of-another', () => second.peek(id), showJob)
  await step('reserve-job-reserved', () => second.reserveJob(id), showJob)
  await step('reserve-job-own', () => client.reserveJob(id), showJob)
  await step('release', () => client.release(id, { priority: 3 }))
  await step('stats-job-released', () => client.statsJob(id), showJobStats)
  await step('reserve-job-ready', () => client.reserveJob(id), showJob)
  await step('release-delayed', () => client.release(id, { priority: 2, delay: 100 }))
  await step('stats-job-delayed', () => client.statsJob(id), showJobStats)
  await step('peek-delayed', () => client.peekDelayed(), showJob)
  await step('kick-job-delayed', () => client.kickJob(id))
  await step('stats-job-kicked', () => client.statsJob(id), showJobStats)
  await step('reserve-kicked', () => client.reserveWithTimeout(0), showJob)
  await step('bury', () => client.bury(id, 4))
  await step('stats-job-buried', () => client.statsJob(id), showJobStats)
  await step('peek-buried', () => client.peekBuried(), showJob)
  await step('kick-job-buried', () => client.kickJob(id))
  await step('reserve-again', () => client.reserveWithTimeout(0), showJob)
  await step('bury-default-priority', () => client.bury(id))
  await step('reserve-job-buried', () => client.reserveJob(id), showJob)
  await step('release-defaults', () => client.release(id))
  await step('stats-job-at-last', () => client.statsJob(id), showJobStats)
  await step('delete', () => client.delete(id))
  await step('delete-twice', () => client.delete(id))
  await step('touch-deleted', () => client.touch(id))
  await step('release-deleted', () => client.release(id))
  await step('bury-deleted', () => client.bury(id))
  await step('kick-job-deleted', () => client.kickJob(id))
  await step('peek-deleted', () => client.peek(id), showJob)
  await step('reserve-job-deleted', () => client.reserveJob(id), showJob)
  await step('stats-job-deleted', () => client.statsJob(id), showJobStats)
  await step('peek-ready-none', () => client.peekReady(), showJob)
  await step('peek-delayed-none', () => client.peekDelayed(), showJob)
  await step('peek-buried-none', () => client.peekBuried(), showJob)
  await step('stats-tube-none', () => client.statsTube(THIRD), showTubeStats)
  await step('pause-tube-none', () => client.pauseTube(THIRD, { delay: '1\r\n' }))
  await step('delete-no-number', () => client.delete('x'))
}

async function kicks(client) {
  for (const payload of ['b1', 'b2', 'b3']) {
    await client.put(payload)
    await client.bury((await client.reserve()).id)
  }
  await client.put('d1', { delay: 100 })
  await client.put('d2', { delay: 100 })
  await step('stats-tube-before-kicks', () => client.statsTube(TUBE), showTubeStats)
  await step('kick-2-of-3-buried', () => client.kick(2))
  await step('kick-buried-only', () => client.kick(10))
  await step('kick-delayed', () => client.kick(10))
  await step('kick-nothing', () => client.kick(10))
  await step('stats-tube-after-kicks', () => client.statsTube(TUBE), showTubeStats)
  await drain(client, 'kicked')

  // Sent without waiting for the answers between them.
  const puts = Array.from({ length: 100 }, (_, index) => client.put(`pipelined ${index}`))
  const ids = await Promise.all(puts)
  await step('pipelined-puts', () => `${ids.length}, ${ids.every((id, index) => id - ids[0] === index) ? 'in order' : ids}`)
  const mixed = await Promise.allSettled([
    client.delete(ids[0]), client.delete(ids[0]), client.watch(OTHER), client.kick(1), client.ignore(OTHER), client.use(TUBE),
  ])
  await step('pipelined-mix', () => mixed.map(({ value, reason }) => reason?.message ?? value ?? 'done').join(', '))
  const deletes = await Promise.all(ids.slice(1).map((id) => client.delete(id)))
  await step('pipelined-deletes', () => deletes.length)
}

async function deadlines(observer) {
  const holder = await connect(THIRD)
  try {
    const id = await step('put-short', () => holder.put('short', { ttr: 1 }), showId)
    run.leaseBegins()
    await step('reserve-short', () => holder.reserveWithTimeout(0), showJob)
    await step('reserve-near-deadline', () => holder.reserveWithTimeout(0), showJob)
    await step('reserve-blocking-near-deadline', () => holder.reserve(), showJob)
    await step('touch-short', () => holder.touch(id))
    run.leaseHolds()
    let expired
    await until('a job with a TTR of 1 comes back', async () => {
      run.leaseBegins()
      try {
        expired = await holder.reserveWithTimeout(5)
      } catch (error) {
        if (error.message !== 'DEADLINE_SOON') throw error
      }
      return expired !== undefined
    })
    await step('expired-comes-back', () => expired, showJob)
    await step('stats-job-expired', () => observer.statsJob(id), showJobStats)
    await step('delete-expired', () => holder.delete(id))
    run.leaseHolds()
  } finally {
    await holder.close()
  }
}

// Waits until the lost attempt's tube is gone, deleting what comes back into it.
async function undoDeadlines(client) {
  await until("the lost attempt's jobs are gone", async () => {
    try {
      if ((await tubeCount(client, 'current-jobs-ready', THIRD)) > 0) {
        await client.use(THIRD)
        await client.delete((await client.peekReady()).id)
        await client.use(TUBE)
      }
    } catch (error) {
      if (error.response === 'NOT_FOUND') return true
      throw error
    }
    return false
  })
  return 1
}

async function timeOuts(client, second) {
  await step('reserve-time-out-too-large', () => client.reserveWithTimeout(2 ** 32), showJob)
  await step('reserve-time-out-no-number', () => client.reserveWithTimeout('x'), showJob)
  const before = performance.now()
  await step('reserve-1-second', () => client.reserveWithTimeout(1), showJob)
  await step('reserve-1-second-waited', () => performance.now() - before >= 900)
  await run.attempt(() => deadlines(client), () => undoDeadlines(client))

  const late = await step('put-delay-1', () => client.put('late', { delay: 1 }), showId)
  await step('reserve-when-due', () => client.reserveWithTimeout(120), showJob)
  await step('release-delay-1', () => client.release(late, { delay: 1 }))
  await step('reserve-released-when-due', () => second.reserve(), showJob)
  await step('delete-late', () => second.delete(late))

  const held = await client.put('held up')
  await step('pause-tube', () => client.pauseTube(TUBE, { delay: '60\r\n' }))
  await step('stats-tube-paused', () => client.statsTube(TUBE), showTubeStats)
  await step('reserve-paused', () => client.reserveWithTimeout(0), showJob)
  const waiting = second.reserve()
  await until('a consumer waits', async () => (await tubeCount(client, 'current-waiting')) === 1)
  await step('pause-tube-0', () => client.pauseTube(TUBE, { delay: '0\r\n' }))
  await step('reserve-unpaused', () => waiting, showJob)
  await step('release-unpaused', () => second.release(held))
  await step('pause-tube-1', () => client.pauseTube(TUBE, { delay: '1\r\n' }))
  await step('reserve-after-pause', () => second.reserve(), showJob)
  await step('delete-after-pause', () => second.delete(held))
}

async function connections(client, second) {
  let waiting = second.reserve()
  await until('a consumer waits', async () => (await tubeCount(client, 'current-waiting')) === 1)
  await step('stats-tube-waiting', () => client.statsTube(TUBE), showTubeStats)
  const put = await step('put-to-waiting', () => client.put('at once'), showId)
  await step('waiting-got', () => waiting, showJob)
  await step('delete-got', () => second.delete(put))

  for (const [label, close] of [['quit', 'quit'], ['close', 'close'], ['disconnect', 'disconnect']]) {
    const third = await connect(TUBE)
    const kept = await step(`put-before-${label}`, () => client.put('given back'), showId)
    await step(`reserve-before-${label}`, () => third.reserve(), showJob)
    waiting = second.reserve()
    await until('a consumer waits', async () => (await tubeCount(client, 'current-waiting')) === 1)
    await step(label, () => third[close]())
    await step(`given-back-by-${label}`, () => waiting, showJob)
    await step(`stats-job-after-${label}`, () => client.statsJob(kept), showJobStats)
    await step(`delete-after-${label}`, () => second.delete(kept))
  }
}

async function main() {
  const client = await connect()
  const second = await connect(TUBE)
  const stats = parse(await client.stats())
  await step('stats-at-first', () => stats, serverStats)
  await step('stats-keys', () => stats, standardKeys)
  await step('stats-keys-after', () => stats, furtherKeys)
  await step('version-is-a-number', () => /^[0-9]+\.[0-9]+$/.test(stats.version))
  await names(client)
  const legacy = await bodies(client)
  await options(client)
  await life(client, second)
  await kicks(client)
  // What comes after this asks until something holds: how often is no matter of the server's.
  await step('stats-in-the-middle', async () => parse(await client.stats()), serverStats)
  await legacy.quit()
  await until('the other connections are gone', () => alone(client))
  // beanstalkd counts some of the refused ones, so they come after the counters.
  await pauseNames(client)
  await timeOuts(client, second)
  await connections(client, second)
  await until('the other connections are gone', () => alone(client))
  await step('stats-tube-at-last', () => client.statsTube(TUBE), showTubeStats)
  await step('list-tubes-at-last', () => client.listTubes())
  await second.quit()
  await client.quit()
}

await main()

// Walks through every command of fivebeans, and its worker, against the server at HOST PORT and prints a line per step.
//
// fivebeans has no reserve-job. Its `quit` never calls back; the closing of the connection is what shows it.
'use strict'

const fivebeans = require('fivebeans')
const { Run, plain, tubeStats, standardKeys, furtherKeys, serverStats } = require('./steps.cjs')

const [host, port] = [process.argv[2], Number(process.argv[3])]
const [TUBE, OTHER, THIRD] = ['fivebeans', 'fivebeans-other', 'fivebeans-third']

const NAMES = [
  ['200-long', 'n'.repeat(200)], ['201-long', 'n'.repeat(201)], ['empty', ''], ['dash-first', '-dash'],
  ['star', 'sta*r'], ['space', 'spa ce'], ['not-ascii', 'tübe'], ['nul', 'nu\0l'], ['number', '7'],
]

// fivebeans gives an answer it did not expect as a text.
const run = new Run((error) => (typeof error === 'string' ? error : undefined))
const step = run.step.bind(run)
const until = run.until.bind(run)

const showId = (id) => run.job(id)
const showJob = ([id, payload]) => `${run.job(id)} ${plain(payload)}`
const showJobStats = (stats) => run.jobStats(stats)
const showNames = (names) => JSON.stringify(names)

// One command as a promise of what it calls back with: nothing, one value, or a list of them.
function call(client, command, ...given) {
  return new Promise((resolve, reject) => {
    client[command](...given, (error, ...values) => {
      if (error) reject(error)
      else resolve(values.length > 1 ? values : values[0])
    })
  })
}

async function connect(tube) {
  const client = new fivebeans.client(host, port)
  await new Promise((resolve, reject) => {
    client.once('connect', resolve)
    client.once('error', reject)
    client.connect()
  })
  if (tube !== undefined) {
    await call(client, 'use', tube)
    await call(client, 'watch', tube)
    await call(client, 'ignore', 'default')
  }
  return client
}

function closed(client) {
  return new Promise((resolve) => client.once('close', resolve))
}

async function tubeCount(client, key, tube = TUBE) {
  return (await call(client, 'stats_tube', tube))[key]
}

async function alone(client) {
  const both = (await tubeCount(client, 'current-using')) === 2 && (await tubeCount(client, 'current-watching')) === 2
  return both && (await call(client, 'list_tubes')).length === 2
}

async function drain(client, name) {
  for (let count = 1; ; count += 1) {
    const job = await step(`${name}-${count}`, () => call(client, 'reserve_with_timeout', 0), showJob)
    if (job === undefined) return
    await call(client, 'destroy', job[0])
  }
}

async function names(client) {
  await step('list-tube-used-at-first', () => call(client, 'list_tube_used'))
  await step('list-tubes-at-first', () => call(client, 'list_tubes'), showNames)
  await step('list-tubes-watched-at-first', () => call(client, 'list_tubes_watched'), showNames)
  await step('use', () => call(client, 'use', TUBE))
  await step('list-tube-used', () => call(client, 'list_tube_used'))
  await step('watch', () => call(client, 'watch', TUBE))
  await step('watch-twice', () => call(client, 'watch', TUBE))
  await step('watch-other', () => call(client, 'watch', OTHER))
  await step('list-tubes', () => call(client, 'list_tubes'), showNames)
  await step('list-tubes-watched', () => call(client, 'list_tubes_watched'), showNames)
  await step('ignore-other', () => call(client, 'ignore', OTHER))
  await step('ignore-unwatched', () => call(client, 'ignore', OTHER))
  await step('ignore-default', () => call(client, 'ignore', 'default'))
  await step('ignore-last', () => call(client, 'ignore', TUBE))
  await step('list-tubes-after', () => call(client, 'list_tubes'), showNames)

  for (const [label, name] of NAMES) {
    await step(`use-name-${label}`, () => call(client, 'use', name))
    await step(`watch-name-${label}`, () => call(client, 'watch', name))
    await step(`ignore-name-${label}`, () => call(client, 'ignore', name))
    await step(`stats-tube-name-${label}`, async () => (await call(client, 'stats_tube', name))['current-using'])
  }
  // A name is quoted or not, and YAML makes a text or a number of it.
  await step('stats-tube-number-is', async () => typeof (await call(client, 'stats_tube', '7')).name)
  await call(client, 'use', TUBE)
}

async function pauseNames(client) {
  for (const [label, name] of NAMES) {
    await call(client, 'use', name).catch(() => {})
    await step(`pause-tube-name-${label}`, () => call(client, 'pause_tube', name, 0))
  }
  await call(client, 'use', TUBE)
}

async function bodies(client) {
  const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))
  const limit = Buffer.concat([...Array(255).fill(everyByte), everyByte.subarray(0, 255)])
  for (const [label, payload] of [
    ['text', 'hello'], ['utf-8', 'grüße ✓'], ['empty', ''], ['every-byte', everyByte],
    ['line-ends', '\r\n\r\nput 0 0 1 1\r\n'], ['limit', limit],
  ]) {
    const id = await step(`put-${label}`, () => call(client, 'put', 0, 0, 60, payload), showId)
    await step(`peek-${label}`, () => call(client, 'peek', id), showJob)
    await step(`reserve-${label}`, () => call(client, 'reserve'), showJob)
    await step(`delete-${label}`, () => call(client, 'destroy', id))
  }
  await step('put-over-limit', () => call(client, 'put', 0, 0, 60, Buffer.alloc(65536)), showId)
  await step('put-far-over-limit', () => call(client, 'put', 0, 0, 60, Buffer.alloc(300000)), showId)
  await step('list-tube-used-after-over-limit', () => call(client, 'list_tube_used'))
}

async function given(client) {
  for (const [label, priority, delay, ttr] of [
    ['most-urgent', 0, 0, 60], ['least-urgent', 2 ** 32 - 1, 0, 60], ['urgent', 1023, 0, 60], ['not-urgent', 1024, 0, 60],
    ['lowest-of-fivebeans', fivebeans.LOWEST_PRIORITY, 0, 60], ['ttr-0', 5, 0, 0], ['all', 7, 100, 90],
  ]) {
    const id = await step(`put-${label}`, () => call(client, 'put', priority, delay, ttr, 'a'), showId)
    await step(`stats-job-${label}`, () => call(client, 'stats_job', id), showJobStats)
    await step(`stats-tube-${label}`, () => call(client, 'stats_tube', TUBE), tubeStats)
    await step(`delete-${label}`, () => call(client, 'destroy', id))
  }
  for (const [label, priority, delay, ttr] of [
    ['priority-too-large', 2 ** 32, 0, 60], ['priority-negative', -1, 0, 60], ['delay-negative', 5, -1, 60],
    ['ttr-negative', 5, 0, -1], ['priority-no-number', 'x', 0, 60],
  ]) {
    // The header is refused, so the body is read as a command and answered too.
    const lost = await connect()
    const put = call(lost, 'put', priority, delay, ttr, 'list-tube-used')
    const body = call(lost, 'list_tube_used')
    await step(`put-${label}`, () => put, showId)
    await step(`body-of-${label}`, () => body)
    lost.end()
  }

  await call(client, 'put', 5, 0, 60, 'first')
  await call(client, 'put', 5, 0, 60, 'second')
  await call(client, 'put', 1, 0, 60, 'urgent')
  await call(client, 'use', OTHER)
  await call(client, 'put', 4, 0, 60, 'there')
  await call(client, 'use', TUBE)
  await call(client, 'watch', OTHER)
  await drain(client, 'order-across-tubes')
  await call(client, 'ignore', OTHER)
}

async function life(client, second) {
  const id = await step('put', () => call(client, 'put', 10, 0, 60, 'work'), showId)
  await step('touch-ready', () => call(client, 'touch', id))
  await step('release-ready', () => call(client, 'release', id, 1, 0))
  await step('bury-ready', () => call(client, 'bury', id, 1))
  await step('kick-job-ready', () => call(client, 'kick_job', id))
  await step('peek-ready', () => call(client, 'peek_ready'), showJob)
  await step('reserve', () => call(client, 'reserve'), showJob)
  await step('stats-job-reserved', () => call(client, 'stats_job', id), showJobStats)
  await step('stats-tube-reserved', () => call(client, 'stats_tube', TUBE), tubeStats)
  await step('touch', () => call(client, 'touch', id))
  await step('touch-of-another', () => call(second, 'touch', id))
  await step('release-of-another', () => call(second, 'release', id, 1, 0))
  await step('bury-of-another', () => call(second, 'bury', id, 1))
  await step('delete-of-another', () => call(second, 'destroy', id))
  await step('kick-job-reserved', () => call(client, 'kick_job', id))
  await step('peek-reserved-of-another', () => call(second, 'peek', id), showJob)
  await step('release', () => call(client, 'release', id, 3, 0))
  await step('stats-job-released', () => call(client, 'stats_job', id), showJobStats)
  await step('reserve-released', () => call(client, 'reserve_with_timeout', 0), showJob)
  await step('release-delayed', () => call(client, 'release', id, 2, 100))
  await step('stats-job-delayed', () => call(client, 'stats_job', id), showJobStats)
  await step('peek-delayed', () => call(client, 'peek_delayed'), showJob)
  await step('kick-job-delayed', () => call(client, 'kick_job', id))
  await step('stats-job-kicked', () => call(client, 'stats_job', id), showJobStats)
  await step('reserve-kicked', () => call(client, 'reserve_with_timeout', 0), showJob)
  await step('bury', () => call(client, 'bury', id, 4))
  await step('stats-job-buried', () => call(client, 'stats_job', id), showJobStats)
  await step('peek-buried', () => call(client, 'peek_buried'), showJob)
  await step('kick-job-buried', () => call(client, 'kick_job', id))
  await step('reserve-last', () => call(client, 'reserve'), showJob)
  await step('stats-job-at-last', () => call(client, 'stats_job', id), showJobStats)
  await step('delete', () => call(client, 'destroy', id))
  await step('delete-twice', () => call(client, 'destroy', id))
  await step('touch-deleted', () => call(client, 'touch', id))
  await step('release-deleted', () => call(client, 'release', id, 1, 0))
  await step('bury-deleted', () => call(client, 'bury', id, 1))
  await step('kick-job-deleted', () => call(client, 'kick_job', id))
  await step('peek-deleted', () => call(client, 'peek', id), showJob)
  await step('stats-job-deleted', () => call(client, 'stats_job', id), showJobStats)
  await step('peek-ready-none', () => call(client, 'peek_ready'), showJob)
  await step('peek-delayed-none', () => call(client, 'peek_delayed'), showJob)
  await step('peek-buried-none', () => call(client, 'peek_buried'), showJob)
  await step('stats-tube-none', () => call(client, 'stats_tube', THIRD), tubeStats)
  await step('pause-tube-none', () => call(client, 'pause_tube', THIRD, 1))
  await step('delete-no-number', () => call(client, 'destroy', 'x'))
}

async function kicks(client) {
  for (const payload of ['b1', 'b2', 'b3']) {
    await call(client, 'put', 5, 0, 60, payload)
    await call(client, 'bury', (await call(client, 'reserve'))[0], 5)
  }
  await call(client, 'put', 5, 100, 60, 'd1')
  await call(client, 'put', 5, 100, 60, 'd2')
  await step('stats-tube-before-kicks', () => call(client, 'stats_tube', TUBE), tubeStats)
  await step('kick-2-of-3-buried', () => call(client, 'kick', 2))
  await step('kick-buried-only', () => call(client, 'kick', 10))
  await step('kick-delayed', () => call(client, 'kick', 10))
  await step('kick-nothing', () => call(client, 'kick', 10))
  await step('stats-tube-after-kicks', () => call(client, 'stats_tube', TUBE), tubeStats)
  await drain(client, 'kicked')
}

// Commands sent without waiting for the answers between them, answers with bodies among them.
async function pipelines(client) {
  const puts = await Promise.all(Array.from({ length: 100 }, (_, index) => call(client, 'put', 5, 0, 60, `number ${index}`)))
  const inOrder = puts.every((id, index) => id - puts[0] === index)
  await step('pipelined-puts', () => `${puts.length}, ${inOrder ? 'in order' : puts}`)
  const jobs = await Promise.all(puts.map(() => call(client, 'reserve')))
  await step('pipelined-reserves', () => jobs.every(([id, payload], index) => id === puts[index] && payload.toString() === `number ${index}`))
  const mixed = await Promise.allSettled([
    call(client, 'destroy', puts[0]), call(client, 'destroy', puts[0]), call(client, 'peek', puts[1]),
    call(client, 'release', puts[1], 5, 0), call(client, 'watch', OTHER), call(client, 'list_tubes_watched'),
    call(client, 'reserve_with_timeout', 0), call(client, 'reserve_with_timeout', 0), call(client, 'ignore', OTHER),
  ])
  const show = (value) => (Array.isArray(value) && Buffer.isBuffer(value[1]) ? showJob(value) : JSON.stringify(value) ?? 'done')
  await step('pipelined-mix', () => mixed.map(({ value, reason }) => reason ?? show(value)).join(', '), String)
  const deletes = await Promise.all(puts.slice(1).map((id) => call(client, 'destroy', id)))
  await step('pipelined-deletes', () => deletes.length)
}

async function deadlines(observer) {
  const holder = await connect(THIRD)
  try {
    const id = await step('put-ttr-1', () => call(holder, 'put', 5, 0, 1, 'short'), showId)
    run.leaseBegins()
    await step('reserve-ttr-1', () => call(holder, 'reserve_with_timeout', 0), showJob)
    await step('reserve-near-deadline', () => call(holder, 'reserve_with_timeout', 0), showJob)
    await step('reserve-blocking-near-deadline', () => call(holder, 'reserve'), showJob)
    await step('touch-ttr-1', () => call(holder, 'touch', id))
    run.leaseHolds()
    let expired
    await until('a job with a TTR of 1 comes back', async () => {
      run.leaseBegins()
      try {
        expired = await call(holder, 'reserve_with_timeout', 5)
      } catch (answer) {
        if (answer !== 'DEADLINE_SOON') throw answer
      }
      return expired !== undefined
    })
    await step('expired-comes-back', () => expired, showJob)
    await step('stats-job-expired', () => call(observer, 'stats_job', id), showJobStats)
    await step('delete-expired', () => call(holder, 'destroy', id))
    run.leaseHolds()
  } finally {
    holder.end()
  }
}

// Waits until the lost attempt's tube is gone, deleting what comes back into it.
async function undoDeadlines(client) {
  await until("the lost attempt's jobs are gone", async () => {
    try {
      if ((await tubeCount(client, 'current-jobs-ready', THIRD)) > 0) {
        await call(client, 'use', THIRD)
        await call(client, 'destroy', (await call(client, 'peek_ready'))[0])
        await call(client, 'use', TUBE)
      }
    } catch (answer) {
      if (answer === 'NOT_FOUND') return true
      throw answer
    }
    return false
  })
  return 1
}

async function timeOuts(client, second) {
  await step('reserve-time-out-too-large', () => call(client, 'reserve_with_timeout', 2 ** 32), showJob)
  await step('reserve-time-out-no-number', () => call(client, 'reserve_with_timeout', 'x'), showJob)
  const before = performance.now()
  await step('reserve-1-second', () => call(client, 'reserve_with_timeout', 1), showJob)
  await step('reserve-1-second-waited', () => performance.now() - before >= 900)
  await run.attempt(() => deadlines(client), () => undoDeadlines(client))

  const late = await step('put-delay-1', () => call(client, 'put', 5, 1, 60, 'late'), showId)
  await step('reserve-when-due', () => call(client, 'reserve_with_timeout', 120), showJob)
  await step('release-delay-1', () => call(client, 'release', late, 5, 1))
  await step('reserve-released-when-due', () => call(second, 'reserve'), showJob)
  await step('delete-late', () => call(second, 'destroy', late))

  const held = await call(client, 'put', 5, 0, 60, 'held up')
  await step('pause-tube', () => call(client, 'pause_tube', TUBE, 60))
  await step('stats-tube-paused', () => call(client, 'stats_tube', TUBE), tubeStats)
  await step('reserve-paused', () => call(client, 'reserve_with_timeout', 0), showJob)
  const waiting = call(second, 'reserve')
  await until('a consumer waits', async () => (await tubeCount(client, 'current-waiting')) === 1)
  await step('pause-tube-0', () => call(client, 'pause_tube', TUBE, 0))
  await step('reserve-unpaused', () => waiting, showJob)
  await step('release-unpaused', () => call(second, 'release', held, 5, 0))
  await step('pause-tube-1', () => call(client, 'pause_tube', TUBE, 1))
  await step('reserve-after-pause', () => call(second, 'reserve'), showJob)
  await step('delete-after-pause', () => call(second, 'destroy', held))
}

async function connections(client, second) {
  // The commands behind a waiting reserve wait with it.
  const waiting = call(second, 'reserve')
  const behind = call(second, 'list_tube_used')
  await until('a consumer waits', async () => (await tubeCount(client, 'current-waiting')) === 1)
  await step('stats-tube-waiting', () => call(client, 'stats_tube', TUBE), tubeStats)
  const put = await step('put-to-waiting', () => call(client, 'put', 5, 0, 60, 'at once'), showId)
  await step('waiting-got', () => waiting, showJob)
  await step('behind-waiting-got', () => behind)
  await step('delete-got', () => call(second, 'destroy', put))

  for (const [label, close] of [['quit', (third) => third.quit(() => {})], ['end', (third) => third.end()]]) {
    const third = await connect(TUBE)
    const kept = await step(`put-before-${label}`, () => call(client, 'put', 5, 0, 60, 'given back'), showId)
    await step(`reserve-before-${label}`, () => call(third, 'reserve'), showJob)
    const next = call(second, 'reserve')
    await until('a consumer waits', async () => (await tubeCount(client, 'current-waiting')) === 1)
    const gone = closed(third)
    close(third)
    await step(`closed-by-${label}`, () => gone)
    await step(`given-back-by-${label}`, () => next, showJob)
    await step(`stats-job-after-${label}`, () => call(client, 'stats_job', kept), showJobStats)
    await step(`delete-after-${label}`, () => call(second, 'destroy', kept))
  }
}

// The worker deletes, buries or releases a job as its handler says; the events it emits are the answer.
async function worker(client) {
  await call(client, 'use', THIRD)
  for (const payload of [
    '{"type":"echo","payload":"success"}', '{"type":"echo","payload":"bury"}', '{"type":"echo","payload":"release"}',
    '{"type":"unknown"}', '{"payload":"no type"}', 'no JSON', '["tube",{"type":"echo","payload":"success"}]',
  ]) {
    run.job(await call(client, 'put', 5, 0, 60, payload))
  }
  const seen = []
  const handlers = { echo: { type: 'echo', work: (payload, done) => done(payload, 100) } }
  const worked = new fivebeans.worker({ id: 'w', host, port, handlers, ignoreDefault: true, timeout: 1 })
  for (const event of ['started', 'job.reserved', 'job.deleted', 'job.buried', 'job.released', 'stopped']) {
    worked.on(event, (id) => seen.push(id === undefined ? event : `${event} ${run.job(id)}`))
  }
  worked.on('job.handled', ({ action }) => seen.push(`job.handled ${action}`))
  worked.on('warning', ({ message }) => seen.push(`warning ${message}`))
  const gone = new Promise((resolve) => worked.once('close', resolve))
  worked.start([THIRD])
  await until('the worker has seen every job', () => seen.filter((event) => event.startsWith('job.reserved')).length === 7)
  worked.stop()
  await gone
  for (const [index, event] of seen.entries()) await step(`worker-${index + 1}`, () => event, String)
  await step('stats-tube-after-worker', () => call(client, 'stats_tube', THIRD), tubeStats)
  await step('kick-after-worker', () => call(client, 'kick', 10))
  await step('kick-delayed-after-worker', () => call(client, 'kick', 10))
  await call(client, 'watch', THIRD)
  const left = []
  for (let job; job !== 'TIMED_OUT'; left.push(job === 'TIMED_OUT' ? job : showJob(job))) {
    job = await call(client, 'reserve_with_timeout', 0).catch((answer) => answer)
    if (job !== 'TIMED_OUT') await call(client, 'destroy', job[0])
  }
  await step('after-worker', () => left.join(', '), String)
  await call(client, 'ignore', THIRD)
  await call(client, 'use', TUBE)
}

async function main() {
  const client = await connect()
  const second = await connect(TUBE)
  const stats = await call(client, 'stats')
  await step('stats-at-first', () => stats, serverStats)
  await step('stats-keys', () => stats, standardKeys)
  await step('stats-keys-after', () => stats, furtherKeys)
  await step('version-is-a-number', () => /^[0-9]+\.[0-9]+$/.test(stats.version))
  await names(client)
  await bodies(client)
  await given(client)
  await life(client, second)
  await kicks(client)
  await pipelines(client)
  // What comes after this asks until something holds: how often is no matter of the server's.
  await step('stats-in-the-middle', () => call(client, 'stats'), serverStats)
  // beanstalkd counts some of the refused ones, so they come after the counters.
  await pauseNames(client)
  await timeOuts(client, second)
  await connections(client, second)
  await worker(client)
  await until('the other connections are gone', () => alone(client))
  await step('stats-tube-at-last', () => call(client, 'stats_tube', TUBE), tubeStats)
  await step('list-tubes-at-last', () => call(client, 'list_tubes'), showNames)
  second.end()
  client.end()
}

main()

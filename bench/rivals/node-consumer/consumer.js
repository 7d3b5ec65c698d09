// A consumer of the usual kind: amqplib, pg, protobufjs. Takes up to 500 messages
// or what came in 50 ms, writes them in one transaction with multi-row INSERT and
// upsert, acknowledges after the commit. What it leaves out of what AssetTrack does
// (revisions, snapshots, streams, changed fields, dead letters) is to its advantage.
//
// Environment: AMQP_URL, QUEUES (comma-separated), DATABASE_URL, PROTO_DIR, PORT (of
// /metrics on 127.0.0.1).
'use strict'

const http = require('node:http')
const path = require('node:path')
const zlib = require('node:zlib')
const amqp = require('amqplib')
const { Pool } = require('pg')
const protobuf = require('protobufjs')
const fzstd = require('fzstd')

const PREFETCH = 500
const BATCH_MESSAGES = 500
const BATCH_MILLIS = 50
// PostgreSQL takes 65,535 parameters a statement.
const ROWS = 2000
const ABSENT = 2

const SCHEMA = `
CREATE TABLE IF NOT EXISTS event_log (
  event_id uuid PRIMARY KEY, node uuid NOT NULL, stream uuid NOT NULL, sequence bigint NOT NULL,
  batch_index integer NOT NULL, kind smallint NOT NULL, presence smallint NOT NULL, natural_key text NOT NULL,
  display_name text NOT NULL, observe_time timestamptz, details jsonb,
  record_time timestamptz NOT NULL DEFAULT now());
CREATE INDEX IF NOT EXISTS event_log_by_asset ON event_log (node, kind, natural_key, record_time DESC);
CREATE TABLE IF NOT EXISTS asset_state (
  node uuid NOT NULL, kind smallint NOT NULL, natural_key text NOT NULL, display_name text NOT NULL,
  active boolean NOT NULL, details jsonb, sequence bigint NOT NULL, batch_index integer NOT NULL,
  update_time timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (node, kind, natural_key));
CREATE INDEX IF NOT EXISTS asset_state_by_name ON asset_state (display_name);`

const LOG_COLUMNS =
  ['event_id', 'node', 'stream', 'sequence', 'batch_index', 'kind', 'presence', 'natural_key', 'display_name',
    'observe_time', 'details']
const STATE_COLUMNS =
  ['node', 'kind', 'natural_key', 'display_name', 'active', 'details', 'sequence', 'batch_index']

const inflate = zlib.zstdDecompressSync ?? ((body) => fzstd.decompress(body))

// Multi-row VALUES, the same text for the same number of rows.
function values (columns, rows) {
  const lines = []
  for (let row = 0; row < rows; row++) {
    lines.push('(' + columns.map((_, column) => '$' + (row * columns.length + column + 1)).join(',') + ')')
  }
  return lines.join(',')
}

async function write (client, rows, columns, before, after) {
  for (let start = 0; start < rows.length; start += ROWS) {
    const part = rows.slice(start, start + ROWS)
    await client.query(before + values(columns, part.length) + after, part.flat())
  }
}

async function store (pool, batches) {
  const log = []
  const state = new Map()
  for (const batch of batches) {
    const node = batch.node.uid
    const sequence = Number(batch.sequence)
    batch.observations.forEach((seen, index) => {
      const { kind, presence, naturalKey } = seen
      const details = seen.details ? JSON.stringify(seen.details) : null
      const time = seen.observeTime
      const at = time ? new Date(Number(time.seconds) * 1000 + time.nanos / 1e6) : null
      log.push([seen.eventId, node, batch.stream, sequence, index, kind, presence, naturalKey, seen.displayName, at,
        details])
      // One statement cannot write a row twice: the newest stays.
      const key = node + '\0' + kind + '\0' + naturalKey
      const known = state.get(key)
      if (!known || known[6] < sequence || (known[6] === sequence && known[7] < index)) {
        state.set(key, [node, kind, naturalKey, seen.displayName, presence !== ABSENT, details, sequence, index])
      }
    })
  }
  const client = await pool.connect()
  try {
    await client.query('BEGIN')
    await write(client, log, LOG_COLUMNS, `INSERT INTO event_log (${LOG_COLUMNS}) VALUES `,
      ' ON CONFLICT (event_id) DO NOTHING')
    await write(client, [...state.values()], STATE_COLUMNS, `INSERT INTO asset_state (${STATE_COLUMNS}) VALUES `,
      ` ON CONFLICT (node, kind, natural_key) DO UPDATE SET
          display_name = CASE WHEN excluded.active THEN excluded.display_name ELSE asset_state.display_name END,
          details = coalesce(excluded.details, asset_state.details), active = excluded.active,
          sequence = excluded.sequence, batch_index = excluded.batch_index, update_time = now()
        WHERE (asset_state.sequence, asset_state.batch_index) < (excluded.sequence, excluded.batch_index)`)
    await client.query('COMMIT')
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  } finally {
    client.release()
  }
}

async function main () {
  const { AMQP_URL, QUEUES, DATABASE_URL, PROTO_DIR, PORT } = process.env
  const root = new protobuf.Root()
  root.resolvePath = (_, target) =>
    target.startsWith('google/') ? path.join(__dirname, 'node_modules/protobufjs', target) : path.join(PROTO_DIR, target)
  await root.load('assettrack/v1/event.proto')
  const EventBatch = root.lookupType('assettrack.v1.EventBatch')
  const pool = new Pool({ connectionString: DATABASE_URL, max: 4 })
  await pool.query(SCHEMA)

  let taken = 0
  let acknowledged = 0
  http.createServer((_, answer) =>
    answer.end(`consumer_taken_total ${taken}\nconsumer_messages_total ${acknowledged}\n`))
    .listen(Number(PORT), '127.0.0.1')

  const connection = await amqp.connect(AMQP_URL)
  const channel = await connection.createChannel()
  // For each consumer: quorum queues know no prefetch of a channel.
  await channel.prefetch(PREFETCH)
  let waiting = []
  let timer = null
  let work = Promise.resolve()
  const flush = () => {
    clearTimeout(timer)
    timer = null
    const messages = waiting
    waiting = []
    if (messages.length === 0) return
    work = work.then(async () => {
      await store(pool, messages.map(({ content, properties }) =>
        EventBatch.decode(properties.contentEncoding === 'zstd' ? inflate(content) : content)))
      for (const message of messages) channel.ack(message)
      acknowledged += messages.length
    }).catch((error) => {
      console.error(error)
      process.exit(1)
    })
  }
  const take = (message) => {
    taken++
    waiting.push(message)
    if (waiting.length >= BATCH_MESSAGES) flush()
    else timer ??= setTimeout(flush, BATCH_MILLIS)
  }
  for (const queue of QUEUES.split(',')) await channel.consume(queue, take)
  // What is acknowledged must reach the broker, or it comes again.
  process.on('SIGTERM', () => {
    work.then(() => channel.close()).then(() => connection.close()).then(() => process.exit(0))
  })
  console.log('consumes')
}

main().catch((error) => {
  console.error(error)
  process.exit(1)
})

'use strict'
// Does what the tests of test/clients ask of kafkajs: the same commands and answers
// as test/java's Client; it consumes in a group of one member, because kafkajs has no consumer
// without a group. With the arguments "member ADDR GROUP TOPIC SESSION HEARTBEAT WAIT",
// times in ms, it is a member of a group, as test/java's Member is.
const readline = require('readline')
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs')
const lz4 = require('lz4-napi')
const zstd = require('@bokuweb/zstd-wasm')

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  // Not lz4js: its blocks depend on each other, which neither Kafka nor Java can read.
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(zstd.decompress(buffer)),
})
const codecs = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

const bytes = field => (field === '-' ? null : Buffer.from(field, 'base64'))

function message(line) {
  const f = line.split('\t')
  const m = { partition: 0, timestamp: f[0], key: bytes(f[1]), value: bytes(f[2]), headers: {} }
  for (let i = 3; i + 1 < f.length; i += 2) {
    const key = bytes(f[i]).toString()
    m.headers[key] = (m.headers[key] || []).concat([bytes(f[i + 1])])
  }
  return m
}

async function produce(addr, topic, codec, messages) {
  const kafka = new Kafka({ clientId: 'test', brokers: [addr], logLevel: logLevel.ERROR })
  const producer = kafka.producer()
  await producer.connect()
  try {
    for (let i = 0; i < messages.length; i += 100) {
      const part = messages.slice(i, i + 100)
      const acks = await producer.send({ topic, compression: codecs[codec], messages: part })
      if (acks[0].baseOffset !== String(i)) {
        throw new Error(`message ${i} was acknowledged with offset ${acks[0].baseOffset}`)
      }
    }
  } finally {
    await producer.disconnect()
  }
}

const line = m => {
  const text = b => (b === null || b === undefined ? '-' : Buffer.from(b).toString('base64'))
  const fields = [m.timestamp, text(m.key), text(m.value)]
  for (const [key, values] of Object.entries(m.headers || {})) {
    for (const v of [].concat(values)) fields.push(text(key), text(v))
  }
  return fields.join('\t')
}

// consume prints the first n messages of partition 0.
let groups = 0
async function consume(addr, topic, n) {
  const kafka = new Kafka({ clientId: 'test', brokers: [addr], logLevel: logLevel.ERROR })
  const consumer = kafka.consumer({ groupId: `read-${topic}-${process.pid}-${groups++}`, maxWaitTimeInMs: 50 })
  await consumer.connect()
  try {
    await consumer.subscribe({ topic, fromBeginning: true })
    await new Promise((resolve, reject) => {
      consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error))
      let left = n
      consumer.run({
        autoCommit: false,
        eachMessage: async ({ message: m }) => {
          if (left > 0) process.stdout.write(line(m) + '\n')
          if (--left === 0) resolve()
        },
      }).catch(reject)
    })
  } finally {
    await consumer.disconnect()
  }
}

// send sends text to several partitions.
async function send(addr, topic, codec, lines) {
  const kafka = new Kafka({ clientId: 'test', brokers: [addr], logLevel: logLevel.ERROR })
  const producer = kafka.producer()
  await producer.connect()
  try {
    const messages = lines.map(line => {
      const [partition, value] = line.split('\t')
      return { partition: Number(partition), value }
    })
    await producer.send({ topic, compression: codecs[codec], messages })
  } finally {
    await producer.disconnect()
  }
}

// member commits each batch once it has printed it. A commit that fails because the
// group rebalances is retried by nobody: the batch comes again, here or elsewhere.
async function member(addr, groupId, topic, sessionTimeout, heartbeatInterval, maxWaitTimeInMs) {
  const kafka = new Kafka({ clientId: 'test', brokers: [addr], logLevel: logLevel.ERROR, retry: { initialRetryTime: 50, retries: 50 } })
  const consumer = kafka.consumer({
    groupId, sessionTimeout, heartbeatInterval, maxWaitTimeInMs, rebalanceTimeout: 2 * sessionTimeout,
  })
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    console.error('crash', payload.error, payload.restart)
    if (!payload.restart) process.exit(1)
  })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch, isStale, isRunning, heartbeat }) => {
      if (isStale() || !isRunning()) return
      let next
      for (const m of batch.messages) {
        process.stdout.write(`record\t${batch.partition}\t${m.offset}\t${m.value}\n`)
        next = (BigInt(m.offset) + 1n).toString()
      }
      if (next === undefined) return
      await new Promise(resolve => setTimeout(resolve, Number(process.env.MEMBER_PAUSE || '0')))
      try {
        await consumer.commitOffsets([{ topic, partition: batch.partition, offset: next }])
      } catch (e) {
        process.stdout.write('failed\n')
        throw e.cause || e // who is not a member any more joins again: kafkajs looks at the cause's type
      }
      // While it ends, kafkajs commits nothing and says nothing of it.
      if (!isRunning()) {
        process.stdout.write('failed\n')
        return
      }
      process.stdout.write(`committed\t${batch.partition}\t${next}\n`)
      await heartbeat()
    },
  })
  process.stdin.resume()
  await new Promise(resolve => process.stdin.once('end', resolve))
  await consumer.disconnect()
  process.exit(0)
}

async function main() {
  await zstd.init()
  if (process.argv[2] === 'member') {
    const [addr, group, topic, ...times] = process.argv.slice(3)
    return member(addr, group, topic, ...times.map(Number))
  }
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  const next = async () => (await lines.next()).value
  for (let line = await next(); line !== undefined; line = await next()) {
    const [command, addr, topic, codec, n] = line.split('\t')
    try {
      const input = []
      while (input.length < Number(n)) input.push(await next())
      if (command === 'produce') await produce(addr, topic, codec, input.map(message))
      else if (command === 'consume') await consume(addr, topic, Number(codec))
      else if (command === 'send') await send(addr, topic, codec, input)
      else throw new Error(`unknown command ${command}`)
      process.stdout.write('ok\n')
    } catch (e) {
      console.error(e)
      process.stdout.write(`error\t${String(e).replace(/[\t\n]/g, ' ')}\n`)
    }
  }
}

main().catch(e => {
  console.error(e)
  process.exit(1)
})

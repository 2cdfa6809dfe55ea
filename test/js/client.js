'use strict'
// Does what the tests of test/clients ask of kafkajs: the same commands and answers
// as test/java's Client, of which kafkajs can only produce: it has no consumer
// without a group.
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

async function main() {
  await zstd.init()
  const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
  const next = async () => (await lines.next()).value
  for (let line = await next(); line !== undefined; line = await next()) {
    const [command, addr, topic, codec, n] = line.split('\t')
    try {
      if (command !== 'produce') throw new Error(`unknown command ${command}`)
      const messages = []
      while (messages.length < Number(n)) messages.push(message(await next()))
      await produce(addr, topic, codec, messages)
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

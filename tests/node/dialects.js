// Reads values in Erlang's term format and in MessagePack, and writes them; as tests/python/dialects.py.
const readline = require('readline');
const msgpack = require('@msgpack/msgpack');
const { ENCODINGS } = require('./singyeong_client');

// What erlang_js cannot write: numbers that are no small integers come out in a kind of their own, or not at all.
function isWritable(value) {
  if (typeof value === 'number') return Number.isInteger(value) && Math.abs(value) < 2 ** 31;
  return value === null || typeof value !== 'object' || Object.values(value).every(isWritable);
}

readline.createInterface({ input: process.stdin }).on('line', line => {
  const { json, ...bodies } = JSON.parse(line);
  const value = JSON.parse(json);
  const body = name => Buffer.from(bodies[name], 'hex');
  const { etf } = ENCODINGS;
  console.log(JSON.stringify({
    etf: JSON.stringify(etf.decode(body('etf'), new Set())),
    msgpack: JSON.stringify(msgpack.decode(body('msgpack'))),
    text: JSON.stringify(JSON.parse(msgpack.decode(body('text')))),
    packed_etf: isWritable(value) ? Buffer.from(etf.encode(value)).toString('hex') : null,
    packed_msgpack: Buffer.from(msgpack.encode(value)).toString('hex'),
  }));
});

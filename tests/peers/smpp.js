// Answers for the codecs of npm's smpp: a question in JSON on each line of stdin, its answer on the same line of stdout.
'use strict';

const { encodings, gsmCoder } = require('smpp');

const answers = {
  encode: ({ as, text }) => encodings[as].encode(text).toString('hex').toUpperCase(),
  decode: ({ as, octets }) => encodings[as].decode(Buffer.from(octets, 'hex')),
  // The tables of a language, by its identifier.
  encodeIn: ({ language, text }) => gsmCoder.encode(text, language).toString('hex').toUpperCase(),
  decodeIn: ({ language, octets }) => gsmCoder.decode(Buffer.from(octets, 'hex'), language),
  // Every character of one unit that it takes for one of GSM 03.38.
  alphabet: () => [...Array(0x10000).keys()].filter((code) => encodings.ASCII.match(String.fromCharCode(code))),
};

require('readline')
  .createInterface({ input: process.stdin })
  .on('line', (line) => {
    const question = JSON.parse(line);
    console.log(JSON.stringify({ is: answers[question.do](question) }));
  });

// JSON as text: where it stops being JSON, which browsers tell each in its own way, and some not at all; and how it is read best,
// with each number as it was written.

// On many lines; it may be cut.
export function pretty(text) {
  const tokens = text.match(/"(?:[^"\\]|\\.?)*"?|[{}[\],:]|[^\s{}[\],:"]+/g) ?? [];
  let depth = 0;
  const line = () => `\n${'  '.repeat(depth)}`;
  return tokens.map((token, at) => {
    const empty = '}]'.includes(tokens[at + 1]);
    if (token === '{' || token === '[') { depth += 1; return empty ? token : token + line(); }
    if (token === '}' || token === ']') { depth -= 1; return '{['.includes(tokens[at - 1]) ? token : line() + token; }
    return token === ',' ? token + line() : token === ':' ? ': ' : token;
  }).join('');
}

// The place of the first mistake, counted from 1, and what should stand there.
export function mistake(text) {
  let at = 0;
  const fail = (wanted) => { throw { at, wanted }; };
  const blank = () => { while (/[ \t\n\r]/.test(text[at] ?? '')) at += 1; };
  const take = (pattern, wanted) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (!found) fail(wanted);
    at += found[0].length;
  };
  const string = (wanted) => {
    if (text[at] !== '"') fail(wanted);
    at += 1;
    while (text[at] !== '"') {
      if (at >= text.length || text[at] < ' ') fail('a " at the end of the text');
      if (text[at] === '\\') take(/\\(["\\/bfnrt]|u[0-9a-fA-F]{4})/y, 'one of \\" \\\\ \\/ \\b \\f \\n \\r \\t \\u0000');
      else at += 1;
    }
    at += 1;
  };
  const list = (end, one) => {
    at += 1;
    blank();
    if (text[at] === end) { at += 1; return; }
    for (;;) {
      one();
      blank();
      if (text[at] === end) { at += 1; return; }
      if (text[at] !== ',') fail(`, or ${end}`);
      at += 1;
      blank();
    }
  };
  const value = () => {
    blank();
    if (text[at] === '{') {
      list('}', () => {
        string('a name in "quotes"');
        blank();
        if (text[at] !== ':') fail('a : after the name');
        at += 1;
        value();
      });
    } else if (text[at] === '[') list(']', value);
    else if (text[at] === '"') string();
    else take(/-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?|true|false|null/y, 'a value: { } [ ] "text" 1 true false null');
  };
  try {
    value();
    blank();
    if (at < text.length) fail('nothing more');
    return null;
  } catch (found) {
    // Nested deeper than we can go.
    if (found instanceof Error) return null;
    const before = text.slice(0, found.at).split('\n');
    return { line: before.length, column: before.at(-1).length + 1, wanted: found.wanted };
  }
}

// The page: takes states from the stream, paints at most once a frame, and shows what there is to show where there is none.

import { $, clock, now, put, say, setClock, span } from './words.js';
import { Live, Refused, TIMEOUT, request, token } from './live.js';
import { Shards } from './shards.js';
import * as panels from './panels.js';
import { Amybot, Singyeong } from './asking.js';

const CHARTS_EVERY = 5000;

// After so long a chart shows what was.
const CHART_OLD = 15000;

const shards = new Shards();
const singyeong = new Singyeong();
const amybot = new Amybot();
const live = new Live({ state: take, lost, door });

let newest = null;
let painting = false;
let broken = null;

live.again();
setInterval(second, 1000);
setInterval(slow, CHARTS_EVERY);
$('lost-now').addEventListener('click', () => live.again());
document.addEventListener('visibilitychange', () => { if (!document.hidden) slow(); });

function take(state) {
  setClock(state.at);
  shards.take(state);
  const first = document.body.dataset.state !== 'live';
  newest = state;
  broken = null;
  mode('live');
  title();
  if (!painting) {
    painting = true;
    requestAnimationFrame(paint);
  }
  if (first) slow();
}

function paint() {
  painting = false;
  const state = newest;
  say($('group'), state.group ?? '');
  $('data').toggleAttribute('data-partial', Boolean(state.partial));
  panels.problems(state);
  panels.totals(state, shards);
  shards.paint();
  panels.events(state);
  panels.commands(state);
  panels.processes(state);
  panels.queues(state);
  singyeong.show(state);
  amybot.show(state);
  const here = state.processes.find((process) => process.node === state.here);
  say($('foot'), here ? `Served by ${here.name}, Optic ${here.optic}.` : '');
  second();
}

// How the page is: loading, live, lost, door. What is shown of it is written in page.css.
function mode(name) {
  if (document.body.dataset.state !== name) document.body.dataset.state = name;
  $('door').hidden = name !== 'door';
  $('data').hidden = name === 'door';
  $('lost').hidden = name !== 'lost';
  const [sign, word] = { loading: ['…', 'connecting'], live: ['●', 'live'], lost: ['✕', 'connection lost'], door: ['■', 'locked'] }[name];
  say($('link-sign'), sign);
  say($('link-word'), word);
}

// What stands in the tab tells how it is while somebody looks elsewhere.
function title() {
  const group = newest?.group ? ` · ${newest.group}` : '';
  const wrong = newest?.problems.length ?? 0;
  const text = broken ? `✕ Optic${group}` : wrong ? `▲ ${wrong} · Optic${group}` : `Optic${group}`;
  if (document.title !== text) document.title = text;
}

function lost(why, next) {
  broken ??= { since: now() };
  broken.next = next;
  mode('lost');
  const seen = newest ? ` What you see is as of ${clock(newest.at)}.` : '';
  // Said once, and not with each try.
  say($('lost-words'), `${newest ? 'Connection lost' : 'Not connected'} since ${clock(broken.since)}: ${why}.${seen}`);
  title();
  second();
}

function door(refused) {
  const had = token.get() != null;
  if (refused.status === 401) token.set(null);
  mode('door');
  const shut = refused.status === 403;
  $('door-form').hidden = shut;
  say($('door-title'), shut ? 'Nobody is let in from here' : 'Who is there?');
  say($('door-why'), shut
    ? `${sentence(refused.message)} From elsewhere than the machine itself, the page is shown to whoever knows HTTP_TOKEN: set it, and start Optic again.`
    : 'The page is shown to whoever knows HTTP_TOKEN.');
  say($('door-error'), refused.status === 429 ? sentence(refused.message) : had ? 'The token is wrong.' : '');
  if (!shut) $('door-token').focus();
}

const sentence = (words) => `${words.charAt(0).toUpperCase()}${words.slice(1)}.`;

$('door-form').addEventListener('submit', (event) => {
  event.preventDefault();
  token.set($('door-token').value.trim());
  $('door-token').value = '';
  say($('door-error'), '');
  live.again();
});

function second() {
  if (newest) say($('as-of'), `· as of ${clock(newest.at)}`);
  for (const box of document.querySelectorAll('.chart')) if (box.drawn && Date.now() - box.drawn > CHART_OLD) box.classList.add('old');
  if (broken) say($('lost-next'), `Next try in ${span(Math.max(0, broken.next - Date.now()))}.`);
}

function slow() {
  if (document.hidden || document.body.dataset.state !== 'live') return;
  for (const figure of document.querySelectorAll('figure[data-chart]')) chart(figure);
  amybot.look();
}

// What a chart may be made of. It comes from our own server; names of events in it do not.
const ELEMENTS = new Set(['svg', 'g', 'path', 'line', 'rect', 'circle', 'polyline', 'polygon', 'text', 'tspan', 'title', 'desc']);
const ATTRIBUTES = /^(class|viewBox|xmlns|d|points|[xy][12]?|d[xy]|c[xy]|r[xy]?|width|height|transform|fill(-opacity|-rule)?|stroke(-(width|opacity|dasharray|linecap|linejoin))?|opacity|font-(size|family|weight)|text-anchor|dominant-baseline|alignment-baseline)$/;

async function chart(figure) {
  const box = figure.querySelector('.chart');
  if (figure.asking || box.clientWidth === 0) return;
  figure.asking = true;
  try {
    const width = Math.max(320, Math.min(1200, Math.round(box.clientWidth / 20) * 20));
    const text = await (await request(`/api/chart/${figure.dataset.chart}.svg?width=${width}`, { signal: AbortSignal.timeout(TIMEOUT) })).text();
    const root = new DOMParser().parseFromString(text, 'image/svg+xml').documentElement;
    if (root.localName !== 'svg' || root.querySelector('parsererror')) throw new SyntaxError('no chart');
    for (const node of [root, ...root.querySelectorAll('*')]) {
      if (!ELEMENTS.has(node.localName)) node.remove();
      else for (const { name } of [...node.attributes]) if (!ATTRIBUTES.test(name)) node.removeAttribute(name);
    }
    // What it shows in words is for who does not see it; a title would only stand in the way of the pointer.
    const words = root.querySelector('desc')?.textContent ?? '';
    for (const node of root.querySelectorAll('title, desc')) node.remove();
    put(root, 'role', 'img');
    put(root, 'aria-label', `${figure.querySelector('figcaption').textContent}. ${words}`);
    box.drawn = Date.now();
    box.classList.remove('old');
    box.replaceChildren(document.adoptNode(root));
  } catch (failure) {
    box.classList.add('old');
    if (!box.querySelector('svg')) box.textContent = failure instanceof Refused && failure.status === 404 ? 'There is no such chart.' : 'The chart is not here yet.';
  } finally {
    figure.asking = false;
  }
}

const theme = $('theme');
theme.value = document.documentElement.dataset.theme ?? '';
theme.addEventListener('change', () => {
  if (theme.value) document.documentElement.dataset.theme = theme.value;
  else delete document.documentElement.dataset.theme;
  try {
    if (theme.value) localStorage.setItem('optic-theme', theme.value);
    else localStorage.removeItem('optic-theme');
  } catch { /* storage is forbidden here: until the page is left */ }
});

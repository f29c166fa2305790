// Shows what control tells by server-sent events: "history" (sums of the last hour), "sample" (one more of them),
// "now" (everything else), "failed". Everything is put into the page as text, never as markup: names come from others.
"use strict";

const MINUTE = 60, MINUTES = 60;
const place = (id) => document.getElementById(id);

// How numbers are written.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  let unit = 0;
  while (bytes >= 1023.5 && unit + 1 < UNITS.length) { bytes /= 1024; unit += 1; }
  return `${bytes.toFixed(unit === 0 || bytes >= 99.95 ? 0 : 1)} ${UNITS[unit]}`;
}
const rate = (bytes) => `${size(bytes)}/s`;
const percent = (share) => (share === null || share === undefined ? "–" : `${(share * 100).toFixed(1)} %`);
const count = (number) => number.toLocaleString("en");
const plural = (number, one, many) => `${count(number)} ${number === 1 ? one : many}`;
const two = (number) => String(number).padStart(2, "0");
function clock(at) {
  const time = new Date(at * 1000);
  return `${two(time.getHours())}:${two(time.getMinutes())}`;
}
function day(at) {
  const time = new Date(at * 1000);
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
}
function moment(at, now) {
  const time = document.createElement("time");
  time.dateTime = new Date(at * 1000).toISOString();
  time.textContent = now - at < 20 * 3600 ? `${clock(at)}:${two(new Date(at * 1000).getSeconds())}` : `${day(at)} ${clock(at)}`;
  return time;
}

// How it is put into the page.

function say(id, text) {
  const at = place(id);
  if (at.textContent === text) return;
  const first = at.textContent === "–" || at.textContent === "";
  at.textContent = text;
  if (!first) {
    at.classList.remove("changed");
    void at.offsetWidth;
    at.classList.add("changed");
  }
}

function make(name, text, className) {
  const made = document.createElement(name);
  if (text instanceof Node) made.append(text);
  else made.textContent = text;
  if (className) made.className = className;
  return made;
}

function pill(text, state) {
  const made = make("span", text, "pill small");
  made.dataset.state = state;
  return made;
}

// Puts a table in the place of another one. What did not change stays as it is, so that it can be read and copied.
function renew(scroll, made) {
  const old = scroll.firstElementChild;
  if (!old || old.rows.length !== made.rows.length) return scroll.replaceChildren(made);
  [...made.rows].forEach((row, r) => {
    [...row.cells].forEach((cell, c) => {
      const former = old.rows[r].cells[c];
      if (!former.isEqualNode(cell)) former.replaceWith(cell);
    });
  });
}

// A column is [head, what of a row, class]; the first one is the head of its row. What is scrolled or focused stays so.
function table(id, label, columns, list, none) {
  if (Array.isArray(list)) list = { all: list.length, rows: list };
  const at = place(id);
  if (list.rows.length === 0) {
    if (at.textContent !== none) at.replaceChildren(make("p", none, "quiet"));
    return;
  }
  let scroll = at.querySelector(".scroll");
  if (!scroll) {
    scroll = make("div", "", "scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", label);
    at.replaceChildren(scroll, make("p", "", "quiet"));
  }
  const head = make("tr", "");
  for (const [title, , className] of columns) {
    const cell = make("th", title, className);
    cell.scope = "col";
    head.append(cell);
  }
  const body = make("tbody", "");
  for (const row of list.rows) {
    const line = make("tr", "");
    columns.forEach(([, what, className], which) => {
      const cell = make(which === 0 ? "th" : "td", what(row), className);
      if (which === 0) cell.scope = "row";
      line.append(cell);
    });
    body.append(line);
  }
  const made = make("table", make("caption", label, "hidden"));
  made.append(make("thead", head), body);
  renew(scroll, made);
  const more = list.all - list.rows.length;
  at.lastChild.textContent = more > 0 ? `and ${count(more)} more` : "";
}

// What was within the hour.

let counters = [];
let samples = [];

function heard({ counters: names, samples: more }) {
  counters = names;
  for (const sample of more) {
    const last = samples.length ? samples[samples.length - 1][0] : 0;
    // A clock may be set back.
    if (sample[0] < last) samples = [];
    if (sample[0] !== last) samples.push(sample);
  }
  const oldest = samples.length ? samples[samples.length - 1][0] - (MINUTES + 1) * MINUTE : 0;
  samples = samples.filter(([at]) => at >= oldest);
  showHistory();
}

// What was added in each minute, by counter. A minute without two samples says nothing.
function minutes() {
  const end = samples.length ? Math.floor(samples[samples.length - 1][0] / MINUTE) : 0;
  const rows = Array.from({ length: MINUTES }, (_, at) => ({ at: (end - MINUTES + 1 + at) * MINUTE, time: 0, sums: {} }));
  for (let n = 1; n < samples.length; n += 1) {
    const [[before, then], [at, sums]] = [samples[n - 1], samples[n]];
    const row = rows[Math.floor(at / MINUTE) - end + MINUTES - 1];
    if (!row) continue;
    row.time += at - before;
    counters.forEach((name, which) => {
      row.sums[name] = (row.sums[name] || 0) + Math.max(0, sums[which] - then[which]);
    });
  }
  return rows;
}

const perSecond = (row, name) => (row.time ? (row.sums[name] || 0) / row.time : 0);
function ratio(row, what) {
  const hits = row.sums[`${what}_hits`] || 0, all = hits + (row.sums[`${what}_misses`] || 0);
  return all ? hits / all : null;
}
// The next of 1, 2, 5, 10 … 500 of a unit, from 1 KiB on.
function scale(most) {
  for (let unit = 1024; ; unit *= 1024) {
    const fits = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((step) => step * unit >= most);
    if (fits) return fits * unit;
  }
}

function showHistory() {
  const rows = minutes();
  const ends = [clock(rows[0].at), clock(rows[rows.length - 1].at + MINUTE)];
  const sent = rows.map((row) => [perSecond(row, "nar_bytes_hit"), perSecond(row, "nar_bytes_missed")]);
  const highest = Math.max(...sent.map(([hit, missed]) => hit + missed));
  charts.bars(place("bandwidth"), {
    rows: sent, classes: ["one", "two"], most: scale(highest), label: rate, ends,
    sentence: `Bytes of NARs sent to clients in each minute from ${ends[0]} to ${ends[1]}, at most ${rate(highest)}.`,
  });
  const shares = rows.map((row) => [ratio(row, "nar"), ratio(row, "narinfo")]);
  const last = shares.map(([nar]) => nar).filter((share) => share !== null).pop();
  charts.lines(place("ratio"), {
    rows: shares, classes: ["one", "three"], most: 1, label: (share) => `${share * 100} %`, ends,
    sentence: `Share of requests answered from here in each minute from ${ends[0]} to ${ends[1]}; of NARs last ${percent(last)}.`,
  });
  const list = rows.filter((row) => row.time > 0).reverse();
  table("bandwidth-table", "Bandwidth by minute", [
    ["Minute", (row) => clock(row.at)],
    ["From here", (row) => rate(perSecond(row, "nar_bytes_hit")), "number"],
    ["While it came", (row) => rate(perSecond(row, "nar_bytes_missed")), "number"],
    ["From upstreams", (row) => rate(perSecond(row, "bytes_fetched")), "number"],
  ], list, "No minute is over yet.");
  table("ratio-table", "Hit ratio by minute", [
    ["Minute", (row) => clock(row.at)],
    ["NARs", (row) => percent(ratio(row, "nar")), "number"],
    ["Narinfos", (row) => percent(ratio(row, "narinfo")), "number"],
  ], list, "No minute is over yet.");
  showRate();
}

// Edges tell every ten seconds what they sent, each at its own time: less than half a minute would jump.
const NOW = 30;

function showRate() {
  if (samples.length < 2) return;
  const [at, sums] = samples[samples.length - 1];
  const [before, then] = samples.slice(0, -1).findLast(([time]) => at - time >= NOW) ?? samples[0];
  const of = (name) => {
    const which = counters.indexOf(name);
    return Math.max(0, sums[which] - then[which]) / Math.max(1, at - before);
  };
  say("rate", rate(of("nar_bytes_hit") + of("nar_bytes_missed")));
  say("rate-hint", `${rate(of("bytes_fetched"))} fetched`);
}

// What is now.

function show(now) {
  say("version", now.version);
  say("nar-ratio", percent(now.nars.hit_ratio));
  say("nar-hits", `${count(now.nars.hits)} of ${count(now.nars.hits + now.nars.misses)}`);
  say("narinfo-ratio", percent(now.narinfos.hit_ratio));
  say("narinfo-hits", `${count(now.narinfos.hits)} of ${count(now.narinfos.hits + now.narinfos.misses)}`);
  say("saved", size(now.bytes_saved));
  say("fetched", `${size(now.bytes_fetched)} fetched`);
  say("paths", count(now.paths));
  say("paths-size", `${size(now.paths_nar_size)} unpacked`);
  say("edge-count", count(now.edges.all));
  say("edge-hint", edgesHint(now));
  const errors = now.nars.errors + now.narinfos.errors;
  say("since", `Counting since ${day(now.since)}. ${plural(errors, "error", "errors")}, ` +
    `${plural(now.wrong, "file or narinfo", "files and narinfos")} proved wrong.`);
  showFleet(now);
  showUpstreams(now);
  showPaths(now);
  showEvents(now);
}

function edgesHint(now) {
  const leaving = now.edges.rows.filter((edge) => edge.state !== "attached").length;
  const said = [[now.away.all, "away"], [leaving, "leaving"]].filter(([number]) => number);
  if (said.length) return said.map(([number, what]) => `${count(number)} ${what}`).join(", ");
  return now.edges.all ? "all attached" : "none yet";
}

// First who keeps its disk and is away, since uploads are away with it; last whose disk went with it, as it may.
function showFleet(now) {
  const missed = now.away.rows.filter((edge) => edge.durable), gone = now.away.rows.filter((edge) => !edge.durable);
  const rows = [...missed, ...now.edges.rows.map((edge) => ({ ...edge, here: true })), ...gone];
  const away = (edge) => pill("away", edge.durable ? "bad" : "wait");
  table("fleet", "Edges and their health", [
    ["Edge", (edge) => edge.name],
    ["State", (edge) => (edge.here ? pill(edge.state, edge.state === "attached" ? "good" : "wait") : away(edge))],
    ["Zone", (edge) => edge.zone || "–"],
    ["NAR hits", (edge) => percent(edge.hit_ratio), "number"],
    ["Files", (edge) => (edge.here ? count(edge.files) : "–"), "number"],
    ["Store", (edge) => store(edge)],
    ["Disk free", (edge) => size(edge.disk_free), "number"],
    ["Kept", (edge) => (edge.durable ? "yes" : "no")],
    ["Version", (edge) => edge.version || "–"],
    ["Since", (edge) => moment(edge.here ? edge.attached_at : edge.last_seen, now.at)],
  ], { all: now.edges.all + now.away.all, rows }, "No edge is attached: nobody is served what is not at an edge yet.");
  table("refused", "Turned away at control's port", [
    ["Turned away", (one) => one.name || one.peer || "somebody"],
    ["Why", (one) => one.why, "long"],
    ["Times", (one) => count(one.times), "number"],
    ["Last", (one) => moment(one.last, now.at)],
  ], now.refused, "");
}

function store(edge) {
  const made = make("span", size(edge.used));
  const whole = edge.max_size || edge.disk_total;
  if (edge.used !== null && edge.used !== undefined && whole) {
    made.append(` of ${size(whole)}`, charts.meter(edge.used / whole));
  }
  return made;
}

function showUpstreams(now) {
  const state = (upstream) => {
    const away = upstream.left_alone + upstream.given_up, all = away + upstream.asked;
    if (away === 0) return upstream.requests ? pill("healthy", "good") : pill("not asked yet", "wait");
    return pill(away === all ? "away" : `away at ${away} of ${all} edges`, away === all ? "bad" : "wait");
  };
  table("upstreams", "Upstreams and their health", [
    ["Upstream", (upstream) => upstream.url],
    ["State", state],
    ["Latency", (upstream) => (upstream.latency_ms === null ? "–" : `${upstream.latency_ms.toFixed(0)} ms`), "number"],
    ["Requests", (upstream) => count(upstream.requests), "number"],
    ["Errors", (upstream) => count(upstream.errors), "number"],
    ["Fetched", (upstream) => size(upstream.bytes), "number"],
  ], now.upstreams, now.edges.all ? "No edge has told of an upstream yet." : "No edge is attached, and only edges ask upstreams.");
}

function showPaths(now) {
  table("transfers", "Files that come from upstreams now", [
    ["Path", (transfer) => transfer.name],
    ["Edge", (transfer) => transfer.edge],
    ["Unpacked", (transfer) => size(transfer.nar_size), "number"],
  ], now.transfers, "Nothing is fetched from an upstream right now.");
  table("top", "Paths whose NARs were read most within the hour", [
    ["Path", (path) => path.name],
    ["Reads", (path) => count(path.reads), "number"],
    ["Unpacked", (path) => size(path.nar_size), "number"],
  ], now.top, "Nothing was read within the last hour.");
}

function showEvents(now) {
  const run = now.eviction;
  const ran = run && `The last run (${run.trigger}) ended on ${day(run.ended)} at ${clock(run.ended)} and removed ` +
    `${plural(run.files, "file", "files")}, ${size(run.bytes)}` +
    (run.shortfall ? `; pins and transfers left no room for ${size(run.shortfall)} more.` : ".");
  say("eviction", ran || "No run since control started.");
  const columns = [
    ["When", (event) => moment(event.at, now.at)],
    ["What", (event) => (event.what ? `${event.detail} (${event.what})` : event.detail), "long"],
  ];
  table("evicted", "Evicted last", columns, now.evicted, "Nothing was evicted lately.");
  const kind = ["Kind", (event) => event.kind];
  const by = ["By", (event) => event.actor || "–"];
  table("events", "Last events", [columns[0], kind, columns[1], by], now.events, "Nothing else happened lately.");
}

// How it is heard. A browser reconnects by itself, but not where it was refused, and it does not notice that nothing
// comes any more. Control ends each connection after a while, which is not worth a word. A page that nobody sees, or that
// is paused, does not listen: browsers have six connections to a host, and control few places.

const QUIET = 12000, AGAIN = 10000, SELDOM = 300000;
let source = null, timer, turn = 0, heardAt = 0, pause = AGAIN, paused = false, over = false;

function state(text, name) {
  const live = place("live");
  live.dataset.state = name;
  if (live.textContent !== text) live.textContent = text;
}

function hush() {
  turn += 1;
  clearTimeout(timer);
  if (source) source.close();
  source = null;
}

function listen() {
  hush();
  if (document.hidden || paused || over) return;
  source = new EventSource("events");
  const on = (name, act) => source.addEventListener(name, (event) => {
    clearTimeout(timer);
    timer = setTimeout(hearNothing, QUIET);
    [heardAt, pause] = [Date.now() / 1000, AGAIN];
    act(JSON.parse(event.data));
  });
  // All of it: control may have begun anew.
  on("history", (told) => { samples = []; heard(told); });
  on("sample", heard);
  on("now", (now) => { show(now); state("live", "good"); });
  on("failed", (why) => state(why, "bad"));
  source.onerror = () => { if (source?.readyState === EventSource.CLOSED) ask(); };
  timer = setTimeout(hearNothing, QUIET);
}

function hearNothing() {
  state(heardAt ? `no news since ${clock(heardAt)}` : "no answer", "bad");
  listen();
}

// Why it was refused, which a browser does not tell of events.
async function ask() {
  hush();
  const mine = turn, ended = new AbortController(), late = setTimeout(() => ended.abort(), QUIET);
  const status = await fetch("events", { signal: ended.signal }).then((said) => said.status, () => 0);
  clearTimeout(late);
  ended.abort();
  if (mine !== turn) return;
  if (status === 401) {
    over = true;
    return state("the token counts no more: load the page again to log in", "bad");
  }
  const full = status === 503, refused = !full && status >= 400 && status < 500;
  state(`${full ? "too many look at it" : refused ? "refused" : "control does not answer"}, trying again`, "bad");
  timer = setTimeout(listen, pause);
  if (full || refused) pause = Math.min(2 * pause, SELDOM);
}

place("pause").addEventListener("click", () => {
  paused = !paused;
  place("pause").textContent = paused ? "Go on" : "Pause";
  if (paused && !over) state(heardAt ? `paused at ${clock(heardAt)}` : "paused", "wait");
  listen();
});
addEventListener("visibilitychange", listen);
addEventListener("resize", () => { if (samples.length) showHistory(); });
listen();

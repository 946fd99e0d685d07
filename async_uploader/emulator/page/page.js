// Shows the emulator's state, and updates it by events.

import { enableControls, removeFaultButton, startControls } from "./control.js";
import { bytes, copyButton, duration, element, number, setText } from "./format.js";
import { Requests } from "./requests.js";
import { Spark } from "./spark.js";
import { Videos } from "./videos.js";

const find = (id) => document.getElementById(id);
const videos = new Videos(find("videos"));
const requests = new Requests(find("requests"), find("request"));
const spark = new Spark(find("spark"));
let state = {};
let events = null;

const renderers = {
  emulator: showEmulator,
  traffic: showTraffic,
  faults: showFaults,
  requests: (list, now) => requests.update(list, now),
};

function connect() {
  events = new EventSource("/_emulator/events");
  events.addEventListener("open", () => {
    state = {}; // a different emulator may use this address now
    spark.clear();
    requests.clear();
    showConnection("live");
  });
  events.addEventListener("error", showStopped);
  events.addEventListener("message", (event) => applyChanges(JSON.parse(event.data)));
}

function applyChanges({ now, changed, removed }) {
  Object.assign(state, changed);
  for (const name of removed) delete state[name];
  for (const name of Object.keys(changed)) renderers[name]?.(state[name], now);
  showRate(now);
  showWindows(now);
  showVideos();
}

// A stopped emulator has no throughput and nothing in flight. What it had stored stays visible, faded.
function showStopped() {
  showConnection("stopped");
  if (!state.videos) return;
  setText(find("rate"), "–");
  setText(find("flight"), "–");
  state.uploads = {};
  showVideos();
}

function showConnection(name) {
  document.body.dataset.connection = name;
  enableControls(name === "live");
  const target = find("connection");
  target.dataset.state = name;
  setText(target, name === "stopped" ? "no connection" : name);
}

function showEmulator(emulator) {
  setText(find("url"), emulator.url);
  const rate = (value) => (value ? `${bytes(value)}/s` : "no limit");
  const facts = {
    "Per connection": rate(emulator.connectionRate),
    "All connections": rate(emulator.linkRate),
    "Latency": emulator.latency ? duration(emulator.latency * 1000) : "none",
    "Token lifetime": duration(emulator.tokenTtl * 1000),
    "Videos": emulator.isKept ? "kept (--data)" : "deleted when the emulator stops",
  };
  find("settings").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [
    element("dt", { textContent: name }), element("dd", { textContent: value })]));
  const key = emulator.hasDefaultKey ? "local-key" : "…";
  // The address in this browser: behind a forwarded port, it differs from the emulator's.
  setText(find("command"),
    `APIVIDEO_API_KEY=${key} APIVIDEO_BASE_URL=${location.origin} async-uploader upload movie.mp4`);
  setText(find("key-note"), emulator.hasDefaultKey
    ? "You can use any client, with the base URL of this page and the API key local-key (change it with --api-key)."
    : "You can use any client, with the base URL of this page and the API key given with --api-key.");
}

function showTraffic(traffic) {
  setText(find("received"), `${bytes(traffic.received)} received, ${bytes(traffic.discarded)} of it discarded`);
  setText(find("flight"), number(traffic.inFlight));
  setText(find("peak"), `peak: ${number(traffic.peak)}`);
  setText(find("request-counts"), `${number(traffic.requests)}, ${number(traffic.failed)} failed`);
}

function showRate(now) {
  setText(find("rate"), `${bytes(spark.add(now, state.traffic.received))}/s`);
  spark.draw();
}

function showWindows(now) {
  for (const { name, limit, used, closesAt } of state.windows) {
    const gauge = document.querySelector(`[data-window=${name}]`);
    const remaining = closesAt === null ? 0 : Math.max(0, Math.ceil(closesAt - now));
    gauge.classList.toggle("full", limit !== null && used >= limit);
    setText(gauge.querySelector(".value"), limit === null ? number(used) : `${number(used)} / ${number(limit)}`);
    gauge.querySelector("i").style.width = limit === null ? "0" : `${Math.min(100, (100 * used) / limit)}%`;
    const resets = remaining ? `resets in ${remaining} s` : "starts with the next request";
    setText(gauge.querySelector(".note"), limit === null ? "no limit" : resets);
  }
}

function showFaults(faults) {
  find("clear-faults").hidden = faults.length < 2;
  find("faults").replaceChildren(...(faults.length ? faults.map(({ number: id, spec, triggered }) => element("li", {},
    element("code", { textContent: spec }),
    element("b", {
      className: triggered ? "triggered" : "",
      textContent: triggered ? `${number(triggered)}×` : "not yet",
      title: `triggered ${number(triggered)} times`,
    }),
    removeFaultButton(id, spec)))
    : [element("li", { className: "note", textContent: "none" })]));
}

function showVideos() {
  const { visible, total, finished } = state.videos;
  find("empty").hidden = total > 0;
  const more = visible.length < total ? `, showing the newest ${number(visible.length)}` : "";
  setText(find("counts"), total ? `${number(total)}, ${number(finished)} finished${more}` : "");
  videos.update(visible, state, state.uploads);
}

find("empty").querySelector(".copy").replaceWith(copyButton(() => find("command").textContent));
new ResizeObserver(() => videos.redraw()).observe(find("videos"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => videos.redraw());
// Browsers limit the connections to a host, so hidden tabs close theirs.
document.addEventListener("visibilitychange", () => {
  events?.close();
  events = null;
  if (!document.hidden) connect();
});
startControls();
connect();

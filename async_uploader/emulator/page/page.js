// Keeps the page equal to the emulator's state, by its events.

import { bytes, copyButton, duration, element, number, setText, shortPath } from "./format.js";
import { Spark } from "./spark.js";
import { Videos } from "./videos.js";

const find = (id) => document.getElementById(id);
const videos = new Videos(find("videos"));
const spark = new Spark(find("spark"));
let state = {};
let source = null;

const shows = {
  emulator: showEmulator,
  traffic: showTraffic,
  faults: showFaults,
  requests: showRequests,
};

function connect() {
  source = new EventSource("/_emulator/events");
  source.addEventListener("open", () => {
    state = {}; // it may be another emulator than before
    spark.clear();
    showConnection("live");
  });
  source.addEventListener("error", () => showConnection("stopped"));
  source.addEventListener("message", (event) => take(JSON.parse(event.data)));
}

function take({ now, changed, gone }) {
  Object.assign(state, changed);
  for (const name of gone) delete state[name];
  for (const name of Object.keys(changed)) shows[name]?.(state[name], now);
  showRate(now);
  showWindows(now);
  showVideos();
}

function showConnection(name) {
  const target = find("connection");
  target.dataset.state = name;
  setText(target, name === "stopped" ? "no connection" : name);
}

function showEmulator(emulator) {
  setText(find("url"), emulator.url);
  const rate = (value) => (value ? `${bytes(value)}/s` : "no limit");
  const facts = {
    "Each connection": rate(emulator.connectionRate),
    "All together": rate(emulator.linkRate),
    "Latency": emulator.latency ? duration(emulator.latency * 1000) : "none",
    "Bearer tokens live": duration(emulator.tokenTtl * 1000),
    "Videos are": emulator.isKept ? "kept (--data)" : "gone when it stops",
  };
  find("line").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [
    element("dt", { textContent: name }), element("dd", { textContent: value })]));
  const key = emulator.hasDefaultKey ? "local-key" : "…";
  // The address that this browser has found it at: behind a forwarded port, the emulator knows another.
  setText(find("command"),
    `APIVIDEO_API_KEY=${key} APIVIDEO_BASE_URL=${location.origin} async-uploader upload movie.mp4`);
  setText(find("key-note"), emulator.hasDefaultKey
    ? "Any client will do: the base URL is this page's, the API key local-key (--api-key sets another)."
    : "Any client will do: the base URL is this page's, the API key the one given with --api-key.");
}

function showTraffic(traffic) {
  setText(find("received"), `${bytes(traffic.received)} in all, ${bytes(traffic.discarded)} of it not kept`);
  setText(find("flight"), number(traffic.inFlight));
  setText(find("peak"), `${number(traffic.peak)} at most`);
  setText(find("request-counts"), `${number(traffic.requests)}, ${number(traffic.failed)} failed`);
}

function showRate(now) {
  setText(find("rate"), `${bytes(spark.add(now, state.traffic.received))}/s`);
  spark.draw();
}

function showWindows(now) {
  for (const { name, limit, used, closesAt } of state.windows) {
    const gauge = document.querySelector(`[data-window=${name}]`);
    const left = closesAt === null ? 0 : Math.max(0, Math.ceil(closesAt - now));
    gauge.classList.toggle("full", limit !== null && used >= limit);
    setText(gauge.querySelector(".value"), limit === null ? number(used) : `${number(used)} / ${number(limit)}`);
    gauge.querySelector("i").style.width = limit === null ? "0" : `${Math.min(100, (100 * used) / limit)}%`;
    const resets = left ? `resets in ${left} s` : "opens with the next one";
    setText(gauge.querySelector(".note"), limit === null ? "no limit" : resets);
  }
}

function showFaults(faults) {
  find("faults").replaceChildren(...(faults.length ? faults.map(({ spec, struck }) => element("li", {},
    element("code", { textContent: spec }),
    element("b", { className: struck ? "struck" : "", textContent: number(struck) })))
    : [element("li", { className: "note", textContent: "none: everything goes well" })]));
}

function showRequests(requests, now) {
  find("requests").replaceChildren(...requests.map((request) => {
    const ended = new Date(Date.now() - (now - request.endedAt) * 1000).toLocaleTimeString();
    const again = request.attempt > 1 ? `, attempt ${request.attempt}` : "";
    const where = shortPath(request.path) + (request.range ? `  ${request.range}` : "");
    const kind = request.status === null || request.status >= 400 ? "bad" : "good";
    return element("li", { className: kind, title: `${ended} ${request.path} ${request.range ?? ""}${again}` },
      element("b", { textContent: request.status ?? "cut" }),
      element("span", { className: "method", textContent: request.method }),
      element("span", { className: "where", textContent: where }),
      element("span", { className: "fault", textContent: request.isFault ? "fault" : "" }),
      element("span", { className: "ms", textContent: duration(request.ms) }));
  }));
}

function showVideos() {
  const { shown, total, finished } = state.videos;
  find("empty").hidden = total > 0;
  const more = shown.length < total ? `, the newest ${number(shown.length)} shown` : "";
  setText(find("counts"), total ? `${number(total)}, ${number(finished)} finished${more}` : "");
  videos.update(shown, state, state.live);
}

find("empty").querySelector(".copy").replaceWith(copyButton(() => find("command").textContent));
new ResizeObserver(() => videos.redraw()).observe(find("videos"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => videos.redraw());
// A browser keeps few connections to one host: tabs that nobody sees do without.
document.addEventListener("visibilitychange", () => {
  source?.close();
  source = null;
  if (!document.hidden) connect();
});
connect();

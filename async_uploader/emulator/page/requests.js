// The list of requests. Each can be opened: what was sent, what was answered, and why.

import { control } from "./control.js";
import { bytes, duration, element, number, shortPath } from "./format.js";

export class Requests {
  constructor(list, dialog) {
    this.list = list;
    this.dialog = dialog;
    this.rows = new Map(); // by the number of the request; a request never changes
    dialog.querySelector("button").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }

  clear() {
    this.rows.clear();
    this.list.replaceChildren();
  }

  update(requests, now) {
    const rows = new Map(requests.map((request) => {
      const key = `${request.number} ${request.endedAt}`; // numbers start again after a reset
      return [key, this.rows.get(key) ?? this.row(request, now)];
    }));
    this.rows = rows;
    this.list.replaceChildren(...rows.values());
  }

  row(request, now) {
    const ended = new Date(Date.now() - (now - request.endedAt) * 1000);
    const attempt = request.attempt > 1 ? `, attempt ${request.attempt}` : "";
    const target = shortPath(request.path) + (request.range ? `  ${request.range}` : "");
    const kind = request.status === null || request.status >= 400 ? "bad" : "good";
    const problem = request.problem ? ` ${request.problem}` : "";
    const button = element("button", {
      type: "button",
      title: `${ended.toLocaleTimeString()} ${request.path} ${request.range ?? ""}${attempt}${problem}`,
    },
      element("b", { textContent: request.status ?? "cut" }),
      element("span", { className: "method", textContent: request.method }),
      element("span", { className: "target", textContent: target }),
      element("span", { className: "fault", textContent: request.isFault ? "fault" : "" }),
      element("span", { className: "ms", textContent: duration(request.ms) }));
    button.addEventListener("click", () => this.open(request, ended));
    return element("li", { className: kind }, button);
  }

  async open(request, ended) {
    const content = this.dialog.querySelector(".content");
    this.dialog.querySelector("h2").textContent = `${request.method} ${request.path}`;
    content.replaceChildren();
    this.dialog.showModal();
    try {
      content.replaceChildren(...detail(await control("GET", `requests/${request.number}`), ended));
    } catch {
      content.replaceChildren(element("p", { className: "note", textContent: "The emulator no longer has this request." }));
    }
  }
}

function detail(request, ended) {
  const facts = element("dl", { className: "facts" });
  const add = (name, value) => facts.append(
    element("dt", { textContent: name }), element("dd", { textContent: value }));
  add("Response", request.status === null ? "none: the connection was cut" : String(request.status));
  if (request.problem) add("Problem", request.problem);
  if (request.detail) add("Detail", request.detail);
  if (request.faults.length) add("Faults", request.faults.join(", "));
  if (request.range) add("Content-Range", request.range);
  add("Attempt", number(request.attempt));
  add("Body", `${bytes(request.bytes)} (${number(request.bytes)} bytes)`);
  add("Time", `${ended.toLocaleTimeString()}, ${duration(request.seconds * 1000)}`);
  return [facts, headers("Request headers", request.request_headers), headers("Response headers", request.response_headers)];
}

function headers(title, pairs) {
  const text = pairs.length ? pairs.map(([name, value]) => `${name}: ${value}`).join("\n") : "none";
  return element("section", {}, element("h3", { textContent: title }), element("pre", { textContent: text }));
}

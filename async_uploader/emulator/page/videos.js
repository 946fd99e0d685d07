// The list of videos: a card for each, created once and then updated.

import { confirmButton, remove } from "./control.js";
import { bytes, copyButton, element, number, setText } from "./format.js";
import { axisOf, draw } from "./map.js";

const STATES = { finished: "finished", uploaded: "joining", uploading: "uploading", importing: "importing" };

export class Videos {
  constructor(list) {
    this.list = list;
    this.cards = new Map();
    this.opened = location.hash.slice(1);
    addEventListener("hashchange", () => this.cards.get(location.hash.slice(1))?.toggle(true));
  }

  update(visible, sections, uploads) {
    const ids = visible.filter((id) => sections[id]);
    for (const [id, card] of this.cards) {
      if (!ids.includes(id)) {
        card.root.remove();
        this.cards.delete(id);
      }
    }
    ids.forEach((id, index) => {
      let card = this.cards.get(id);
      if (!card) {
        card = new Card(id);
        this.cards.set(id, card);
      }
      if (this.list.children[index] !== card.root) this.list.insertBefore(card.root, this.list.children[index]);
      card.update(sections[id], uploads[id] ?? null);
      if (id === this.opened) {
        this.opened = "";
        card.toggle(true);
      }
    });
  }

  redraw() {
    for (const card of this.cards.values()) card.draw();
  }
}

class Card {
  constructor(id) {
    this.id = id;
    this.video = null;
    this.upload = null;
    this.picture = element("span", { className: "picture" });
    this.title = element("span", { className: "title" });
    this.note = element("span", { className: "note" });
    this.state = element("span", { className: "state" });
    this.button = element("button", { type: "button", className: "card-head" }, this.picture,
      element("span", { className: "words" }, this.title, this.note), this.state);
    this.button.setAttribute("aria-expanded", "false");
    this.button.setAttribute("aria-controls", `detail-${id}`);
    this.button.addEventListener("click", () => this.toggle(this.detail.hidden));
    this.map = element("canvas", { className: "map" });
    this.map.setAttribute("role", "img");
    this.detail = element("div", { className: "detail", id: `detail-${id}`, hidden: true });
    this.root = element("li", { id }, this.button, this.map, this.detail);
  }

  update(video, upload) {
    if (video === this.video && upload === null && this.upload === null) return;
    const isNew = video !== this.video;
    this.video = video;
    this.upload = upload;
    const summary = summarize(video, upload);
    setText(this.title, video.title || "untitled");
    setText(this.note, summary);
    this.state.dataset.state = video.state;
    setText(this.state, upload && video.state === "empty" ? "uploading" : STATES[video.state] ?? video.state);
    this.root.dataset.state = video.state;
    this.map.setAttribute("aria-label", summary);
    const picture = JSON.stringify(video.thumbnail);
    if ((video.sha256 || video.thumbnail[0]) && picture !== this.shownPicture) {
      this.shownPicture = picture;
      // The query makes the browser request a new thumbnail.
      const src = `${url(this.id, "thumbnail")}?${encodeURIComponent(picture)}`;
      this.picture.replaceChildren(element("img", { src, alt: "", loading: "lazy" }));
    }
    if (isNew && !this.detail.hidden) this.fill();
    this.draw();
  }

  draw() {
    if (this.video) draw(this.map, this.video, this.upload);
  }

  toggle(open) {
    this.detail.hidden = !open;
    this.button.setAttribute("aria-expanded", String(open));
    if (open) {
      this.fill();
      history.replaceState(null, "", `#${this.id}`);
    } else {
      this.detail.replaceChildren(); // also stops the player
      if (location.hash === `#${this.id}`) history.replaceState(null, "", location.pathname);
    }
  }

  fill() {
    const { video } = this;
    const player = this.detail.querySelector("video");
    const facts = this.facts();
    if (player) {
      this.detail.querySelector(".facts").replaceWith(facts); // keeps the player running
      updateTracks(player, this.id, video);
    } else {
      const isDownloadable = video.sha256 && video.isPublic && video.hasMp4;
      this.detail.replaceChildren(...(video.sha256 ? [this.player()] : []), facts,
        ...(isDownloadable ? [download(this.id)] : []), this.actions());
    }
  }

  actions() {
    const button = element("button", { type: "button", className: "small", textContent: "Delete video" });
    confirmButton(button, () => remove(`videos/${encodeURIComponent(this.id)}`));
    return element("div", { className: "actions" }, button);
  }

  player() {
    const player = element("video", { controls: true, playsInline: true, preload: "metadata" });
    player.poster = url(this.id, "thumbnail");
    player.src = url(this.id, "source");
    updateTracks(player, this.id, this.video);
    const box = element("div", { className: "player" }, player);
    player.addEventListener("error", () => {
      box.append(element("p", { textContent: "This browser cannot play the uploaded file." }));
    });
    return box;
  }

  facts() {
    const { video, id } = this;
    const list = element("dl", { className: "facts" });
    const add = (name, ...values) => list.append(
      element("dt", { textContent: name }), element("dd", {}, ...values));
    add("Id", element("code", { textContent: id }), copyButton(() => id));
    if (video.sha256) add("SHA-256", element("code", { textContent: video.sha256 }), copyButton(() => video.sha256));
    add("Size", `${bytes(video.bytes)} (${number(video.bytes)} bytes)`);
    add("Created", new Date(video.created).toLocaleString());
    if (video.description) add("Description", video.description);
    if (video.tags.length) add("Tags", video.tags.join(", "));
    for (const { key, value } of video.metadata) add(key, value);
    if (video.captions.length) {
      add("Captions", video.captions.map(([language, isDefault]) => language + (isDefault ? " (default)" : "")).join(", "));
    }
    if (video.chapters.length) add("Chapters", video.chapters.join(", "));
    for (const delivery of video.deliveries) add("Webhook", describeDelivery(delivery));
    add("Visibility", video.isPublic ? "public" : "private: asset URLs contain a token");
    return list;
  }
}

// Adds and removes the tracks of a player that may be running.
function updateTracks(player, id, video) {
  const wanted = new Map([
    ...video.captions.map(([language, isDefault]) => [`captions/${language}`, isDefault]),
    ...video.chapters.map((language) => [`chapters/${language}`, false]),
  ]);
  for (const track of player.querySelectorAll("track")) {
    if (!wanted.delete(track.dataset.name)) track.remove();
  }
  for (const [name, isDefault] of wanted) {
    const [kind, language] = name.split("/");
    const track = element("track", { kind, srclang: language, label: language, default: isDefault, src: url(id, name) });
    track.dataset.name = name;
    player.append(track);
  }
}

// "202, attempt 2: http://127.0.0.1:9000/hook"
function describeDelivery({ url: target, attempt, status, error }) {
  return `${status ?? error}${attempt > 1 ? `, attempt ${attempt}` : ""}: ${target}`;
}

function download(id) {
  const text = `curl -O ${location.origin}/vod/${id}/mp4/source.mp4 && sha256sum source.mp4`;
  return element("div", { className: "command" },
    element("pre", { textContent: text, tabIndex: 0 }), copyButton(() => text));
}

function url(id, file) {
  return `/_emulator/videos/${encodeURIComponent(id)}/${file}`;
}

// "36.2 MiB · 7 of 12 parts · 3 in flight · 1 failed"
function summarize(video, upload) {
  const axis = axisOf(video, upload);
  const words = [bytes(video.bytes + (upload?.bytes ?? 0))];
  if (axis?.kind === "parts") {
    const total = axis.total ? `of ${number(axis.total)} parts` : "parts so far";
    words.push(`${number(video.parts)} ${total}`);
  }
  if (axis?.kind === "bytes") {
    const share = axis.total ? `, ${Math.floor((100 * Math.min(video.bytes + (upload?.bytes ?? 0), axis.total)) / axis.total)} %` : "";
    words.push(`${number(video.parts)} ranges${share}`);
  }
  if (axis?.kind === "whole") words.push("in one request");
  if (upload) words.push(`${number(upload.parts.length)} in flight`);
  if (video.failed.length) words.push(`${number(video.failed.length)} failed`);
  if (!video.isPublic) words.push("private");
  return words.join(" · ");
}

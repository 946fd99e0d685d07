// A Node test suite against the emulator: it starts one, injects a fault, uploads, and checks the requests.
//
//     node --test examples/emulator.test.mjs
//
// It needs Node 20 and nothing from npm. `upload` stands for your own client.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { after, before, beforeEach, test } from "node:test";

const MOVIE = Buffer.alloc(6 * 1024 * 1024, "a movie ");
const PART_SIZE = 5 * 1024 * 1024;
const HEADERS = { Authorization: `Basic ${btoa("local-key:")}` };

let emulator;
let url;

before(async () => {
  emulator = spawn("async-uploader", ["emulator"], { stdio: ["ignore", "pipe", "inherit"] });
  const [line] = await once(createInterface(emulator.stdout), "line"); // "listening on http://127.0.0.1:40123"
  url = line.split(" ").at(-1);
});

after(async () => {
  emulator.kill("SIGTERM");
  await once(emulator, "exit");
});

beforeEach(() => control("POST", "reset"));

test("a part that is refused once is sent again", async () => {
  await control("POST", "faults", { spec: "part=2,attempt=1:status=503" });

  const videoId = await upload(MOVIE);

  const requests = (await control("GET", "requests")).filter(({ endpoint }) => endpoint === "upload");
  assert.deepEqual(requests.map(({ part, status, attempt }) => [part, status, attempt]),
    [[1, 201, 1], [2, 503, 1], [2, 201, 2]]);
  assert.equal(requests[1].fault, "part=2,attempt=1:status=503");
  const [video] = await control("GET", "videos");
  assert.deepEqual([video.video_id, video.sha256], [videoId, createHash("sha256").update(MOVIE).digest("hex")]);
});

test("an upload without faults needs two requests", async () => {
  await upload(MOVIE);
  const faults = await control("GET", "faults");
  const requests = await control("GET", "requests");
  assert.deepEqual(faults, []); // the fault of the other test was removed by the reset
  assert.deepEqual(requests.map(({ endpoint }) => endpoint), ["create", "upload", "upload"]);
});

async function control(method, name, body) {
  const response = await fetch(`${url}/_emulator/${name}`, { method, body: body && JSON.stringify(body) });
  assert.ok(response.ok, await response.clone().text());
  return response.status === 204 ? null : response.json();
}

// The client under test: it sends a file in parts, and each part again after a server error.
async function upload(file) {
  const created = await fetch(`${url}/videos`, { method: "POST", headers: HEADERS, body: '{"title": "A movie"}' });
  const { videoId } = await created.json();
  const parts = Math.ceil(file.length / PART_SIZE);
  for (let part = 1; part <= parts; part += 1) {
    let response;
    do {
      const form = new FormData();
      form.append("file", new Blob([file.subarray((part - 1) * PART_SIZE, part * PART_SIZE)]), "movie.mp4");
      const headers = { ...HEADERS, "Content-Range": `part ${part}/${parts}` };
      response = await fetch(`${url}/videos/${videoId}/source`, { method: "POST", headers, body: form });
    } while (response.status >= 500);
    assert.ok(response.ok, await response.text());
  }
  return videoId;
}

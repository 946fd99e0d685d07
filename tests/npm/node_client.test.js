// The official Node client against an emulator at BASE_URI, with NODE_PATH set to its packages.

const assert = require("node:assert/strict");
const { createHash } = require("node:crypto");
const { createReadStream, mkdtempSync, readFileSync, rmSync, writeFileSync } = require("node:fs");
const { tmpdir } = require("node:os");
const { join } = require("node:path");
const { after, test } = require("node:test");
const ApiVideoClient = require("@api.video/nodejs-client");

const MIB = 1024 * 1024;
const client = new ApiVideoClient({ apiKey: "local-key", baseUri: process.env.BASE_URI, chunkSize: 5 * MIB });
const folder = mkdtempSync(join(tmpdir(), "node-client-"));
after(() => rmSync(folder, { recursive: true }));

function file(name, content) {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const parts = [5 * MIB, 5 * MIB + 1, 1000].map((size, n) => file(`10m.mp4.part.${n}`, Buffer.alloc(size, `part ${n}`)));
const movie = file("movie.mp4", Buffer.concat(parts.map((path) => readFileSync(path))));
const small = file("small.mp4", Buffer.alloc(5000, "small"));
const picture = file("picture.jpg", Buffer.from([0xff, 0xd8, 0xff, 0xe0, 1, 2, 3]));
const vtt = file("en.vtt", "WEBVTT\n\n00:00.000 --> 00:01.000\nHello\n");

async function assertReceived(videoId, path) {
  const videos = await (await fetch(`${process.env.BASE_URI}/_emulator/videos`)).json();
  const { sha256 } = videos.find((video) => video.video_id === videoId);
  assert.equal(sha256, createHash("sha256").update(readFileSync(path)).digest("hex"));
}

test("an access token", async () => {
  const pair = await client.getAccessToken();
  assert.ok(pair.accessToken && pair.refreshToken && pair.expiresIn && pair.tokenType);
});

test("response headers", async () => {
  assert.equal((await client.videos.listWithResponseHeaders()).headers["content-type"], "application/json");
});

test("a progressive upload", async () => {
  const { videoId } = await client.videos.create({ title: "progressive" });
  const session = client.videos.createUploadProgressiveSession(videoId);
  await session.uploadPart(parts[0]);
  await session.uploadPart(parts[1]);
  assert.equal((await session.uploadLastPart(parts[2])).title, "progressive");
  await assertReceived(videoId, movie);
  await client.videos.delete(videoId);
});

test("a progressive upload with an upload token", async () => {
  const { token } = await client.uploadTokens.createToken();
  const session = client.videos.createUploadWithUploadTokenProgressiveSession(token);
  await session.uploadPart(parts[0]);
  await session.uploadPart(parts[1]);
  const video = await session.uploadLastPart(parts[2]);
  assert.equal(video.title, "10m.mp4.part.0");
  await assertReceived(video.videoId, movie);
  await client.videos.delete(video.videoId);
  await client.uploadTokens.deleteToken(token);
});

for (const [name, path] of [["in one request", small], ["in chunks", movie]]) {
  test(`an upload ${name}, with progress`, async () => {
    const { videoId } = await client.videos.create({ title: "regular" });
    const progress = [];
    await client.videos.upload(videoId, path, (event) => progress.push(event));
    assert.ok(progress.length > 0);
    await assertReceived(videoId, path);
  });
}

// Not in chunks: version 2.6.8 sends them without a videoId, and each chunk becomes a video of its own.
test("an upload in one request with an upload token", async () => {
  const { token } = await client.uploadTokens.createToken({ ttl: 60 });
  const { videoId } = await client.videos.uploadWithUploadToken(token, small);
  await assertReceived(videoId, small);
});

test("tags", async () => {
  const { videoId } = await client.videos.create({ title: "tags", tags: ["tag1", "tag2"] });
  const count = async (tags) => (await client.videos.list({ tags })).data.length;
  assert.deepEqual([await count(["tag1"]), await count(["tag1", "tag2"])], [1, 1]);
  assert.deepEqual((await client.tags.list({})).data.map(({ value, videoCount }) => [value, videoCount]), [["tag1", 1], ["tag2", 1]]);
  await client.videos.update(videoId, { tags: ["tag1"] });
  assert.equal(await count(["tag1", "tag2"]), 0);
  await client.videos.delete(videoId);
});

test("thumbnails", async () => {
  const { videoId } = await client.videos.create({ title: "thumbnails" });
  assert.equal((await client.videos.uploadThumbnail(videoId, picture)).videoId, videoId);
  const video = await client.videos.uploadThumbnail(videoId, createReadStream(picture));
  const served = await fetch(video.assets.thumbnail);
  assert.deepEqual(Buffer.from(await served.arrayBuffer()), readFileSync(picture));
  assert.equal((await client.videos.pickThumbnail(videoId, { timecode: "00:15:22.05" })).videoId, videoId);
});

test("captions and chapters", async () => {
  const { videoId } = await client.videos.create({ title: "captions" });
  assert.equal((await client.captions.upload(videoId, "en", vtt)).srclang, "en");
  assert.equal((await client.captions.get(videoId, "en")).srclang, "en");
  assert.equal((await client.captions.update(videoId, "en", { _default: true }))._default, true);
  assert.equal((await client.captions.list({ videoId })).data.length, 1);
  await client.captions.delete(videoId, "en");
  assert.equal((await client.chapters.upload(videoId, "fr", vtt)).language, "fr");
  assert.equal((await client.chapters.list({ videoId })).data.length, 1);
});

test("watermarks", async () => {
  const { watermarkId } = await client.watermarks.upload(picture);
  assert.equal((await client.watermarks.list({})).data.length, 1);
  const watermark = { id: watermarkId, top: "0px", left: "0px", width: "100px", height: "100px" };
  assert.equal((await client.videos.create({ title: "watermark", watermark })).title, "watermark");
  await client.watermarks.delete(watermarkId);
});

test("webhooks", async () => {
  const events = ["video.encoding.quality.completed"];
  const { webhookId } = await client.webhooks.create({ events, url: "http://127.0.0.1:1/" });
  assert.deepEqual((await client.webhooks.get(webhookId)).events, events);
  assert.equal((await client.webhooks.list({})).data.length, 1);
  await client.webhooks.delete(webhookId);
});

test("endpoints that are not implemented", async () => {
  await assert.rejects(client.playerThemes.create({ name: "test" }), (error) => error.problemDetails.status === 501);
});

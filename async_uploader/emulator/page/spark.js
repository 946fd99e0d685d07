// A chart of the throughput during the last minute.

const SECONDS = 60;
const AVERAGE_SECONDS = 1.5;

export class Spark {
  constructor(canvas) {
    this.canvas = canvas;
    this.clear();
  }

  clear() {
    this.samples = []; // [seconds, total bytes]
    this.rates = new Map(); // by half seconds
  }

  // Adds the total number of bytes received; returns the current rate.
  add(now, received) {
    if (received < this.samples.at(-1)?.[1]) this.clear(); // the emulator was reset
    this.samples.push([now, received]);
    while (this.samples.length > 2 && now - this.samples[1][0] >= AVERAGE_SECONDS) this.samples.shift();
    const [[then, before]] = this.samples;
    const rate = now > then ? (received - before) / (now - then) : 0;
    this.now = Math.floor(now * 2);
    this.rates.set(this.now, rate);
    for (const key of this.rates.keys()) if (key < this.now - SECONDS * 2) this.rates.delete(key);
    return rate;
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    const pen = this.canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(this.canvas);
    const maxRate = Math.max(1, ...this.rates.values());
    const step = width / (SECONDS * 2);
    pen.fillStyle = style.getPropertyValue("--in-flight");
    let rate = 0;
    for (let n = 0; n < SECONDS * 2; n += 1) {
      rate = this.rates.get(this.now - SECONDS * 2 + 1 + n) ?? rate / 2;
      const bar = rate > 0 ? Math.max(1, (rate / maxRate) * height) : 0;
      pen.fillRect(n * step, height - bar, Math.max(step - 0.5, 1), bar);
    }
  }
}

// The map of a source: one cell per part, or several parts per cell if there are too many.
//
// All maps have the same size, so that the layout is stable: the size of the cells depends on their number.

const MIN_CELL_PX = 4;
const INITIAL_CELLS = 16; // of a source of unknown length

export function axisOf(video, upload) {
  const axis = video.axis ?? upload;
  return axis && { kind: axis.kind, unit: axis.unit, total: axis.total ?? upload?.total ?? null };
}

export function cellsOf(video, upload, maxCells) {
  const axis = axisOf(video, upload);
  if (!axis) return null;
  const inFlight = upload?.parts ?? [];
  const count = Math.ceil((axis.total ?? visibleLength(axis, video, inFlight)) / axis.unit);
  const step = axis.unit * Math.ceil(count / maxCells);
  const size = Math.max(Math.ceil((count * axis.unit) / step), 1);
  const cells = Array.from({ length: size }, () => ({ received: 0, inFlight: 0, arrived: 0, failed: false }));
  const forCells = (start, end, apply) => {
    for (let n = Math.floor(start / step); n < size && n * step < end; n += 1) {
      apply(cells[n], (Math.min(end, (n + 1) * step) - Math.max(start, n * step)) / step);
    }
  };
  const length = Math.min(axis.total ?? Infinity, size * step);
  const last = cells[size - 1];
  for (const [start, end] of video.received) forCells(start, end, (cell, share) => { cell.received += share; });
  for (const [start, end] of video.failed) forCells(start, end, (cell) => { cell.failed = true; });
  for (const [start, end, arrived] of inFlight) {
    forCells(start, end, (cell, share) => {
      cell.inFlight += share;
      cell.arrived += share * (arrived ?? 0.5);
    });
  }
  last.received *= step / (length - (size - 1) * step); // the last cell may stand for fewer parts
  return { cells, isOpen: axis.total === null };
}

function visibleLength(axis, video, inFlight) {
  const ends = [...video.received, ...inFlight, ...video.failed].map((position) => position[1]);
  const count = Math.max(0, ...ends) / axis.unit;
  let cells = INITIAL_CELLS;
  while (cells <= count) cells *= 2;
  return cells * axis.unit;
}

// The number of rows that makes the cells most similar to squares.
function rowsFor(count, width, height) {
  let best = 1;
  let bestSkew = Infinity;
  for (let rows = 1; rows * MIN_CELL_PX <= height; rows += 1) {
    const skew = Math.abs(Math.log(width / Math.ceil(count / rows) / (height / rows)));
    if (skew < bestSkew) [best, bestSkew] = [rows, skew];
  }
  return best;
}

export function draw(canvas, video, upload) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width) return;
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const colour = colours(canvas);
  const maxCells = Math.floor(width / MIN_CELL_PX) * Math.floor(height / MIN_CELL_PX);
  const map = cellsOf(video, upload, maxCells) ?? { cells: [{ received: 0, inFlight: 0 }], isOpen: false };
  const rows = rowsFor(map.cells.length, width, height);
  const columns = Math.ceil(map.cells.length / rows);
  const snap = (at) => Math.round(at * scale) / scale;
  const gap = Math.min(width / columns, height / rows) >= 8 ? 2 : 1;
  map.cells.forEach((cell, n) => {
    const column = n % columns;
    const row = Math.floor(n / columns);
    const [x, y] = [snap((column * width) / columns), snap((row * height) / rows)];
    const right = column === columns - 1 ? width : snap(((column + 1) * width) / columns) - gap;
    const bottom = row === rows - 1 ? height : snap(((row + 1) * height) / rows) - gap;
    // If the length is unknown, empty cells are faded.
    pen.globalAlpha = map.isOpen && !cell.received && !cell.inFlight ? 0.5 : 1;
    drawCell(pen, colour, cell, x, y, Math.max(right - x, 1), Math.max(bottom - y, 1));
  });
}

function drawCell(pen, colour, cell, x, y, width, height) {
  const received = Math.min(cell.received, 1);
  const isFailed = cell.failed && !cell.received && !cell.inFlight;
  pen.fillStyle = isFailed ? colour.failedSoft : cell.inFlight ? colour.inFlightSoft : colour.empty;
  pen.fillRect(x, y, width, height);
  pen.fillStyle = colour.received;
  if (received) pen.fillRect(x, y, Math.max(width * received, 1), height); // one of many parts is visible, too
  pen.fillStyle = colour.inFlight;
  pen.fillRect(x + width * received, y, width * Math.min(cell.arrived, 1 - received || 0), height);
  pen.globalAlpha = 1;
  if (!cell.failed) return;
  pen.fillStyle = pen.strokeStyle = colour.failed;
  if (isFailed) {
    pen.fillRect(x, y + height - Math.min(3, height), width, Math.min(3, height));
    return;
  }
  const corner = Math.min(7, width, height);
  pen.beginPath();
  pen.moveTo(x + width - corner, y);
  pen.lineTo(x + width, y);
  pen.lineTo(x + width, y + corner);
  pen.fill();
}

function colours(canvas) {
  const style = getComputedStyle(canvas);
  const get = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    received: get("received"),
    inFlight: get("in-flight"),
    inFlightSoft: get("in-flight-soft"),
    failed: get("failed"),
    failedSoft: get("failed-soft"),
    empty: get("empty"),
  };
}

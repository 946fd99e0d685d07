// The map of a source: one cell a part, or several parts a cell where there are too many to see.
//
// Every map has the same size, so that nothing moves: cells are as wide and high as their number allows.

const SMALLEST_PX = 4;
const OPEN_ENDED = 16; // cells shown at first of a source whose end is not known

export function axisOf(video, live) {
  const axis = video.axis ?? live;
  return axis && { kind: axis.kind, unit: axis.unit, total: axis.total ?? live?.total ?? null };
}

export function cellsOf(video, live, most) {
  const axis = axisOf(video, live);
  if (!axis) return null;
  const flying = live?.pieces ?? [];
  const count = Math.ceil((axis.total ?? openEnd(axis, video, flying)) / axis.unit);
  const step = axis.unit * Math.ceil(count / most);
  const size = Math.max(Math.ceil((count * axis.unit) / step), 1);
  const cells = Array.from({ length: size }, () => ({ landed: 0, flying: 0, arrived: 0, refused: false }));
  const spread = (start, end, put) => {
    for (let n = Math.floor(start / step); n < size && n * step < end; n += 1) {
      put(cells[n], (Math.min(end, (n + 1) * step) - Math.max(start, n * step)) / step);
    }
  };
  const length = Math.min(axis.total ?? Infinity, size * step);
  const last = cells[size - 1];
  for (const [start, end] of video.landed) spread(start, end, (cell, share) => { cell.landed += share; });
  for (const [start, end] of video.refused) spread(start, end, (cell) => { cell.refused = true; });
  for (const [start, end, arrived] of flying) {
    spread(start, end, (cell, share) => {
      cell.flying += share;
      cell.arrived += share * (arrived ?? 0.5);
    });
  }
  last.landed *= step / (length - (size - 1) * step); // the last one is shorter
  return { cells, isOpen: axis.total === null };
}

function openEnd(axis, video, flying) {
  const ends = [...video.landed, ...flying, ...video.refused].map((place) => place[1]);
  const count = Math.max(0, ...ends) / axis.unit;
  let shown = OPEN_ENDED;
  while (shown <= count) shown *= 2;
  return shown * axis.unit;
}

// As near to squares as possible.
function rowsFor(count, width, height) {
  let best = 1;
  let bestSkew = Infinity;
  for (let rows = 1; rows * SMALLEST_PX <= height; rows += 1) {
    const skew = Math.abs(Math.log(width / Math.ceil(count / rows) / (height / rows)));
    if (skew < bestSkew) [best, bestSkew] = [rows, skew];
  }
  return best;
}

export function draw(canvas, video, live) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width) return;
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const colour = colours(canvas);
  const most = Math.floor(width / SMALLEST_PX) * Math.floor(height / SMALLEST_PX);
  const map = cellsOf(video, live, most) ?? { cells: [{ landed: 0, flying: 0 }], isOpen: false };
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
    // Where the end is open, the cells beyond what is known fade away.
    pen.globalAlpha = map.isOpen && !cell.landed && !cell.flying ? 0.5 : 1;
    drawCell(pen, colour, cell, x, y, Math.max(right - x, 1), Math.max(bottom - y, 1));
  });
}

function drawCell(pen, colour, cell, x, y, width, height) {
  const landed = Math.min(cell.landed, 1);
  const isRefused = cell.refused && !cell.landed && !cell.flying;
  pen.fillStyle = isRefused ? colour.refusedSoft : cell.flying ? colour.flyingSoft : colour.empty;
  pen.fillRect(x, y, width, height);
  pen.fillStyle = colour.landed;
  if (landed) pen.fillRect(x, y, Math.max(width * landed, 1), height); // one of many parts is seen, too
  pen.fillStyle = colour.flying;
  pen.fillRect(x + width * landed, y, width * Math.min(cell.arrived, 1 - landed || 0), height);
  pen.globalAlpha = 1;
  if (!cell.refused) return;
  pen.fillStyle = pen.strokeStyle = colour.refused;
  if (isRefused) {
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
    landed: get("landed"),
    flying: get("flying"),
    flyingSoft: get("flying-soft"),
    refused: get("refused"),
    refusedSoft: get("refused-soft"),
    empty: get("empty"),
  };
}

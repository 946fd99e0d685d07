// Formats numbers and paths, and creates elements.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count) {
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit && count < 100 ? count.toFixed(1) : Math.round(count)} ${UNITS[unit]}`;
}

export function number(count) {
  return count.toLocaleString("en");
}

export function duration(ms) {
  return ms < 10000 ? `${number(Math.round(ms))} ms` : `${number(Math.round(ms / 1000))} s`;
}

// Shortens ids to their first characters, which differ, and drops the prefix of videos.
export function shortPath(path) {
  return path.replace(/^\/videos\/(?=vi)/, "").replace(/(vi[0-9A-Za-z]{5})[0-9A-Za-z]{6,}/g, "$1…");
}

export function element(tag, properties = {}, ...children) {
  const created = Object.assign(document.createElement(tag), properties);
  created.append(...children);
  return created;
}

// Changes the document only if the text differs, so that selections and focus are kept.
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

export function copyButton(text) {
  const button = element("button", { type: "button", className: "copy", textContent: "Copy" });
  button.addEventListener("click", () => copy(button, text()));
  return button;
}

async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Copy failed";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

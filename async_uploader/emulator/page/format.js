// Numbers and names as people read them.

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

// Ids are long, their first letters tell them apart, and what they are goes without saying.
export function shortPath(path) {
  return path.replace(/^\/videos\/(?=vi)/, "").replace(/(vi[0-9A-Za-z]{5})[0-9A-Za-z]{6,}/g, "$1…");
}

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Touches the document only where something is new, so that selections and focus survive.
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
    button.textContent = "Not allowed";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

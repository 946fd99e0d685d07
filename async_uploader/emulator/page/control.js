// The buttons: faults, reset and deletion, by the control API.

import { element } from "./format.js";

const find = (id) => document.getElementById(id);

const PRESETS = {
  "Refuse part 2 once (503)": "part=2,times=1:status=503",
  "Cut the next part in its middle": "upload,times=1:cut,when=middle",
  "Lose the response to the next part": "upload,times=1:cut,when=stored",
  "Lose the response that completes an upload": "completing,times=1:cut",
  "Cut one upload in twenty": "upload,probability=0.05:cut",
  "Stall the next part for 10 s": "upload,times=1:stall=10",
  "Too many requests, once": "upload,times=1:problem=too-many-requests,retry-after=5",
  "Expire all access tokens": "upload,times=1:expire-tokens",
  "Error page of a proxy, once": "*,times=1:status=502,body=html",
};

export async function control(method, path, body) {
  const response = await fetch(`/_emulator/${path}`, { method, body: body && JSON.stringify(body) });
  if (!response.ok) {
    const { title, detail } = await response.json();
    throw new Error(detail ?? title);
  }
  return response.status === 204 ? null : response.json();
}

// Asks before something is lost: the first click changes the text of the button, the second one acts.
export function confirmButton(button, act) {
  const text = button.textContent;
  let timer = 0;
  const restore = () => {
    clearTimeout(timer);
    timer = 0;
    button.textContent = text;
    button.classList.remove("confirm");
  };
  button.addEventListener("blur", restore);
  button.addEventListener("click", async () => {
    if (timer) {
      restore();
      await act();
      return;
    }
    button.textContent = `${text}?`;
    button.classList.add("confirm");
    timer = setTimeout(restore, 4000);
  });
  return button;
}

// Without a connection, no button works.
export function enableControls(isLive) {
  for (const control of document.querySelectorAll("#reset, #clear-faults, #add-fault :is(button, input, select)")) {
    control.disabled = !isLive;
  }
}

// What a button removes may be gone already: the next event shows it.
export async function remove(path) {
  await control("DELETE", path).catch(() => null);
}

export function startControls() {
  find("presets").append(...Object.entries(PRESETS).map(([name, spec]) =>
    element("option", { textContent: name, value: spec })));
  find("presets").addEventListener("change", () => {
    find("spec").value = find("presets").value;
    find("presets").value = "";
    find("spec").focus();
  });
  find("add-fault").addEventListener("submit", async (event) => {
    event.preventDefault();
    find("fault-error").textContent = "";
    try {
      await control("POST", "faults", { spec: find("spec").value });
      find("spec").value = "";
    } catch (error) {
      find("fault-error").textContent = error.message;
    }
  });
  find("clear-faults").addEventListener("click", () => remove("faults"));
  confirmButton(find("reset"), () => control("POST", "reset").catch(() => null));
}

export function removeFaultButton(number, spec) {
  const button = element("button", { type: "button", className: "small", textContent: "×" });
  button.setAttribute("aria-label", `Remove the fault ${spec}`);
  button.addEventListener("click", () => remove(`faults/${number}`));
  return button;
}

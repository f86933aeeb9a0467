// What a script adds: copying with one press, and quota that renews itself. Without it everything works all the same.
"use strict";

for (const button of document.querySelectorAll("button[data-copy]")) {
  const input = document.getElementById(button.dataset.copy);
  button.hidden = false;
  button.addEventListener("click", async () => {
    input.select();
    try {
      await navigator.clipboard.writeText(input.value);
      button.textContent = "Copied";
    } catch {
      // Not every way to this page may write to the clipboard; the text is selected.
      button.textContent = "Press Ctrl+C";
    }
  });
}

const live = document.querySelector("[data-live]");
const toggle = document.getElementById("live-toggle");
if (live && toggle) {
  const EVERY = 2000;
  let isOn = true;
  const show = () => {
    toggle.textContent = isOn ? "Pause updates" : "Go on updating";
  };
  const renew = async () => {
    // Not while nobody looks, and not under somebody's keyboard focus.
    if (!isOn || document.hidden || live.contains(document.activeElement)) return;
    try {
      const answer = await fetch(live.dataset.live, { redirect: "error" });
      if (!answer.ok) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      live.replaceChildren(...page.body.childNodes);
      live.dataset.renewed = String(Number(live.dataset.renewed ?? 0) + 1);
    } catch {
      isOn = false;
      show();
    }
  };
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    isOn = !isOn;
    show();
    renew();
  });
  show();
  setInterval(renew, EVERY);
}

// Asks for the page again and takes over the parts that changed; the page works without it.
"use strict";
{
  const EVERY_MS = 5000;
  const banner = document.getElementById("connection");
  const seen = new Map();  // each part as it was served
  let tag = null;
  let lastAnswer = Date.now();

  const ago = (seconds) => {
    for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
      if (seconds >= size) return `${Math.round(seconds / size)} ${unit} ago`;
    }
    return seconds < 5 ? "just now" : `${Math.round(seconds)} s ago`;
  };

  const tellTimes = (within) => {
    for (const time of within.querySelectorAll("time")) {
      time.title ||= time.textContent;
      const text = ago(Math.max(0, (Date.now() - Date.parse(time.dateTime)) / 1000));
      if (time.textContent !== text) time.textContent = text;
    }
  };

  const place = (element) => {  // how to find an element again in a newer part
    if (element.matches("[data-key] > summary")) return `[data-key="${element.parentElement.dataset.key}"] > summary`;
    if (element.matches("a[href]")) return `a[href="${CSS.escape(element.getAttribute("href"))}"]`;
    if (element.matches(".scroll")) return `.scroll[aria-label="${CSS.escape(element.getAttribute("aria-label"))}"]`;
    return null;
  };

  const takeOver = (old, fresh) => {
    if (seen.get(old.id) === fresh.outerHTML) return;
    seen.set(old.id, fresh.outerHTML);
    const open = new Map([...old.querySelectorAll("details[data-key]")].map((one) => [one.dataset.key, one.open]));
    const scrolled = new Map([...old.querySelectorAll(".scroll")].map((one) => [one.getAttribute("aria-label"), one.scrollLeft]));
    const focused = old.contains(document.activeElement) ? place(document.activeElement) : null;
    for (const one of fresh.querySelectorAll("details[data-key]")) {
      if (open.has(one.dataset.key)) one.open = open.get(one.dataset.key);
    }
    tellTimes(fresh);
    old.replaceChildren(...fresh.childNodes);
    for (const one of old.querySelectorAll(".scroll")) one.scrollLeft = scrolled.get(one.getAttribute("aria-label")) ?? 0;
    if (focused) old.querySelector(focused)?.focus({ preventScroll: true });
  };

  const ask = async () => {
    const headers = tag ? { "If-None-Match": tag } : {};
    const answer = await fetch(location.href, { headers, cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (answer.status === 304) return;
    if (answer.redirected) { location.assign(answer.url); return; }  // signed out
    if (!answer.ok) throw new Error(String(answer.status));
    tag = answer.headers.get("ETag");
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of fresh.querySelectorAll("[data-part]")) {
      const old = document.getElementById(part.id);
      if (old && !old.contains(document.querySelector("input:focus, select:focus"))) takeOver(old, part);
    }
  };

  const tick = async () => {
    if (!document.hidden) {
      try {
        await ask();
        lastAnswer = Date.now();
        banner.hidden = true;
      } catch {
        banner.textContent = `The monitor does not answer. What you see was told ${ago((Date.now() - lastAnswer) / 1000)}.`;
        banner.hidden = false;
      }
      tellTimes(document);
    }
    if (!document.hidden) setTimeout(tick, EVERY_MS); else waiting = true;
  };

  let waiting = false;
  if (location.search.includes("done=")) {  // said once; a reload says it no more
    const address = new URL(location.href);
    address.searchParams.delete("done");
    history.replaceState(null, "", address);
  }
  for (const part of document.querySelectorAll("[data-part]")) seen.set(part.id, part.outerHTML);
  tellTimes(document);
  if (document.body.hasAttribute("data-live")) {
    setTimeout(tick, EVERY_MS);
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && waiting) { waiting = false; tick(); }
    });
  }
}

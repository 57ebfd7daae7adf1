// Before the first paint, so that a chosen theme does not flash.
"use strict";
{
  const root = document.documentElement;
  const names = { "": "Theme: system", light: "Theme: light", dark: "Theme: dark" };
  const chosen = () => {
    try { return localStorage.getItem("trueup-theme") || ""; } catch { return ""; }
  };
  const apply = (theme) => {
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
    const button = document.getElementById("theme");
    if (button) { button.textContent = names[theme] ?? names[""]; button.hidden = false; }
  };
  apply(chosen());
  document.addEventListener("DOMContentLoaded", () => {
    apply(chosen());
    document.getElementById("theme").addEventListener("click", () => {
      const order = ["", "light", "dark"];
      const next = order[(order.indexOf(chosen()) + 1) % order.length];
      try { localStorage.setItem("trueup-theme", next); } catch { /* it holds until the next page */ }
      apply(next);
    });
  });
}

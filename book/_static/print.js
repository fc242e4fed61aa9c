// Paper is light, whatever the theme on the screen.
"use strict";

window.addEventListener("beforeprint", () => {
  const root = document.documentElement;
  root.dataset.themeOfScreen = root.dataset.theme;
  root.dataset.theme = "light";
});
window.addEventListener("afterprint", () => {
  document.documentElement.dataset.theme = document.documentElement.dataset.themeOfScreen;
});

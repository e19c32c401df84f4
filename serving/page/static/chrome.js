// What every page has: the theme, and signing in.

import { $, saved, save, h, put } from "./dom.js";
import { onSignIn, setToken, token } from "./service.js";

const THEMES = { auto: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };

function theme() {
  const button = $("theme");
  const set = (name) => {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    button.textContent = { auto: "◐", light: "☀", dark: "☾" }[name];
    button.setAttribute("aria-label", `${THEMES[name]}; change it`);
    button.title = THEMES[name];
  };
  let now = saved("defectnet-theme", "auto");
  if (!THEMES[now]) now = "auto";
  set(now);
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    now = names[(names.indexOf(now) + 1) % names.length];
    save("defectnet-theme", now);
    set(now);
  });
}

function signing(whenSigned) {
  const dialog = $("sign-in");
  const input = $("token");
  let waiting = [];
  const show = () => {
    const button = $("sign");
    button.hidden = !token();
    button.textContent = "Sign out";
  };
  const end = (given) => {
    for (const done of waiting) done(given);
    waiting = [];
    show();
  };
  $("sign-in-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!input.value.trim()) return;
    setToken(input.value.trim());
    input.value = "";
    dialog.close();
    end(true);
    whenSigned();
  });
  $("sign-in-cancel").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => end(false));
  $("sign").addEventListener("click", () => {
    setToken("");
    location.reload();
  });
  onSignIn(
    (problem) =>
      new Promise((done) => {
        waiting.push(done);
        $("sign-in-problem").textContent = problem;
        if (!dialog.open) dialog.showModal();
      }),
    (words) => {
      const place = $("waiting");
      put(place, words ? h("span", {}, words) : "");
      place.hidden = !words;
    },
  );
  show();
}

export function chrome(whenSigned = () => {}) {
  theme();
  signing(whenSigned);
}

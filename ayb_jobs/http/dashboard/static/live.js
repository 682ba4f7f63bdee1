// Keeps a page up to date while somebody looks: reads it anew when jobs change, and puts what differs in its place.
// Rows never come, go or move under a reader. What has the pointer, the focus, a selection or is open stays as it is.
"use strict";
(() => {
  const AT_MOST_MS = 2000, AT_LEAST_MS = 10000;
  const main = document.getElementById("main");
  let still = false, asked = 0, timer = 0, isAsking = false, read = Date.now();

  const isHeld = (node) => {
    const selection = getSelection();
    return node.matches(":hover, :focus-within") || node.querySelector("details[open]") !== null ||
      (selection !== null && !selection.isCollapsed && selection.containsNode(node, true));
  };

  function attributes(old, fresh) {
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }

  function morph(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) return void old.replaceWith(fresh.cloneNode(true));
    if (old.nodeType !== 1) return void (old.nodeValue = fresh.nodeValue);
    attributes(old, fresh);
    const olds = [...old.childNodes], news = [...fresh.childNodes];
    news.forEach((each, place) => olds[place] ? morph(olds[place], each) : old.append(each.cloneNode(true)));
    olds.slice(news.length).forEach((each) => each.remove());
  }

  function rows(old, fresh) {
    const news = new Map([...fresh.children].map((row) => [row.id, row]));
    for (const row of old.children) {
      const its = news.get(row.id);
      news.delete(row.id);
      if (its && !isHeld(row)) morph(row, its);
    }
    const newer = document.getElementById("newer");
    if (!newer) return;
    newer.hidden = news.size === 0;
    newer.firstElementChild.textContent = `show ${news.size} newer`;
  }

  function put(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    if (!fresh.getElementById("asof")) return false;
    document.title = fresh.title;
    for (const part of document.querySelectorAll("[data-live]")) {
      const its = fresh.getElementById(part.id);
      if (!its) continue;
      if (part.hasAttribute("data-rows")) rows(part, its);
      else if (part.id === "asof" || !isHeld(part)) morph(part, its);
    }
    say();
    return true;
  }

  function say(problem) {
    const asof = document.getElementById("asof"), link = asof && asof.querySelector("[data-still]");
    if (!link) return;
    asof.classList.toggle("stale", Boolean(problem));
    link.textContent = still ? "go on" : problem ? `${problem} · ask again` : "hold still";
    const word = still ? ", held still · " : ", live · ";
    if (link.previousSibling) link.previousSibling.nodeValue = link.previousSibling.nodeValue.replace(/(, live|, held still)? · $/, word);
  }

  async function ask() {
    timer = 0;
    if (still || isAsking || document.hidden) return;
    isAsking = true;
    asked = Date.now();
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
      if (answer.ok && put(await answer.text())) read = Date.now();
      else old();
    } catch {
      old();
    }
    isAsking = false;
    later(AT_LEAST_MS);
  }

  function old() {
    const age = Math.round((Date.now() - read) / 1000);
    say(`${age} s old: the daemon does not answer`);
  }

  function later(ms) {
    if (still) return;
    const wait = Math.max(ms, AT_MOST_MS - (Date.now() - asked));
    if (timer && ms >= AT_LEAST_MS) return;
    clearTimeout(timer);
    timer = setTimeout(ask, wait);
  }

  function watch() {
    const stream = new EventSource("/live");
    let due = false;
    const changed = () => {
      if (due || document.hidden) return;
      due = true;
      setTimeout(() => { due = false; later(0); }, 100);
    };
    for (const kind of ["job", "missed", "unavailable"]) stream.addEventListener(kind, changed);
    addEventListener("pagehide", () => stream.close());
    document.addEventListener("visibilitychange", () => { if (!document.hidden) later(0); });
  }

  function preview(form) {
    let wait = 0;
    form.addEventListener("input", () => {
      clearTimeout(wait);
      wait = setTimeout(async () => {
        const typed = new URLSearchParams();
        for (const name of ["cron", "timezone", "dst", "expect_success_within_s"]) {
          const field = form.elements.namedItem(name);
          if (field) typed.set(name, field.value);
        }
        try {
          const answer = await fetch(`${form.dataset.preview}?${typed}`);
          if (!answer.ok) return;
          const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
          document.getElementById("preview").replaceChildren(...fresh.body.childNodes);
        } catch { /* the button asks as well */ }
      }, 300);
    });
  }

  for (const form of document.querySelectorAll("form[data-preview]")) preview(form);
  if (!document.getElementById("asof")) return;
  main.addEventListener("click", (event) => {
    if (!event.target.closest("[data-still]")) return;
    event.preventDefault();
    still = document.getElementById("asof").classList.contains("stale") ? false : !still;
    say();
    if (!still) later(0);
  });
  say();
  watch();
  later(AT_LEAST_MS);
})();

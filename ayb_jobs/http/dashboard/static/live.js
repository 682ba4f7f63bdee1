// Keeps a page up to date while somebody looks: reads it anew when jobs change, and puts what differs in its place.
// Rows never come, go or move under a reader. What has the pointer, the focus, a selection or is open stays as it is.
"use strict";
(() => {
  const AT_MOST_MS = 2000, AT_LEAST_MS = 10000, AGAIN_MS = 5000, COST = 30;
  const main = document.getElementById("main");
  let still = false, asked = 0, timer = 0, isAsking = false, isOver = false, read = Date.now(), took = 0;

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
      if (isHeld(row)) continue;
      if (its) morph(row, its);
      else leave(row);
    }
    const more = document.getElementById(`${old.id}-more`);
    if (!more) return;
    more.hidden = news.size === 0;
    more.firstElementChild.textContent = `show ${news.size} more`;
  }

  // Marks a row that the page would not have by now: what it tells is old.
  function leave(row) {
    if (row.classList.contains("left")) return;
    row.classList.add("left");
    const mark = document.createElement("span");
    mark.className = "small";
    mark.textContent = "no longer on this page";
    row.cells[0].append(mark);
  }

  // Whether a part that stays as it is would be another by now; the time of the data is apart.
  function isKept(part, its) {
    if (!part.hasAttribute("data-rows")) return isHeld(part) && !bare(part).isEqualNode(bare(its));
    const news = new Map([...its.children].map((row) => [row.id, row]));
    return [...part.children].some((row) => isHeld(row) && !(news.has(row.id) && row.isEqualNode(news.get(row.id))));
  }

  function bare(part) {
    const copy = part.cloneNode(true);
    copy.querySelector("#asof")?.remove();
    return copy;
  }

  function put(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html"), asof = fresh.getElementById("asof");
    if (!asof) return false;
    document.title = fresh.title;
    for (const name of ["once", "form_key"]) {
      const kept = document.querySelector(`input[name=${name}]`);
      if (kept) for (const each of fresh.querySelectorAll(`input[name=${name}]`)) each.setAttribute("value", kept.value);
    }
    const parts = [...document.querySelectorAll("[data-live]")].filter((part) => fresh.getElementById(part.id));
    const kept = parts.some((part) => part.id !== "asof" && isKept(part, fresh.getElementById(part.id)));
    if (kept) asof.replaceWith(document.getElementById("asof").cloneNode(true));
    for (const part of parts) {
      const its = fresh.getElementById(part.id);
      if (part.hasAttribute("data-rows")) rows(part, its);
      else if (part.id === "asof" || !isHeld(part)) morph(part, its);
    }
    say(kept ? "what you point at or have open has changed since" : "");
    return true;
  }

  function say(problem) {
    const asof = document.getElementById("asof"), link = asof && asof.querySelector("[data-still]");
    if (!link) return;
    asof.classList.toggle("stale", Boolean(problem));
    link.textContent = still ? "go on" : problem ? `${problem} · ${isOver ? "log in" : "ask again"}` : "hold still";
    const word = still ? ", held still · " : ", live · ";
    if (link.previousSibling) link.previousSibling.nodeValue = link.previousSibling.nodeValue.replace(/(, live|, held still)? · $/, word);
  }

  async function ask() {
    timer = 0;
    if (still || isAsking || isOver || document.hidden) return;
    isAsking = true;
    asked = Date.now();
    const problem = await whatKeeps();
    took = Date.now() - asked;
    isAsking = false;
    if (problem) say(`${Math.round((Date.now() - read) / 1000)} s old: ${problem}`);
    if (!isOver) later(AT_LEAST_MS);
  }

  // Reads the page and puts it in its place; returns what keeps that from being done, if anything does.
  async function whatKeeps() {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, redirect: "manual" });
      if (answer.type === "opaqueredirect") {
        isOver = true;
        return "your session is over";
      }
      const text = await answer.text();
      if (answer.ok && put(text)) {
        read = Date.now();
        return "";
      }
      return wrong(text) || "the daemon does not answer";
    } catch {
      return "the daemon does not answer";
    }
  }

  function wrong(text) {
    const page = new DOMParser().parseFromString(text, "text/html"), sentence = page.getElementById("sentence");
    const verdict = page.getElementById("verdict");
    if (verdict) morph(document.getElementById("verdict"), verdict);
    return sentence && sentence.textContent.split(". ")[0].replace(/\.$/, "");
  }

  function later(ms) {
    if (still) return;
    // A page that takes long is asked for more rarely.
    const apart = Math.min(AT_LEAST_MS, Math.max(AT_MOST_MS, COST * took));
    const wait = Math.max(ms, apart - (Date.now() - asked));
    if (timer && ms >= AT_LEAST_MS) return;
    clearTimeout(timer);
    timer = setTimeout(ask, wait);
  }

  // A browser opens six connections to a site at once, and each stream holds one: a page that nobody sees has none.
  function watch() {
    let stream = null, due = false;
    const changed = () => {
      if (due || document.hidden) return;
      due = true;
      setTimeout(() => { due = false; later(0); }, 100);
    };
    const listen = () => {
      if (stream) stream.close();
      stream = document.hidden ? null : new EventSource("/live");
      for (const kind of ["job", "missed", "unavailable"]) if (stream) stream.addEventListener(kind, changed);
    };
    listen();
    addEventListener("pagehide", () => { if (stream) stream.close(); });
    addEventListener("pageshow", (event) => { if (event.persisted) listen(); });
    document.addEventListener("visibilitychange", () => { listen(); if (!document.hidden) later(0); });
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

  // A page that could not be had is asked for until it can.
  function again(note) {
    note.hidden = false;
    setInterval(async () => {
      if (document.hidden) return;
      try {
        if ((await fetch(location.href, { redirect: "manual" })).status !== 503) location.reload();
      } catch { /* the daemon is away, and may come back */ }
    }, AGAIN_MS);
  }

  for (const form of document.querySelectorAll("form[data-preview]")) preview(form);
  for (const note of document.querySelectorAll("[data-again]")) again(note);
  if (!document.getElementById("asof")) return;
  main.addEventListener("click", (event) => {
    if (isOver || !event.target.closest("[data-still]")) return;
    event.preventDefault();
    const isStale = document.getElementById("asof").classList.contains("stale");
    still = !isStale && !still;
    if (!isStale) say();
    if (!still) later(0);
  });
  say();
  watch();
  later(AT_LEAST_MS);
})();

// Keeps a page as it is now. Without this script every page works; it is then as old as its last load.
//
// The server says when something has changed; then the page is asked for again, at most once a second, and what differs
// is changed in place, so that focus, scroll, selection and what is unfolded stay as they are.
'use strict';
(() => {
  const LEAST = 1000, POLL = 5000, LOST = 12000;
  const live = document.querySelector('[data-live]');
  const lost = document.getElementById('lost');
  const url = new URL(location.href);
  if (url.searchParams.has('did')) {
    // What was done is said once: not again when the page is loaded anew.
    url.searchParams.delete('did');
    url.searchParams.delete('n');
    history.replaceState(null, '', url);
  }
  for (const form of document.querySelectorAll('form[method=post]')) {
    form.addEventListener('submit', (event) => {
      if (form.dataset.sent) event.preventDefault();
      form.dataset.sent = '1';
    });
  }
  addEventListener('pageshow', () => {
    for (const form of document.querySelectorAll('form[data-sent]')) delete form.dataset.sent;
  });
  if (!live) return;

  let stream = null, timer = 0, asking = false, again = false, asked = 0, good = Date.now();

  function soon() {
    if (asking) { again = true; return; }
    if (timer) return;
    timer = setTimeout(ask, Math.max(0, asked + LEAST - Date.now()));
  }

  async function ask() {
    timer = 0;
    asking = true;
    asked = Date.now();
    try {
      const answer = await fetch(url, { headers: { Accept: 'text/html' }, signal: AbortSignal.timeout(8000) });
      if (answer.redirected) return location.reload();
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
        const now = page.querySelector('[data-live]');
        if (now) {
          document.title = page.title;
          morph(live, now);
          good = Date.now();
        }
      }
    } catch { /* the watch below tells */ }
    asking = false;
    watch();
    if (again) { again = false; soon(); }
  }

  // Says that what is shown is old, and since when: a screen that stands still must not look well.
  function watch() {
    const gone = Date.now() - good > LOST;
    if (gone && lost.hidden) {
      lost.querySelector('time').textContent = new Date(good).toTimeString().slice(0, 8);
    }
    if (lost.hidden === gone) lost.hidden = !gone;
    document.documentElement.classList.toggle('stale', gone);
  }

  function open() {
    if (stream || document.hidden) return;
    stream = new EventSource('/live');
    stream.onmessage = soon;
    stream.onerror = () => { if (stream && stream.readyState === EventSource.CLOSED) close(); };
  }

  function close() {
    if (stream) stream.close();
    stream = null;
  }

  document.addEventListener('visibilitychange', () => {
    if (document.hidden) return close();
    open();
    soon();
  });
  setInterval(() => {
    if (document.hidden) return;
    watch();
    open();
    if (Date.now() - asked > POLL) soon();
  }, 1000);
  open();

  // Makes one tree like another, keeping the nodes that are the same.
  function morph(from, to) {
    for (const { name } of [...from.attributes]) {
      if (!to.hasAttribute(name) && name !== 'open') from.removeAttribute(name);
    }
    for (const { name, value } of to.attributes) {
      if (from.getAttribute(name) !== value) from.setAttribute(name, value);
    }
    const keyed = new Map();
    for (const child of from.children) if (child.id) keyed.set(child.id, child);
    let at = from.firstChild;
    for (const next of [...to.childNodes]) {
      const known = next.id ? keyed.get(next.id) : at && !at.id && at.nodeName === next.nodeName ? at : null;
      if (known && known.nodeName === next.nodeName) {
        if (known === at) at = at.nextSibling;
        else from.insertBefore(known, at);
        if (known.nodeType !== 1) {
          if (known.data !== next.data) known.data = next.data;
        } else if (!known.isEqualNode(next)) morph(known, next);
      } else from.insertBefore(document.importNode(next, true), at);
    }
    while (at) {
      const rest = at.nextSibling;
      at.remove();
      at = rest;
    }
  }
})();

// Walks through the dashboard of a running smsd in Chromium, and says on stdout, as JSON lines, what was wrong.
//
// node walk.js BASE PEERS SHOTS ALERT HELD  — where smsd is, where the packages are, where pictures go, an alert that has
// a story, and one that is held. With PICTURES=1 it takes a picture of every page.
'use strict';
const fs = require('fs');
const os = require('os');
const path = require('path');

const [, , BASE, PEERS, SHOTS, ALERT, HELD] = process.argv;
const { chromium } = require(path.join(PEERS, 'playwright-core'));
const AXE = fs.readFileSync(path.join(PEERS, 'axe-core', 'axe.min.js'), 'utf8');
const POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
  + "form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const ARGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const SIZES = { phone: [390, 844], laptop: [1280, 800], wall: [1920, 1080] };

let faults = 0;
function wrong(what, detail) {
  faults += 1;
  console.log(JSON.stringify({ what, detail }));
}
function must(holds, what, detail) {
  if (!holds) wrong(what, detail);
}

// What every page of a context is held against, whatever is done with it.
function guard(context) {
  context.on('page', (page) => {
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) wrong('console', `${page.url()}: ${message.text()}`);
    });
    page.on('pageerror', (error) => wrong('error in a page', `${page.url()}: ${error}`));
    page.on('request', (request) => {
      if (!request.url().startsWith(BASE)) wrong('a request to another host', request.url());
    });
  });
  context.setDefaultTimeout(10000);
  return context.addInitScript(() => {
    window.hit = 0;
    document.addEventListener('securitypolicyviolation', (e) => console.error(`policy: ${e.violatedDirective}`));
  });
}

async function axe(page, name) {
  // Through the protocol, which the policy of the page does not bind.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }));
  for (const { id, impact, nodes } of violations.filter((v) => ['serious', 'critical'].includes(v.impact))) {
    wrong(`axe: ${id} (${impact})`, `${name}: ${nodes.slice(0, 2).map((n) => `${n.html.slice(0, 160)} ${n.failureSummary}`).join(' | ')}`);
  }
}

async function everyPage(browser) {
  const pages = { overview: '/', wall: '/?wall', alerts: '/alerts', filtered: '/alerts?state=held&to=bad%3Cb%3E', story: `/alerts/${ALERT}`,
    held: `/alerts/${HELD}`, confirm: `/alerts/${HELD}/release`, cancel: `/alerts/${HELD}/cancel`, send: '/send', missing: '/alerts/999999999' };
  for (const colorScheme of ['light', 'dark']) {
    for (const [size, [width, height]] of Object.entries(SIZES)) {
      const context = await browser.newContext({ colorScheme, viewport: { width, height } });
      await guard(context);
      const page = await context.newPage();
      for (const [name, where] of Object.entries(pages)) {
        if ((size === 'wall') !== (name === 'wall')) continue;
        const refused = name === 'missing' || name === 'filtered';
        if (refused) page.removeAllListeners('console');
        const answer = await page.goto(BASE + where);
        must(answer.headers()['content-security-policy'] === POLICY, 'the policy', where);
        must(answer.headers()['x-content-type-options'] === 'nosniff' && answer.headers()['referrer-policy'] === 'same-origin', 'headers', where);
        must(await page.evaluate(() => window.hit) === 0, 'a script ran', where);
        must(await page.locator('main script, main style, [style], [onclick], [onerror]').count() === 0, 'something foreign became HTML', where);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        must(wide <= 0, 'a page is wider than the screen', `${where} ${size}: ${wide} px`);
        if (size !== 'phone') await axe(page, `${name} ${size} ${colorScheme}`);
        if (process.env.PICTURES) await page.screenshot({ path: path.join(SHOTS, `${name}-${size}-${colorScheme}.png`), fullPage: size !== 'wall' });
      }
      await context.close();
    }
  }
}

async function firstPaint(browser) {
  const fresh = await browser.newContext();
  const first = await fresh.newPage();
  // The browser's own start, of a process for this site, is no figure of ours; nothing of the page is known to it yet.
  await first.goto(`${BASE}/healthz`);
  const bodies = [];
  first.on('response', (r) => { if (!r.url().endsWith('/live')) bodies.push(r.body().catch(() => '')); });
  await first.goto(BASE, { waitUntil: 'load' });
  const bytes = (await Promise.all(bodies)).reduce((sum, body) => sum + body.length, 0);
  const paint = await first.evaluate(() => new Promise((done) => {
    const look = () => {
      const entry = performance.getEntriesByName('first-contentful-paint')[0];
      if (entry) done(entry.startTime); else setTimeout(look, 5);
    };
    look();
  }));
  const { responseStart, domContentLoadedEventEnd } = await first.evaluate(() => performance.getEntriesByType('navigation')[0].toJSON());
  console.error(`first byte ${responseStart.toFixed(0)} ms, DOMContentLoaded ${domContentLoadedEventEnd.toFixed(0)} ms, `
    + `first contentful paint ${paint.toFixed(0)} ms; ${bytes} bytes, style, script and icon included`);
  must(bytes > 1000 && bytes < 60000, 'the first paint weighs', bytes);
  must(paint < Number(process.env.PAINT || 500), 'the first paint takes', paint);
  await fresh.close();
}

// The keyboard alone reaches every link and button, in order, and Enter works.
async function keyboard(browser) {
  const context = await browser.newContext();
  await guard(context);
  const page = await context.newPage();
  await page.goto(`${BASE}/alerts/${HELD}`);
  const wanted = await page.locator('a[href], button, input:not([type=hidden]), select, summary').count();
  const seen = new Set();
  let reached = 0;
  for (let n = 0; n < wanted; n += 1) {
    await page.keyboard.press('Tab');
    const found = await page.evaluate(() => {
      const e = document.activeElement;
      const shown = getComputedStyle(e).outlineStyle !== 'none';
      return e === document.body ? null : { name: `${e.tagName} ${e.id} ${e.getAttribute('href')} ${e.textContent}`, shown };
    });
    if (!found) continue;
    reached += 1;
    seen.add(found.name);
    must(found.shown, 'focus can not be seen', found.name);
  }
  must(reached === wanted, 'tab order', `${reached} of ${wanted}`);
  must([...seen].some((s) => s.includes('/cancel')), 'tab order does not reach an action', [...seen].join('; '));
  await page.focus(`#release-${HELD}`);
  await page.keyboard.press('Enter');
  await page.waitForURL(`**/alerts/${HELD}/release`);
  must((await page.textContent('.cost')).includes('twice'), 'the cost is not said');
  await page.focus('main button');
  await Promise.all([page.waitForURL('**/alerts/*?did=*').catch(() => {}), page.keyboard.press('Enter')]);
  await page.waitForSelector('.flash');
  must((await page.textContent('.flash')).includes('To be sent again'), 'what was done is not said', await page.textContent('.flash'));
  must((await page.textContent('.story')).includes('Released'), 'what was done is not in the story');
  await context.close();
}

// What changes is seen without loading the page, and nothing that a person is at is lost.
async function live(browser) {
  const context = await browser.newContext();
  await guard(context);
  const page = await context.newPage();
  await page.goto(BASE);
  await page.evaluate(() => { window.kept = document.querySelector('.ways'); });
  await page.focus('#last a[href="/alerts"]');
  await page.locator('summary').first().click().catch(() => {});
  await page.focus('#last a[href="/alerts"]');
  const other = await context.newPage();
  await other.goto(`${BASE}/send`);
  await other.fill('#to', '+4790000042');
  await other.fill('#text', 'seen without loading the page');
  await other.click('form[action="/send"] button');
  await other.waitForSelector('.flash.good');
  await page.bringToFront();
  await page.waitForFunction(() => document.querySelector('#last').textContent.includes('seen without loading'), null, { timeout: 15000 })
    .catch(() => wrong('a page does not keep itself as it is now'));
  must(await page.evaluate(() => window.kept === document.querySelector('.ways')), 'nodes were thrown away');
  must(await page.evaluate(() => document.activeElement.getAttribute('href')) === '/alerts', 'the focus was lost');
  await context.close();
}

async function withoutScript(browser) {
  const context = await browser.newContext({ javaScriptEnabled: false });
  await guard(context);
  const page = await context.newPage();
  await page.goto(`${BASE}/send`);
  await page.fill('#to', '+4790000666');
  await page.click('form[action="/send"] button');
  const story = await page.getAttribute('.flash a', 'href');
  must(story !== null, 'a test can not be sent without JavaScript');
  await page.goto(BASE + story);
  must(await page.locator('#lost').isHidden(), 'a page says that it is old');
  await page.click('#cancel');
  await page.click('main button');
  must((await page.textContent('.flash')).includes('Cancelled'), 'cancel without JavaScript', await page.textContent('.flash'));
  await context.close();
}

async function forged(browser) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${BASE}/alerts/${ALERT}`);
  const post = (headers, form) => context.request.post(`${BASE}/alerts/${ALERT}/requeue`, { headers, form, maxRedirects: 0 });
  const token = await page.goto(`${BASE}/alerts/${ALERT}/requeue`).then(() => page.inputValue('input[name=csrf]'));
  must(token.length >= 32, 'no token in the form', token);
  must((await post({}, {})).status() === 403, 'a form without its token was taken');
  must((await post({}, { csrf: '0'.repeat(token.length) })).status() === 403, 'a form with another token was taken');
  must((await post({ origin: 'http://evil.example' }, { csrf: token })).status() === 403, 'a form of another origin was taken');
  must((await post({ 'sec-fetch-site': 'cross-site' }, { csrf: token })).status() === 403, 'a form of another site was taken');
  must((await post({ origin: BASE }, { csrf: token })).status() === 303, 'our own form was refused');
  await context.close();
}

// Where tokens are configured: nobody looks without one, and each may do what its token says.
async function login(browser) {
  const token = (name) => `a token for ${name} that nobody guesses`;
  const enter = async (page, name) => {
    await page.goto(`${BASE}/alerts`);
    await page.fill('#token', token(name));
    await page.click('main button');
    await page.waitForLoadState();
  };
  for (const colorScheme of ['light', 'dark']) {
    const context = await browser.newContext({ colorScheme, viewport: { width: 390, height: 844 } });
    await guard(context);
    const page = await context.newPage();
    const answer = await page.goto(`${BASE}/alerts/${ALERT}`);
    must(new URL(page.url()).pathname === '/login', 'a stranger is not led to the way in', page.url());
    must(answer.headers()['content-security-policy'] === POLICY, 'the policy', '/login');
    must(!(await page.content()).includes('waits'), 'a stranger sees an alert');
    await axe(page, `login ${colorScheme}`);
    if (process.env.PICTURES) await page.screenshot({ path: path.join(SHOTS, `login-phone-${colorScheme}.png`) });
    page.removeAllListeners('console');
    await enter(page, 'nobody');
    must((await page.textContent('#wrong')).includes('not known'), 'a wrong token is not said');
    await axe(page, `login wrong ${colorScheme}`);
    await context.close();
  }
  const as = async (name, what) => {
    const context = await browser.newContext();
    await guard(context);
    const page = await context.newPage();
    if (name === 'hook') page.removeAllListeners('console');
    await enter(page, name);
    await what(page, context);
    await context.close();
  };
  await as('boss', async (page, context) => {
    const cookie = (await context.cookies()).find((c) => c.name === 'smsd_session');
    must(cookie && cookie.httpOnly && cookie.sameSite === 'Strict', 'the cookie', JSON.stringify(cookie));
    must(await page.locator('a[href="/send"]').count() === 1, 'who may act is not offered it');
    await page.goto(`${BASE}/alerts/${ALERT}/cancel`);
    const csrf = await page.inputValue('input[name=csrf]');
    const forged = await context.request.post(`${BASE}/alerts/${ALERT}/cancel`, { form: { csrf: `0${csrf.slice(1)}x` }, maxRedirects: 0 });
    must(forged.status() === 403, 'a forged form was taken from a session', forged.status());
    await page.click('main button.grave');
    await page.waitForSelector('.flash.good');
    must((await page.textContent('.story')).includes('boss'), 'who did it is not told');
    await page.click('.who button');
    await page.waitForURL('**/login');
    await page.goto(`${BASE}/`);
    must(new URL(page.url()).pathname === '/login', 'logged out is still in', page.url());
    await context.addCookies([cookie]);
    await page.goto(`${BASE}/`);
    must(new URL(page.url()).pathname === '/login', 'a session outlives its end', page.url());
  });
  await as('guest', async (page, context) => {
    await page.goto(`${BASE}/alerts/${ALERT}`);
    must((await page.textContent('h1')).includes('Alert'), 'who may read can not');
    must(await page.locator('.acts, a[href="/send"]').count() === 0, 'who may only read is offered more');
    page.removeAllListeners('console');
    const answer = await page.goto(`${BASE}/alerts/${ALERT}/requeue`);
    must(answer.status() === 403 && (await page.textContent('main')).includes('operate'), 'a page says why not', answer.status());
    must(answer.headers()['content-security-policy'] === POLICY, 'the policy', 'refused');
    await axe(page, 'refused');
    const post = await context.request.post(`${BASE}/alerts/${ALERT}/requeue`, { form: {}, maxRedirects: 0 });
    must(post.status() === 403, 'who may only read acts', post.status());
  });
  await as('hook', async (page) => {
    must((await page.textContent('main')).includes('no scope'), 'who may only send sees alerts', await page.textContent('main'));
  });
}

(async () => {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'smsd-browser-'));
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ARGS, env: { ...process.env, HOME: profile } });
  const only = process.env.ONLY ? process.env.ONLY.split(',') : null;
  try {
    for (const part of [firstPaint, everyPage, keyboard, live, withoutScript, forged, login]) {
      if (only && !only.includes(part.name)) continue;
      const begun = Date.now();
      try { await part(browser); } catch (error) { wrong(part.name, String(error).slice(0, 600)); }
      console.error(`${part.name}: ${Date.now() - begun} ms`);
    }
  } finally {
    await browser.close();
    fs.rmSync(profile, { recursive: true, force: true });
  }
  process.exit(faults ? 1 : 0);
})();

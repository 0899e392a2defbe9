// Watches a storm from start to end on the dashboard of a real smsd, as somebody on duty would, and takes pictures.
//
// node storm.js SMSD PEERS PICTURES  — the program, where the packages are, where pictures go. `make storm`.
//
// 2,000 alerts to 200 numbers come in by HTTP. The first way out is a phone, slow, and it fails on the way; the second takes
// over; at the end the phone is back. The page is loaded once, at the start, and keeps itself as it is now.
'use strict';
const { execFileSync, spawn } = require('child_process');
const fs = require('fs');
const net = require('net');
const os = require('os');
const path = require('path');

const [SMSD, PEERS, PICTURES] = process.argv.slice(2).map((name) => path.resolve(name));
const { chromium } = require(path.join(PEERS, 'playwright-core'));
const ALERTS = 2000, NUMBERS = 200;
const ROUTERS = ['core-gw1', 'core-gw2', 'oslo-gw', 'bergen-gw', 'tromso-gw', 'dc1-sw3', 'dc2-sw1'];
const WHAT = ['boxDown: no answer to ping', 'linkDown: xe-0/0/1', 'bgpDown: neighbour 192.0.2.9', 'upsOnBattery'];

const sleep = (ms) => new Promise((done) => { setTimeout(done, ms); });

function freePort() {
  return new Promise((done) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });
}

async function until(what, look, seconds = 120) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${seconds} s`);
    await sleep(100);
  }
}

async function post(base, n) {
  const body = {
    to: `+47900${String(n < ALERTS ? n % NUMBERS : n).padStart(5, '0')}`,
    text: `${ROUTERS[n % ROUTERS.length]} ${WHAT[n % WHAT.length]}`,
    severity: 1 + (n % 5),
    idempotency_key: `storm-${n}`,
  };
  const answer = await fetch(`${base}/api/v1/alerts`, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body),
  });
  if (answer.status !== 202) throw new Error(`alert ${n}: ${answer.status} ${await answer.text()}`);
}

async function main(dir) {
  const port = await freePort();
  const base = `http://127.0.0.1:${port}`;
  fs.copyFileSync(path.join(__dirname, 'phone.py'), path.join(dir, 'way'));
  fs.chmodSync(path.join(dir, 'way'), 0o755);
  const way = (name, seconds, concurrency) => `[${name}]\ntype: ExecDispatcher\ncommand: ${dir}/way ${name} ${seconds}\n`
    + `probe: ${dir}/way ${name} 0 --probe\nconcurrency: ${concurrency}\n`;
  fs.writeFileSync(path.join(dir, 'smsd.conf'), `[main]\nusername: nobody\nstate_dir: ${dir}\ndelay: 10\n`
    + `[http]\nlisten: 127.0.0.1:${port}\n[dispatcher]\ndispatcher1: phone\ndispatcher2: gateway\n`
    + way('phone', 0.15, 1) + way('gateway', 0.2, 2));
  fs.writeFileSync(path.join(dir, 'nav.conf'), `PID_DIR = ${dir}\n`);
  const smsd = (...args) => [SMSD, ['-C', path.join(dir, 'smsd.conf'), ...args]];
  // What root starts runs as nobody, who must own what is there.
  const give = () => process.getuid() === 0 && execFileSync('chown', ['-R', 'nobody:', dir]);
  give();
  execFileSync(...smsd('db', 'init'), { stdio: 'ignore' });
  give();
  const log = fs.openSync(path.join(dir, 'log'), 'w');
  const daemon = spawn(...smsd('-f'), { stdio: ['ignore', 'ignore', log] });
  const ended = new Promise((done) => { daemon.on('exit', done); });
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--headless', '--no-sandbox', '--disable-gpu'] });
  try {
    await until('smsd answers', () => fetch(`${base}/healthz`).then((a) => a.ok, () => false), 20);
    const page = await browser.newPage({ viewport: { width: 1280, height: 860 }, colorScheme: 'light' });
    let loads = 0;
    page.on('load', () => { loads += 1; });
    await page.goto(base);
    const begun = Date.now();
    const picture = async (name) => {
      const line = await page.textContent('h1');
      console.log(`${((Date.now() - begun) / 1000).toFixed(1).padStart(6)} s  ${name}: ${line}`);
      await page.screenshot({ path: path.join(PICTURES, `storm-${name}.png`) });
    };
    const says = (words, seconds) => page.waitForFunction((w) => document.querySelector('h1').textContent.includes(w), words,
      { timeout: seconds * 1000 });
    const waits = () => page.textContent('#waits .total').then((t) => Number(t.replace(/\D/g, '')));

    // Four at once, as several monitoring systems would.
    let next = 0;
    const posters = [...Array(4)].map(async () => { while (next < ALERTS) await post(base, next++); });
    await until('the page shows the first alerts', async () => (await waits()) > 0);
    await picture('1-start');
    await Promise.all(posters);
    console.log(`${((Date.now() - begun) / 1000).toFixed(1).padStart(6)} s  all ${ALERTS} alerts are on stable storage`);
    await sleep(6000);
    await picture('2-middle');
    fs.writeFileSync(path.join(dir, 'phone.gone'), '');
    await says('1 of 2', 60);
    await until('the gateway shows what it took', async () => (await page.textContent('#last')).includes('gateway'));
    await sleep(4000);
    await picture('3-failover');
    await until('nothing waits', async () => (await waits()) === 0, 300);
    fs.rmSync(path.join(dir, 'phone.gone'));
    // A way out that failed is tried with an SMS that comes later, after a pause that grows.
    let later = ALERTS;
    await until('the phone is back', async () => {
      await post(base, NUMBERS + later++);
      await sleep(4000);
      return !(await page.textContent('h1')).includes('of 2');
    }, 120);
    await until('nothing waits again', async () => (await waits()) === 0);
    await picture('4-end');
    if (loads !== 1) throw new Error(`the page was loaded ${loads} times`);
    console.log(execFileSync(...smsd('queue', 'audit')).toString());
  } finally {
    await browser.close();
    daemon.kill('SIGTERM');
    await ended;
  }
}

(async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'smsd-storm-'));
  try {
    await main(dir);
  } catch (error) {
    console.error(String(error));
    if (fs.existsSync(path.join(dir, 'log'))) console.error(fs.readFileSync(path.join(dir, 'log'), 'utf8').split('\n').slice(-20).join('\n'));
    process.exitCode = 1;
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
})();

//! A secret in every place that the code knows: none of them is shown in anything that is written.
//!
//! The places come from the reading of the configuration ([`smsd::config::Config::secret_keys`]), so that a new one makes
//! this red until a marker stands in it. Whatever gateways and programs are sent, they throw back.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};
use smsd::config::{self, Config, DispatcherKind, Env};

use super::bench::{Site, nobody_listens, until, until_within};
use crate::postgres::Server;

/// Every secret has this in its middle, and other characters around it in each place: what is known to be a secret hides
/// pieces of eight bytes and more, and must not hide another secret's. A `!` looks different when it is encoded.
const MARK: &str = "Mrk!7";
/// So many places there are; a code that forgets some has fewer.
const PLACES: usize = 30;

#[test]
fn no_secret_of_any_kind_is_shown_by_anything_with_the_embedded_queue() {
    let world = World::new();
    let site = Site::embedded(MAIN, "");
    let secrets = world.settle(&site, "");
    let seen = live(&world, &site, &secrets);
    seen.must_not_show(&secrets);
}

#[test]
fn no_secret_of_any_kind_is_shown_by_anything_with_postgresql() {
    let world = World::new();
    let site = Site::on(Arc::new(Server::shared().database()), MAIN, "");
    site.log_in_as("postgres", &secret("db.conf"));
    let secrets = world.settle(&site, "");
    let mut seen = live(&world, &site, &secrets);
    let tables = site.sql(
        "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) FROM information_schema.tables \
         WHERE table_schema IN ('smsd', 'public') AND table_type = 'BASE TABLE'",
    );
    assert!(tables.lines().count() > 6, "{tables}");
    for table in tables.lines() {
        seen.add(table, site.sql(&format!("SELECT t::text FROM {table} t")));
    }

    // The same by a URL, with a password that is wrong, a port that nobody has, and options that are none.
    let db = site.db();
    let (port, name) = (db.server.port, &db.name);
    for rest in [
        format!("127.0.0.1:{port}/{name}?sslmode=disable"),
        format!("127.0.0.1:{}/{name}", nobody_listens().port()),
        format!("127.0.0.1:{port}/{name}?no_such_option=§option§"),
        format!("127.0.0.1:{port}/none"),
    ] {
        let url = format!("[queue]\ntype: NAVDBQueue\nurl: postgresql://with_password:§queue.url§@{rest}\n");
        let secrets = world.settle(&site, &url);
        for args in [
            &["check", "--probe"][..],
            &["check", "--probe", "--json"],
            &["queue", "stats", "-vv"],
            &["-f", "-vv"],
        ] {
            seen.run(&site, args);
        }
        seen.must_not_show(&secrets);
    }
    seen.must_not_show(&secrets);
}

/// A secret on the wrong side of a slip of the pen: its key misspelled, its `:` forgotten, its line indented, a word too much.
#[test]
fn no_slip_of_the_pen_shows_a_secret() {
    let world = World::new();
    let site = Site::embedded(MAIN, "");
    let secrets = world.settle(&site, "[queue]\ntype: NAVDBQueue\nurl: postgresql://u:§queue.url§@db/nav\n");
    let sound = site.read("smsd.conf");
    let env = world.env(&site);
    let lines: Vec<&str> = sound.lines().collect();
    let mut slips = 0;
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.contains(MARK)) {
        let (key, value) = line.split_once(": ").unwrap();
        for slip in [
            format!("x{line}"),
            format!("{key} {value}"),
            format!(" {line}"),
            format!("{line} {value}"),
            format!("{key}_file: {value}"),
            format!("{key}_env: {value}"),
            format!("{key}_credential: {value}"),
            format!("{line}\n{line}"),
            format!("{key}: {}", value.replace(MARK, "Mrk!7/")),
        ] {
            let mut changed = lines.clone();
            changed[at] = &slip;
            site.write("smsd.conf", &changed.join("\n"));
            let faults = match config::load(Some(&site.path("smsd.conf")), &env) {
                Ok(loaded) => config::Faults(loaded.warnings),
                Err(faults) => faults,
            };
            let json = serde_json::to_string(&faults).unwrap();
            let mut seen = Seen::default();
            seen.add(&slip, format!("{faults}\n{}\n{json}\n{faults:?}", faults.render(false)));
            seen.must_not_show(&secrets);
            slips += 1;
        }
    }
    assert!(slips > 150, "{slips}");
}

/// The secret of a place.
fn secret(place: &str) -> String {
    let hash = hex::encode(Sha256::digest(place));
    format!("{}{MARK}{}", &hash[..6], &hash[6..12])
}

/// Puts the secrets into a text, where their places stand between `§`.
fn fill(text: &str) -> String {
    let parts = text.split('§').enumerate();
    parts.map(|(n, part)| if n % 2 == 1 { secret(part) } else { part.to_owned() }).collect()
}

const MAIN: &str = "log_level: trace\ndelay: 0.2\ndelayfactor: 1\nretrylimit: 2\nsubmit_timeout: 5\n\
                    mailaddr: admin@example.org\nfromaddr: smsd@example.org\nmailwarnlevel: DEBUG";

/// What stands around the daemon, and what it is told.
struct World {
    gateway: Echo,
    mail: MailServer,
    http: SocketAddr,
}

/// What must not show, with the places in which it stands.
struct Secrets {
    /// The lines of private keys.
    keys: Vec<String>,
    config: Config,
}

impl World {
    fn new() -> World {
        let gateway = Echo::start();
        World { gateway, mail: MailServer::start(), http: nobody_listens() }
    }

    /// Writes the configuration with a secret in each place, which must be sound.
    fn settle(&self, site: &Site, queue: &str) -> Secrets {
        let (gateway, mail, http) = (self.gateway.addr, self.mail.addr, self.http);
        let (home, gone) = (site.dir.path().display(), nobody_listens());
        let mut keys = Vec::new();
        for name in ["server", "client"] {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            let key = made.signing_key.serialize_pem();
            keys.extend(
                key.lines().filter(|line| line.len() > 20 && !line.starts_with('-')).map(str::to_owned),
            );
            site.write(&format!("{name}.pem"), &made.cert.pem());
            site.write(&format!("{name}.key"), &key);
        }
        for (name, text) in [("program.sh", PROGRAM), ("stream.sh", STREAM), ("leaky.py", LEAKY)] {
            site.write(name, text);
            fs::set_permissions(site.path(name), fs::Permissions::from_mode(0o700)).unwrap();
        }
        let nav = site.read("nav.conf");
        let nav: String = nav
            .lines()
            .filter(|l| !l.starts_with("EMAIL") && !l.starts_with("SECRET"))
            .map(|l| format!("{l}\n"))
            .collect();
        site.write(
            "nav.conf",
            &fill(&format!(
                "{nav}EMAIL_HOST=127.0.0.1\nEMAIL_PORT={}\nEMAIL_HOST_USER=nav\n\
                 EMAIL_HOST_PASSWORD=§nav.conf-mail§\nSECRET_KEY=§nav.conf§\n",
                mail.port()
            )),
        );
        site.write("token", &fill("§from-a-file§\n"));
        site.configure(
            MAIN,
            &fill(&format!(
                "{queue}
[http]
listen: {home}/http.sock, {http}
token: §http.token§
tls_cert: server.pem
tls_key: server.key
[webhook.x]
to: +4790000009
text: {{{{ body }}}}
[dispatcher]
dispatcher1: get
dispatcher2: gone
dispatcher3: template
dispatcher4: basic
dispatcher5: query
dispatcher6: soap
dispatcher7: mail
dispatcher8: nav-mail
dispatcher9: program
dispatcher10: stream
dispatcher11: class
dispatcher12: phone
dispatcher13: last
[get]
type: HttpGetDispatcher
url: http://§get.user§:§get.password§@{gateway}/send?key=§get.key§&to=%(phone)s&text=%(sms)s
[gone]
type: HttpGetDispatcher
url: http://me:§gone.password§@{gone}/send?key=§gone.key§&to=%(phone)s&text=%(sms)s
[template]
type: HttpDispatcher
url: http://me:§template.url§@{gateway}/send?key=§template.query§
auth: bearer
token: §template.token§
var.secret: §template.var§
username: §template.username§
password: §template.password§
body: {{\"to\": {{{{ phone }}}}, \"text\": {{{{ text }}}}, \"s\": {{{{ var.secret }}}}, \"u\": {{{{ username }}}}, \"p\": {{{{ password }}}}}}
proxy: http://proxy:§template.proxy§@{gateway}
tls_cert: client.pem
tls_key: client.key
[basic]
type: HttpDispatcher
url: http://{gateway}/send
auth: basic
username: §basic.username§
password: §basic.password§
header.X-Key: {{{{ var.key }}}}
var.key_env: BASIC_KEY
body: to={{{{ phone }}}}&text={{{{ text }}}}
[query]
type: HttpDispatcher
url: http://{gateway}/send
auth: query api_key
token_file: token
body: <a><to>{{{{ phone }}}}</to><text>{{{{ text }}}}</text></a>
[soap]
type: BoostDispatcher
url: http://me:§soap.url§@{gateway}/soap?key=§soap.key§
username: me
password: §soap.password§
sender: smsd
[mail]
type: UninettMailDispatcher
mailaddr: sms@gateway.example
server: {mail}
tls: none
username: me
password: §mail.password§
[nav-mail]
type: UninettMailDispatcher
mailaddr: sms@gateway.example
[program]
type: ExecDispatcher
command: ./program.sh
env.API_KEY: §program.env§
[stream]
type: ExecDispatcher
mode: stream
command: ./stream.sh
env.API_KEY: §stream.env§
[class]
type: PythonDispatcher
path: .
module: leaky
class: Leaky
user: §class.user§
password: §class.password§
[phone]
type: GammuDispatcher
command: ./program.sh
[last]
type: DebugDispatcher
"
            )),
        );
        let loaded = config::load(Some(&site.path("smsd.conf")), &self.env(site));
        let loaded = loaded.unwrap_or_else(|faults| panic!("{faults}"));
        assert!(loaded.warnings.is_empty(), "{}", config::Faults(loaded.warnings));
        let secrets = Secrets { keys, config: loaded.config };
        let mut seen = Seen::default();
        seen.add("the configuration's Debug", format!("{:?} {:#?}", secrets.config, secrets.config));
        seen.must_not_show(&secrets);
        secrets.stand_everywhere(site);
        secrets
    }

    fn env(&self, site: &Site) -> Env {
        Env::empty(site.dir.path()).with("BASIC_KEY", secret("basic.key"))
    }
}

impl Secrets {
    /// In every place that the code knows stands a secret, and there is a dispatcher of every type.
    fn stand_everywhere(&self, site: &Site) {
        let conf = site.read("smsd.conf");
        for word in config::dispatcher_types() {
            assert!(conf.contains(&format!("type: {word}\n")), "no {word} is tested");
        }
        let mut section = "";
        let mut marked = BTreeSet::new();
        for line in conf.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                section = name;
            } else if let Some((key, value)) = line.split_once(": ")
                && (value.contains(MARK)
                    || value.ends_with(".key")
                    || ["_file", "_env"].iter().any(|form| key.ends_with(form)))
            {
                let bare = key.trim_end_matches("_file").trim_end_matches("_env");
                marked.insert((section.to_owned(), bare.to_ascii_lowercase()));
            }
        }
        let places = &self.config.secret_keys;
        assert!(places.len() > PLACES, "{places:?}");
        for (section, key) in places {
            // NAV's files; the embedded queue has no db.conf.
            if section.ends_with(".conf") {
                let text = site.read(section);
                let stands = |line: &str| line.starts_with(key.trim_end_matches('*')) && line.contains(MARK);
                let is_navs = site.db.is_some() || section != "db.conf";
                assert!(!is_navs || text.lines().any(stands), "{section}: no marker at {key}");
                continue;
            }
            // The queue's URL stands there where it is tried.
            if (section.as_str(), key.as_str()) == ("queue", "url") {
                continue;
            }
            let names = |marked: &str| {
                key.strip_suffix('*').map_or(marked == key, |prefix| marked.starts_with(prefix))
            };
            let stands = |(of, marked): &(String, String)| of == section && names(marked);
            // What one section of a type does without, another has; `*` alone would be anything.
            let anywhere = |(_, marked): &(String, String)| key != "*" && names(marked);
            assert!(
                marked.iter().any(stands) || (section != "http" && marked.iter().any(anywhere)),
                "[{section}] {key} may be a secret, and no marker stands there"
            );
        }
    }
}

impl Secrets {
    fn speaks_http(&self, name: &str) -> bool {
        use DispatcherKind::{Boost, Http, HttpGet};
        let kind = self.config.dispatchers.iter().find(|d| d.name == name).map(|d| &d.kind);
        matches!(kind, Some(Http(_) | HttpGet(_) | Boost(_)))
    }
}

/// Everything that was written, with where.
#[derive(Default)]
struct Seen(Vec<(String, Vec<u8>)>);

impl Seen {
    fn add(&mut self, place: &str, text: impl Into<Vec<u8>>) {
        self.0.push((place.to_owned(), text.into()));
    }

    fn run(&mut self, site: &Site, args: &[&str]) {
        let mut command = site.command(args);
        command.env("BASIC_KEY", secret("basic.key"));
        // What stays in the foreground is not waited for.
        let mut child = command
            .stdout(fs::File::create(site.path("out")).unwrap())
            .stderr(fs::File::create(site.path("err")).unwrap())
            .spawn()
            .unwrap();
        if args.contains(&"-f") {
            std::thread::sleep(Duration::from_secs(1));
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
            let _ = child.wait();
        } else {
            until_within(60, "the command ends", || child.try_wait().unwrap());
        }
        let said = format!("{}\n{}", site.read("out"), site.read("err"));
        self.add(&format!("{args:?}"), said);
    }

    /// All files of the site but those in which secrets are to stand.
    fn files(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let written_by_hand =
                ["conf", "key", "pem", "sh", "py"].iter().any(|end| name.ends_with(&format!(".{end}")));
            if path.is_dir() {
                self.files(&path);
            } else if path.is_file() && !written_by_hand && name != "token" {
                self.add(&path.display().to_string(), fs::read(&path).unwrap());
            }
        }
    }

    #[track_caller]
    fn must_not_show(&self, secrets: &Secrets) {
        let mut forms = vec![MARK.to_ascii_lowercase(), "mrk%217".to_owned(), hex::encode(MARK)];
        for pad in 0..3 {
            // Of the base64 of what holds the mark, the characters that depend on the mark alone.
            let encoded = BASE64_STANDARD.encode([&vec![b'x'; pad][..], MARK.as_bytes()].concat());
            let from = (pad * 8).div_ceil(6);
            forms.push(encoded[from..(pad + MARK.len()) * 8 / 6].to_owned());
        }
        forms.extend(secrets.keys.iter().cloned());
        for (place, text) in &self.0 {
            let lower = text.to_ascii_lowercase();
            for form in &forms {
                let bytes = form.as_bytes();
                let at = text.windows(bytes.len()).position(|w| w == bytes);
                let at = at.or_else(|| lower.windows(bytes.len()).position(|w| w == bytes));
                if let Some(at) = at {
                    let around = &text[at.saturating_sub(300)..(at + 100).min(text.len())];
                    panic!("{form:?} is shown by {place}: {}", String::from_utf8_lossy(around));
                }
            }
        }
    }
}

/// Runs the daemon through success, failure, faulty reloads and everything that can be asked of it.
fn live(world: &World, site: &Site, secrets: &Secrets) -> Seen {
    let mut seen = Seen::default();
    let start = |args: &[&str]| {
        let mut command = site.command(&[&["-f"], args].concat());
        command.env("BASIC_KEY", secret("basic.key"));
        site.spawn(command)
    };
    let daemon = start(&["-vv"]).up();
    let socket = site.path("http.sock");
    until("it listens", || UnixStream::connect(&socket).ok());
    for (n, severity) in (1..=6).zip([1, 2, 3, 4, 5, 5]) {
        let body = format!(r#"{{"to": "+479000000{n}", "text": "alert {n}", "severity": {severity}}}"#);
        if site.db.is_some() {
            site.insert(&format!("+479000000{n}"), &format!("alert {n}"), Some(severity));
        } else {
            let answer = ask(&socket, "POST", "/api/v1/alerts", &secret("http.token"), &body);
            assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
        }
    }
    // Its way leads past all that fail to the last.
    until_within(60, "some are sent by the last", || (daemon.said("accepted") > 1).then_some(()));

    for method in ["GET", "POST"] {
        for path in routes() {
            for (path, name) in [(path.as_str(), "get"), (path.as_str(), "template"), (path.as_str(), "last")]
            {
                let path = path.replace("{id}", "1").replace("{act}", "accept").replace("{name}", name);
                for token in [&secret("http.token"), &secret("a wrong token")] {
                    seen.add(
                        &format!("{method} {path}"),
                        ask(&socket, method, &path, token, r#"{"to":"+4790000001"}"#),
                    );
                }
                if !path.contains(name) {
                    break;
                }
            }
        }
    }
    let form = format!("token={}", secret("http.token").replace('!', "%21"));
    let entered = post_form(&socket, "/login", &form);
    let cookie = entered.lines().find_map(|l| l.strip_prefix("set-cookie: ")).expect("a session").to_owned();
    let cookie = cookie.split(';').next().unwrap();
    for path in ["/", "/?wall", "/alerts", "/alerts/1", "/alerts/2", "/alerts/1/requeue", "/send", "/live"] {
        let page = talk(
            &socket,
            &format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
            ),
        );
        assert!(page.starts_with("HTTP/1.1 200") || path.contains("requeue"), "{path}: {page}");
        seen.add(path, page);
    }
    seen.add("/login", entered.replace(cookie, ""));
    seen.add("/login", post_form(&socket, "/login", &form.replace("%21", "%21x")));
    seen.add("/login", post_form(&socket, "/login", &format!("{form}&{form}")));
    // No TLS at the address that wants it.
    if let Ok(mut stream) = TcpStream::connect(world.http) {
        let _ = stream.write_all(format!("GET /{MARK} HTTP/1.1\r\n\r\n").as_bytes());
    }

    let sound = site.read("smsd.conf");
    for faulty in [
        sound.replace("password: ", "password "),
        sound.replace("url: ", "urll: "),
        sound.replace("password: ", "passwort: "),
        sound.replace("%(sms)s", "%(smss)s"),
        sound.replace(MARK, "Mrk!7/"),
        sound.replace("type: HttpDispatcher", "type: HttpDispatcher\npreset: none"),
    ] {
        site.write("smsd.conf", &faulty);
        let before = daemon.said("the old one stays");
        daemon.signal(Signal::SIGHUP);
        until("it is refused", || (daemon.said("the old one stays") > before).then_some(()));
        seen.run(site, &["check"]);
    }
    site.write("smsd.conf", &sound);
    for args in COMMANDS {
        seen.run(site, args);
    }
    for name in secrets.config.dispatchers.iter().map(|d| d.name.as_str()) {
        // Another of its secrets comes back each time.
        for _ in 0..if secrets.speaks_http(name) { 6 } else { 1 } {
            seen.run(site, &["dispatcher", "test", name, "--to", "+4790000005", "--json", "-vv"]);
        }
    }
    let thrown_back = world.gateway.thrown_back.lock().unwrap().len();
    assert!(thrown_back >= 14, "only {thrown_back} secrets have come back");
    let said: Vec<u8> = seen.0.iter().flat_map(|(_, text)| text.clone()).collect();
    let said = String::from_utf8_lossy(&said);
    for word in ["422", "<secret>", "535", "leaky", "smsd_attempts_total", "text/html", "openapi"] {
        assert!(said.contains(word), "the test has seen what there was to see: no {word}");
    }
    daemon.stop();

    // Once more as JSON, in the background, into a file.
    site.write("smsd.conf", &sound.replace("log_level: trace", "log_level: trace\nlog_format: json"));
    let daemon = start(&[]).up();
    until_within(60, "it is up", || (daemon.said("started") > 0).then_some(()));
    daemon.stop();
    site.write("smsd.conf", &sound);
    seen.files(site.dir.path());
    seen.add("mails", world.mail.mails());
    seen
}

const COMMANDS: &[&[&str]] = &[
    &["check", "-v"],
    &["check", "--probe", "-vv"],
    &["check", "--probe", "--json"],
    &["queue", "list", "--json"],
    &["queue", "list", "-vv"],
    &["queue", "show", "1"],
    &["queue", "show", "1", "--json"],
    &["queue", "show", "5"],
    &["queue", "show", "6", "--json"],
    &["queue", "stats", "--json"],
    &["queue", "audit", "--json"],
    &["status"],
    &["status", "--json"],
    &["dispatcher", "list"],
    &["dispatcher", "list", "--json"],
    &["dispatcher", "probe"],
    &["dispatcher", "probe", "--json"],
    &["db", "status"],
    &["db", "status", "--json"],
    &["db", "sql"],
    &["-t", "+4790000002"],
    &["-vv", "-t", "+4790000005"],
];

/// All that the interface can be asked, as the code has it.
fn routes() -> BTreeSet<String> {
    fn gather(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                gather(&path, found);
            } else if let Ok(code) = fs::read_to_string(&path) {
                found.extend(
                    code.split(".route(")
                        .skip(1)
                        .filter_map(|rest| rest.split('"').nth(1))
                        .map(str::to_owned),
                );
            }
        }
    }
    let mut found = BTreeSet::new();
    gather(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/web"), &mut found);
    assert!(found.len() > 20, "{found:?}");
    found
}

fn ask(socket: &Path, method: &str, path: &str, token: &str, body: &str) -> String {
    let length = body.len();
    talk(
        socket,
        &format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ),
    )
}

fn post_form(socket: &Path, path: &str, form: &str) -> String {
    let length = form.len();
    talk(
        socket,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}"
        ),
    )
}

/// What comes back until the end, or until it has been silent for a while.
fn talk(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(if request.contains("/test") { 8_000 } else { 700 })))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let (mut all, mut some) = (Vec::new(), [0; 65_536]);
    while let Ok(n @ 1..) = stream.read(&mut some) {
        all.extend(&some[..n]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// An HTTP gateway that answers with one of the secrets that it was sent, as it came and decoded: of a longer answer
/// only the beginning is quoted.
struct Echo {
    addr: SocketAddr,
    thrown_back: Arc<Mutex<BTreeSet<String>>>,
}

impl Echo {
    fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, thrown_back) = (listener.local_addr().unwrap(), Arc::default());
        let kept = Arc::clone(&thrown_back);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || Echo::serve(stream, &kept));
            }
        });
        Echo { addr, thrown_back }
    }

    fn serve(mut stream: TcpStream, kept: &Mutex<BTreeSet<String>>) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let (mut request, mut length) = (String::new(), 0);
        while reader.read_line(&mut request).ok()? > 2 {
            let line = request.trim_end().rsplit('\n').next().unwrap_or_default().to_ascii_lowercase();
            length = line.strip_prefix("content-length: ").and_then(|n| n.parse().ok()).unwrap_or(length);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        request.push_str(&String::from_utf8_lossy(&body));
        let breaks = |c: char| c.is_whitespace() || "&?\"<>=".contains(c);
        let mut secrets: Vec<(String, String)> = Vec::new();
        for piece in request.split(breaks).chain(request.split_whitespace()) {
            let plain = BASE64_STANDARD.decode(piece).ok().and_then(|plain| String::from_utf8(plain).ok());
            let plain = plain
                .unwrap_or_else(|| percent_encoding::percent_decode_str(piece).decode_utf8_lossy().into());
            if plain.contains(MARK) && piece.len() < 90 {
                secrets.push((piece.to_owned(), plain));
            }
        }
        let mut kept = kept.lock().unwrap();
        let new = secrets.iter().find(|(piece, _)| !kept.contains(piece)).or(secrets.first());
        let (piece, plain) = new.cloned().unwrap_or_default();
        kept.insert(piece.clone());
        drop(kept);
        let status = match &request {
            r if r.contains("4790000005") => 422,
            r if r.contains("4790000006") => 200,
            _ => 500,
        };
        let words = format!("{piece} {plain}");
        let length = words.len();
        let answer =
            format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{words}");
        stream.write_all(answer.as_bytes()).ok()
    }
}

/// Refuses every login with the login, and keeps what it is given without one.
struct MailServer {
    addr: SocketAddr,
    mails: Arc<Mutex<Vec<u8>>>,
}

impl MailServer {
    fn start() -> MailServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (addr, mails) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&mails);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || MailServer::serve(stream, &kept));
            }
        });
        MailServer { addr, mails }
    }

    fn serve(mut stream: TcpStream, kept: &Mutex<Vec<u8>>) -> Option<()> {
        let mut lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok);
        stream.write_all(b"220 mail\r\n").ok()?;
        while let Some(line) = lines.next() {
            let word = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            let reply = match word.as_str() {
                "EHLO" => "250-mail\r\n250 AUTH PLAIN LOGIN".to_owned(),
                "AUTH" => {
                    let given = line.rsplit(' ').next().unwrap_or_default();
                    let plain = BASE64_STANDARD.decode(given).unwrap_or_default();
                    let plain = String::from_utf8_lossy(&plain).replace('\0', " ");
                    format!("535 5.7.8 {given} is {plain}, which is wrong")
                }
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").ok()?;
                    for line in lines.by_ref().take_while(|line| line != ".") {
                        kept.lock().unwrap().extend(format!("{line}\n").bytes());
                    }
                    "250 2.0.0 queued".to_owned()
                }
                "QUIT" => return stream.write_all(b"221 bye\r\n").ok(),
                _ => "250 2.0.0 fine".to_owned(),
            };
            stream.write_all(format!("{reply}\r\n").as_bytes()).ok()?;
        }
        Some(())
    }

    fn mails(&self) -> Vec<u8> {
        self.mails.lock().unwrap().clone()
    }
}

/// Says its secret in every way that it has, and fails.
const PROGRAM: &str = "#!/bin/sh
cat >/dev/null
echo \"{\\\"ok\\\":false,\\\"class\\\":\\\"ERR\\\",\\\"code\\\":\\\"$API_KEY\\\",\\\"detail\\\":\\\"my key is $API_KEY\\\"}\"
echo \"my key is $API_KEY\" >&2
exit 74
";

const STREAM: &str = "#!/bin/sh
echo '{\"smsd\":1}'
while IFS= read -r line; do
    id=$(printf '%s' \"$line\" | sed 's/.*\"\\(id\\|probe\\)\":\"\\([^\"]*\\)\".*/\\2/')
    echo \"my key is $API_KEY\" >&2
    echo \"$API_KEY\"
    echo \"{\\\"id\\\":\\\"$id\\\",\\\"class\\\":\\\"DTMP\\\",\\\"code\\\":\\\"$API_KEY\\\",\\\"detail\\\":\\\"my key is $API_KEY\\\"}\"
done
";

const LEAKY: &str = "import sys
from nav.smsd.dispatcher import Dispatcher, DispatcherError
class Leaky(Dispatcher):
    def __init__(self, config):
        Dispatcher.__init__(self)
        self.config = config
    def sendsms(self, phone, msgs):
        print('leaky says', self.config)
        print('leaky says', self.config, file=sys.stderr)
        self.logger.error('leaky says %s', self.config)
        raise DispatcherError('leaky says %s' % self.config)
";

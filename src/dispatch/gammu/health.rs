//! What `gammu identify`, `networkinfo` and `monitor` say of a phone.

use super::codes::Code;
use crate::dispatch::{Class, Health, SubmitError};

/// Bytes of a name that are shown.
const NAME_MAX: usize = 60;

/// What a phone said of itself and its network.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Maker and model.
    phone: Option<String>,
    /// The state of the network, in gammu's words.
    state: Option<String>,
    /// Is it registered for data? Then a text can go out that way, whatever `state` says.
    has_data: bool,
    /// The network's name.
    network: Option<String>,
}

/// ERR_UNKNOWNRESPONSE, ERR_UNKNOWNFRAME, ERR_NOTSUPPORTED, ERR_EMPTY, ERR_NOTIMPLEMENTED, ERR_UNKNOWN: there are phones
/// that send, and can not say where they are registered, or not so that gammu understands it. Such a one must not stay
/// out of rotation for good once it has failed.
const CAN_NOT_SAY: [Code; 6] =
    [Code::Gammu(16), Code::Gammu(17), Code::Gammu(21), Code::Gammu(22), Code::Gammu(25), Code::Gammu(27)];

/// Registered, in gammu's words, and how that is told.
const REGISTERED: [(&str, &str); 2] = [("home network", "registered"), ("roaming network", "roaming")];

impl Found {
    /// Reads standard output.
    pub(super) fn read(output: &str) -> Found {
        let named = |name: &str| value(output, name).map(str::to_string);
        let maker = named("Manufacturer");
        // `E1750 (E1750)`: gammu's name of the model, and the phone's own.
        let model = value(output, "Model").map(|model| {
            let (gammus, own) = model.split_once(" (").unwrap_or((model, model));
            if gammus == "unknown" { own.trim_end_matches(')') } else { gammus }.to_string()
        });
        let phone = [maker, model].into_iter().flatten().collect::<Vec<_>>().join(" ");
        // `242 01 (Telenor, Norway), LAC …`, and perhaps the phone's own word for it.
        let by_number = value(output, "Network").or(value(output, "Packet network")).and_then(|words| {
            let name = words.split_once(" (")?.1;
            Some(name.split([',', ')']).next()?.to_string()).filter(|name| name != "unknown")
        });
        let by_phone = named("Name in phone").map(|name| name.trim_matches('"').to_string());
        Found {
            phone: short(Some(phone)),
            state: short(named("Network state")),
            has_data: how(value(output, "Packet network state")).is_some(),
            network: short(by_phone).or(short(by_number)),
        }
    }

    /// Can it send? `ended` is how gammu did.
    pub(super) fn judge(&self, ended: Result<(), (Option<Code>, SubmitError)>) -> Result<(), SubmitError> {
        match ended {
            Err((Some(code), _)) if self.phone.is_some() && CAN_NOT_SAY.contains(&code) => Ok(()),
            Err((_, error)) => Err(error),
            Ok(()) => match (&self.phone, self.state.as_deref()) {
                (None, _) => {
                    Err(SubmitError::new(Class::Unavailable, "gammu did not say which phone it found"))
                }
                (Some(_), None | Some("unknown")) => Ok(()),
                (Some(_), state) if self.has_data || how(state).is_some() => Ok(()),
                (Some(phone), Some(state)) => Err(SubmitError::new(
                    Class::Unavailable,
                    format!("{phone} is not registered with a network: {state}"),
                )),
            },
        }
    }

    /// The words for people.
    pub(super) fn health(&self, signal: Option<u8>) -> Health {
        let mut words = self.phone.clone().unwrap_or_default();
        if let Some(signal) = signal {
            words += &format!(", signal {signal} %");
        }
        let by_data = self.has_data.then_some("registered");
        if let Some(how) = how(self.state.as_deref()).or(by_data) {
            words += &match &self.network {
                Some(network) => format!(", {how} with {network}"),
                None => format!(", {how}"),
            };
        }
        Health(words)
    }
}

/// How it is told that a phone is registered; `None` if it is not.
fn how(state: Option<&str>) -> Option<&'static str> {
    REGISTERED.iter().find(|(known, _)| Some(*known) == state).map(|(_, how)| *how)
}

/// `Network level        : 42 percent` of `gammu monitor`.
pub(super) fn signal(output: &str) -> Option<u8> {
    value(output, "Network level")?.strip_suffix(" percent")?.parse().ok().filter(|percent| *percent <= 100)
}

/// The value of the first line `NAME   : VALUE`.
fn value<'a>(output: &'a str, name: &str) -> Option<&'a str> {
    output.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim())
    })
}

/// Foreign words as people may see them.
fn short(words: Option<String>) -> Option<String> {
    let mut words = words?;
    crate::telemetry::clip(&mut words, NAME_MAX);
    Some(words).filter(|words| !words.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const E1750: &str = "Executing batch \"standard input\" - command 1: identify\n\
        Device               : /dev/ttyUSB0\nManufacturer         : Huawei\nModel                : unknown (E1750)\n\
        Network state        : home network\nNetwork              : 242 01 (Telenor, Norway), LAC 0A, CID 0B\n\
        Packet network state : not logged into network\n";

    #[test]
    fn a_phone_in_its_network_is_told_in_words() {
        for (from, to, signal, want) in [
            ("", "", Some(80), "Huawei E1750, signal 80 %, registered with Telenor"),
            ("home", "roaming", None, "Huawei E1750, roaming with Telenor"),
            (
                "Packet",
                "Name in phone : \"N Telenor\"\nPacket",
                None,
                "Huawei E1750, registered with N Telenor",
            ),
            ("242 01 (Telenor, Norway)", "999 98 (unknown, unknown)", None, "Huawei E1750, registered"),
            ("242 01 (Telenor, Norway)", "what", None, "Huawei E1750, registered"),
            ("home network", "unknown", Some(0), "Huawei E1750, signal 0 %"),
            ("unknown (E1750)", "E1750 (E1750)\u{1b}[31m", None, "Huawei E1750, registered with Telenor"),
            ("Huawei", "Hua\u{1b}wei", None, "Hua\\u{1b}wei E1750, registered with Telenor"),
        ] {
            let found = Found::read(&E1750.replacen(from, to, 1));
            assert_eq!(found.judge(Ok(())), Ok(()), "{want}");
            assert_eq!(found.health(signal).0, want);
        }
        let endless = Found::read(&format!("Manufacturer : {}\n", "x".repeat(100_000)));
        assert!(endless.health(None).0.len() <= NAME_MAX);
    }

    #[test]
    fn one_without_a_network_is_down() {
        for state in ["not logged into network", "requesting network", "registration to network denied", "?"]
        {
            let error = Found::read(&E1750.replacen("home network", state, 1)).judge(Ok(())).unwrap_err();
            assert_eq!(error.class, Class::Unavailable);
            assert_eq!(error.detail, format!("Huawei E1750 is not registered with a network: {state}"));
        }
        let data = E1750.replace("home", "requesting").replace("not logged into network", "roaming network");
        assert_eq!(Found::read(&data).judge(Ok(())), Ok(()));
        assert_eq!(Found::read(&data).health(None).0, "Huawei E1750, registered with Telenor");
        assert_eq!(Found::read("garbage").judge(Ok(())).unwrap_err().class, Class::Unavailable);
    }

    #[test]
    fn a_phone_that_can_not_say_where_it_is_may_still_send() {
        let failed = |code| Err((Some(Code::Gammu(code)), SubmitError::new(Class::Misconfigured, "words")));
        let (phone, nobody) = (Found::read("Model : x\n"), Found::read(""));
        for code in [16, 17, 21, 22, 25, 27] {
            assert_eq!(phone.judge(failed(code)), Ok(()), "{code}");
        }
        // A timeout, no SIM, no network.
        for code in [14, 49, 73] {
            assert_eq!(phone.judge(failed(code)).unwrap_err().class, Class::Misconfigured, "{code}");
        }
        assert_eq!(nobody.judge(failed(21)).unwrap_err().class, Class::Misconfigured);
    }

    #[test]
    fn the_signal_is_a_percentage() {
        assert_eq!(signal("Signal strength      : -57 dBm\nNetwork level        : 42 percent\n"), Some(42));
        for none in ["", "Network level : 101 percent", "Network level : -1 percent", "Network level : 4 dBm"]
        {
            assert_eq!(signal(none), None, "{none}");
        }
    }
}

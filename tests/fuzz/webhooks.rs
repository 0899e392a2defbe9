//! What programs post, read with templates that ask for whatever there is: no panic, bounded texts, recipients that are numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use smsd::alert::Phone;
use smsd::intake::alertmanager::ALERTMANAGER;
use smsd::intake::grafana::GRAFANA;
use smsd::intake::hook::{self, Posted};
use smsd::intake::notification::{Route, Settings};
use smsd::intake::template::{MADE_MAX, Template};
use smsd::intake::{ALERTS_MAX, Handover};

/// The input: a template, then, behind an empty line, the body.
pub(crate) fn run(data: &[u8]) {
    let at = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(0);
    let (source, body) = data.split_at(at);
    let template = Template::parse(&String::from_utf8_lossy(source)).ok();
    let phone = || Phone::parse("+4790000001").expect("a number");

    let mut settings = Settings::new(Duration::from_secs(240));
    settings.to = vec![phone()];
    settings.routes = vec![Route { label: "team".into(), value: "db".into(), to: vec![phone()] }];
    for text in [None, template.clone()] {
        settings.text = text;
        for sender in [ALERTMANAGER, GRAFANA] {
            let first = sender.read(body, &settings);
            assert_eq!(first, sender.read(body, &settings), "the same body has the same key");
            first.iter().for_each(check);
        }
    }
    let Some(template) = template else { return };
    let constant = Template::parse("112").expect("a template");
    for (to, text) in [(constant.clone(), template.clone()), (template.clone(), constant)] {
        let some = Some(template.clone());
        let settings = hook::Settings {
            to,
            text,
            severity: some.clone(),
            key: some,
            when: None,
            remember: Duration::ZERO,
            account: None,
        };
        for kind in ["application/json", "application/x-www-form-urlencoded", "text/plain"] {
            let posted = Posted { content_type: Some(kind), query: "a=b", body };
            hook::read("x", posted, &settings, &BTreeMap::new()).iter().for_each(check);
        }
    }
}

fn check(handover: &Handover) {
    for submission in &handover.submissions {
        assert!((1..=ALERTS_MAX).contains(&submission.alerts.len()));
        assert!(submission.key.name.len() <= 255);
        for alert in &submission.alerts {
            assert!(!alert.text.is_empty() && alert.text.len() <= MADE_MAX, "{} bytes", alert.text.len());
            assert!(Phone::parse(alert.to.as_str()).is_ok());
            assert!(alert.severity.0.is_none_or(|severity| (1..=5).contains(&severity)));
        }
    }
}

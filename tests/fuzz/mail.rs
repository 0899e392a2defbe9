//! What comes over an SMTP connection, however it is cut, and what a mail holds.

use std::collections::BTreeMap;

use smsd::config::{SmtpConfig, TextOf};
use smsd::intake::TEXT_MAX;
use smsd::intake::smtp::content;
use smsd::intake::smtp::session::{Next, Rules, Session};
use smsd::intake::smtp::wire::{Data, Line, Mail};

/// The whole input as a connection, and as a mail.
pub(crate) fn run(data: &[u8]) {
    assert_eq!(talk(data, usize::MAX), talk(data, 1), "it depends on how the octets are cut");
    check(data);
}

/// All replies, in pieces of at most `piece` octets.
fn talk(data: &[u8], piece: usize) -> Vec<String> {
    let config = SmtpConfig::new(([127, 0, 0, 1], 25).into());
    let groups = BTreeMap::new();
    let (mut session, mut line, mut mail) = (Session::default(), Line::default(), None::<Data>);
    let mut replies = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let now = rest.get(..piece).unwrap_or(rest);
        let used = if let Some(taking) = &mut mail {
            let (used, ended) = taking.take(now);
            if let Some(ended) = ended {
                if let Mail::Well(mail) = &ended {
                    assert!(mail.len() <= config.max_size);
                }
                replies.push(format!("{:?} {ended:?}", session.envelope()));
                mail = None;
            }
            used
        } else {
            let (used, ended) = line.take(now);
            if let Some(ended) = ended {
                let answer = session.line(&ended, Rules { config: &config, groups: &groups }, || Ok(()));
                assert!(answer.reply.split("\r\n").all(|l| l.bytes().all(|b| matches!(b, b' '..=b'~'))));
                replies.push(answer.reply.into_owned());
                match answer.next {
                    Next::Command => {}
                    Next::Data => mail = Some(Data::new(config.max_size)),
                    Next::Close => return replies,
                }
            }
            used
        };
        rest = rest.get(used..).unwrap_or_default();
    }
    replies
}

fn check(mail: &[u8]) {
    let content = content::read(mail);
    assert!(!content.subject.contains(['\n', '\r']), "{content:?}");
    assert!(content.body.len() <= TEXT_MAX);
    for of in [TextOf::Body, TextOf::Subject, TextOf::Both] {
        assert!(content.text(of).len() <= content.subject.len() + content.body.len() + 2);
    }
}

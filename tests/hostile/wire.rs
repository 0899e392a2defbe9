//! Heads that two servers may read in two ways.

use super::place::{Place, bearer};

#[test]
fn what_can_be_read_in_two_ways_is_not_read() {
    let place = Place::new("", "");
    let daemon = place.start();
    let (host, by) = (format!("Host: {}\r\n", place.address), bearer("icinga"));
    let body = r#"{"to":"+4790000001","text":"smuggled"}"#;
    let kind = "Content-Type: application/json\r\n";
    let length = format!("Content-Length: {}\r\n", body.len());
    let chunks = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let post = "POST /api/v1/alerts HTTP/1.1\r\n";
    // 0: the connection ends without a word.
    for (what, request, status) in [
        ("a lone LF in a line", format!("{post}{host}{by}{kind}X: a\nY: b\r\n{length}\r\n{body}"), 0),
        ("a lone LF at the end", format!("{post}{host}{by}{kind}{length}\n{body}"), 0),
        ("a lone LF first", format!("POST /api/v1/alerts HTTP/1.1\n{host}{by}{kind}{length}\r\n{body}"), 0),
        ("no host", format!("{post}{by}{kind}{length}\r\n{body}"), 400),
        ("two hosts", format!("{post}{host}Host: other\r\n{by}{kind}{length}\r\n{body}"), 400),
        ("two hosts alike", format!("{post}{host}{host}{by}{kind}{length}\r\n{body}"), 400),
        ("gzip", format!("{post}{host}{by}{kind}Transfer-Encoding: gzip, chunked\r\n\r\n{chunks}"), 501),
        (
            "two codings",
            format!(
                "{post}{host}{by}{kind}Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
            ),
            501,
        ),
    ] {
        // What follows on the same connection is nobody's request.
        let answer = place.raw(format!("{request}GET /healthz HTTP/1.1\r\n{host}\r\n"));
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert!(!answer.body.contains("HTTP/1.1"), "{what}: a second answer: {answer:?}");
    }
    let good = format!(
        "{post}{host}{by}{kind}Connection: close\r\n{length}\r\n{}",
        body.replace("smuggled", "straight")
    );
    assert_eq!(place.raw(good).status, 202, "and the same without a fault is taken");
    let stats = place.site.json(&["queue", "list"]);
    assert_eq!(stats.as_array().unwrap().len(), 1, "{stats}");
    daemon.stop();
}

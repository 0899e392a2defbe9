//! Each preset against a gateway that answers as its documentation says.

use std::time::Duration;

use smsd::demo::gateway::Behaviour;
use smsd::dispatch::http::presets;
use smsd::dispatch::{Class, Receipt, SubmitError};

use crate::contract::{sms, submit};
use crate::http::{built, load};
use crate::http_get::gateway;

/// A preset as an operator uses it, the request that must come of it, and what its answers mean.
struct Known {
    name: &'static str,
    keys: &'static str,
    /// The first line, and pieces of the head.
    request: &'static str,
    heads: &'static [&'static str],
    body: &'static str,
    answers: &'static [(u16, &'static str, Want)],
}

/// A reference, or a class.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Want {
    Sent(&'static str),
    Rejected,
    Throttled,
    Misconfigured,
    Failed,
    Unavailable,
}

use Want::{Failed, Misconfigured, Rejected, Sent, Throttled, Unavailable};

const LOGIN: &str = "username: me\npassword: se/cret\n";
const BASIC: &str = "authorization: Basic bWU6c2UvY3JldA==";
const JSON: &str = "content-type: application/json";
const FORM: &str = "content-type: application/x-www-form-urlencoded";

const KNOWN: [Known; 18] = [
    Known {
        name: "46elks",
        keys: "sender: NOC\n{login}",
        request: "POST /a1/sms",
        heads: &[BASIC, FORM],
        body: "from=NOC&to=%2B4799999999&message=p%C3%A5%20%22%2642",
        answers: &[
            (
                200,
                r#"{"status":"created","direction":"outgoing","from":"NOC","id":"s70df59406a1b4643b96f3f91e0bfb7b0"}"#,
                Sent("s70df59406a1b4643b96f3f91e0bfb7b0"),
            ),
            (401, "API access requires Basic HTTP authentication", Misconfigured),
            (400, "Invalid to number", Rejected),
            (403, "Not enough credits", Misconfigured),
            (429, "", Throttled),
            (500, "", Failed),
        ],
    },
    Known {
        name: "android-sms-gateway",
        keys: "base_url: {gw}\n{login}",
        request: "POST /message",
        heads: &[BASIC, JSON],
        body: r#"{"textMessage": {"text": "på \"&42"}, "phoneNumbers": ["+4799999999"]}"#,
        answers: &[
            (202, r#"{"id":"PyDmBQZZXYmyxMwED8Fzy","state":"Pending"}"#, Sent("PyDmBQZZXYmyxMwED8Fzy")),
            (401, "", Misconfigured),
            (400, r#"{"message":"invalid phone number"}"#, Rejected),
            (429, "", Throttled),
            (500, r#"{"message":"?"}"#, Failed),
            (200, "<html>", Failed),
        ],
    },
    Known {
        name: "android-sms-gateway-cloud",
        keys: "{login}",
        request: "POST /3rdparty/v1/messages",
        heads: &[BASIC, JSON],
        body: r#"{"id": "KEY", "textMessage": {"text": "på \"&42"}, "phoneNumbers": ["+4799999999"]}"#,
        answers: &[
            (202, r#"{"id":"abc","state":"Pending"}"#, Sent("abc")),
            (409, r#"{"message":"Message with such ID already exists"}"#, Sent("")),
            (401, "Unauthorized", Misconfigured),
            (400, r#"{"message":"invalid phone number"}"#, Rejected),
            (429, "", Throttled),
            (500, "", Failed),
        ],
    },
    Known {
        name: "clickatell",
        keys: "token: k1==\n",
        request: "POST /v1/message",
        heads: &["authorization: k1==", JSON],
        body: "{\"messages\": [{\"channel\": \"sms\", \"to\": \"4799999999\", \"content\": \"på \\\"&42\"\n}]}",
        answers: &[
            (
                202,
                r#"{"messages":[{"apiMessageId":"02ca87d5","accepted":true,"to":"2799900001","error":null}],"error":null}"#,
                Sent("02ca87d5"),
            ),
            (
                207,
                r#"{"messages":[{"apiMessageId":null,"accepted":false,"to":"1","error":{"code":25,"description":"Invalid recipient address"}}],"error":null}"#,
                Rejected,
            ),
            (
                401,
                r#"{"messages":[],"error":{"code":1,"description":"Invalid or missing integration API key"}}"#,
                Misconfigured,
            ),
            (
                400,
                r#"{"messages":[],"error":{"code":20,"description":"Insufficient account balance"}}"#,
                Misconfigured,
            ),
            (429, r#"{"messages":[],"error":{"code":43}}"#, Throttled),
            (500, r#"{"messages":[],"error":{"code":18}}"#, Failed),
            (202, r#"{"messages":[{"accepted":false,"error":{"code":19}}]}"#, Failed),
        ],
    },
    Known {
        name: "gammu-rest",
        keys: "base_url: {gw}\n{login}",
        request: "POST /sms",
        heads: &[BASIC, JSON],
        body: r#"{"number": "+4799999999", "text": "på \"&42"}"#,
        answers: &[
            (200, r#"{"status": 200, "message": "[255]"}"#, Sent("255")),
            (401, "Unauthorized Access", Misconfigured),
            (400, "", Rejected),
            (429, "", Throttled),
            (500, r#"{"message": "Internal Server Error"}"#, Failed),
        ],
    },
    Known {
        name: "gatewayapi",
        keys: "sender: NOC\ntoken: t1",
        request: "POST /rest/mtsms",
        heads: &["authorization: Token t1", JSON],
        body: "{\"message\": \"på \\\"&42\", \"recipients\": [{\"msisdn\": \"4799999999\"}]\n, \"sender\": \"NOC\"\n}",
        answers: &[
            (
                200,
                r#"{"ids":[421332671],"usage":{"countries":{"NO":1},"currency":"DKK","total_cost":0.12}}"#,
                Sent("421332671"),
            ),
            (401, r#"{"code":"0x0106","message":"Unauthorized"}"#, Misconfigured),
            (403, r#"{"message":"Insufficient credit"}"#, Misconfigured),
            (422, r#"{"message":"Invalid MSISDN"}"#, Rejected),
            (429, "", Throttled),
            (500, "", Failed),
        ],
    },
    Known {
        name: "jasmin",
        keys: "base_url: {gw}\n{login}",
        request: "GET /send?username=me&password=se%2Fcret&to=4799999999&coding=8&hex-content=007000e500200022002600340032 HTTP",
        heads: &[],
        body: "",
        answers: &[
            (
                200,
                r#"Success "07033084-5cfd-4812-90a4-e4d24ffb6e3d""#,
                Sent("07033084-5cfd-4812-90a4-e4d24ffb6e3d"),
            ),
            (403, r#"Error "Authentication failure for username:me""#, Misconfigured),
            (400, r#"Error "Argument to has an invalid value: x.""#, Rejected),
            (412, r#"Error "No route found""#, Rejected),
            (429, "", Throttled),
            (500, r#"Error "Cannot send submit_sm, check SMPPClientManagerPB log file for details""#, Failed),
        ],
    },
    Known {
        name: "kannel",
        keys: "base_url: {gw}\nsender: 12345\n{login}",
        request: "GET /cgi-bin/sendsms?username=me&password=se%2Fcret&to=%2B4799999999&from=12345&charset=UTF-8&text=p%C3%A5%20%22%2642",
        heads: &[],
        body: "",
        answers: &[
            (202, "0: Accepted for delivery", Sent("")),
            (202, "3: Queued for later delivery", Sent("")),
            (403, "Authorization failed for sendsms", Misconfigured),
            (403, "Not routable. Do not try again.", Rejected),
            (400, "Garbage 'to' field, rejected.", Rejected),
            (503, "Temporal failure, try again later.", Unavailable),
            (429, "", Throttled),
            (202, "?", Failed),
        ],
    },
    Known {
        name: "linkmobility",
        keys: "sender: NOC\nvar.partner: 1234\n{login}",
        request: "POST /sms/send",
        heads: &[BASIC, JSON],
        body: "{\"source\": \"NOC\", \"destination\": \"+4799999999\", \"userData\": \"på \\\"&42\",\n\"platformId\": \"COMMON_API\",\n\"platformPartnerId\": \"1234\", \"useDeliveryReport\": false}",
        answers: &[
            (
                200,
                r#"{"messageId":"Dcshuhod0PMAAAFQ+/PbnR3x","resultCode":1005,"description":"Queued"}"#,
                Sent("Dcshuhod0PMAAAFQ+/PbnR3x"),
            ),
            (401, "", Misconfigured),
            (403, r#"{"resultCode":106101,"description":"Access denied"}"#, Misconfigured),
            (400, r#"{"description":"Invalid destination"}"#, Rejected),
            (429, "", Throttled),
            (500, "", Failed),
            (200, r#"{"resultCode":1006}"#, Failed),
        ],
    },
    Known {
        name: "messagebird",
        keys: "sender: NOC\ntoken: live_1",
        request: "POST /messages",
        heads: &["authorization: AccessKey live_1", "accept: application/json", JSON],
        body: r#"{"originator": "NOC", "recipients": ["4799999999"], "datacoding": "auto", "body": "på \"&42"}"#,
        answers: &[
            (
                201,
                r#"{"id":"e8077d803532c0b5937c639b60216938","recipients":{"totalSentCount":1}}"#,
                Sent("e8077d803532c0b5937c639b60216938"),
            ),
            (
                401,
                r#"{"errors":[{"code":2,"description":"Request not allowed (incorrect access_key)","parameter":"access_key"}]}"#,
                Misconfigured,
            ),
            (
                422,
                r#"{"errors":[{"code":10,"description":"no (correct) recipients found","parameter":"recipients"}]}"#,
                Rejected,
            ),
            (
                422,
                r#"{"errors":[{"code":9,"description":"originator is required","parameter":"originator"}]}"#,
                Misconfigured,
            ),
            (
                402,
                r#"{"errors":[{"code":25,"description":"Not enough balance","parameter":null}]}"#,
                Misconfigured,
            ),
            (429, "", Throttled),
            (500, r#"{"errors":[{"code":99}]}"#, Failed),
        ],
    },
    Known {
        name: "playsms",
        keys: "base_url: {gw}\nusername: me\ntoken: a45",
        request: "GET /index.php?app=ws&op=pv&u=me&h=a45&to=%2B4799999999&msg=p%C3%A5%20%22%2642",
        heads: &[],
        body: "",
        answers: &[
            (
                200,
                r#"{"data":[{"status":"OK","error":"0","smslog_id":"30","queue":"afb5","to":"0987654321"}],"error_string":null}"#,
                Sent("30"),
            ),
            (200, r#"{"status":"ERR","error":"100","error_string":"authentication failed"}"#, Misconfigured),
            (
                200,
                r#"{"status":"ERR","error":"103","error_string":"not enough credit for this operation"}"#,
                Misconfigured,
            ),
            (200, r#"{"status":"ERR","error":"201"}"#, Rejected),
            (200, r#"{"status":"ERR","error":"200"}"#, Failed),
            (429, "", Throttled),
            (500, "", Failed),
        ],
    },
    Known {
        name: "plivo",
        keys: "sender: 14157654321\n{login}",
        request: "POST /v1/Account/me/Message/",
        heads: &[BASIC, JSON],
        body: r#"{"src": "14157654321", "dst": "4799999999", "text": "på \"&42"}"#,
        answers: &[
            (
                202,
                r#"{"message":"message(s) queued","message_uuid":["db3ce55a-7f1d-11e1-8ea7-1231380bc196"],"api_id":"db342550"}"#,
                Sent("db3ce55a-7f1d-11e1-8ea7-1231380bc196"),
            ),
            (401, "Could not verify your access level for that URL.", Misconfigured),
            (400, r#"{"api_id":"x","error":"dst is invalid"}"#, Rejected),
            (429, "", Throttled),
            (500, "", Failed),
        ],
    },
    Known {
        name: "sinch",
        keys: "sender: 12345\ntoken: t1\nvar.service_plan: jd63",
        request: "POST /xms/v1/jd63/batches",
        heads: &["authorization: Bearer t1", JSON],
        body: r#"{"from": "12345", "to": ["+4799999999"], "body": "på \"&42"}"#,
        answers: &[
            (
                201,
                r#"{"id":"01FC66621XXXXX119Z8PMV1QPQ","to":["15551231234"],"canceled":false}"#,
                Sent("01FC66621XXXXX119Z8PMV1QPQ"),
            ),
            (401, "", Misconfigured),
            (400, r#"{"code":"syntax_invalid_parameter_format","text":"Invalid MSISDN"}"#, Rejected),
            (429, "", Throttled),
            (500, "", Failed),
        ],
    },
    Known {
        name: "smseagle",
        keys: "base_url: {gw}\ntoken: 0005",
        request: "GET /http_api/send_sms?to=%2B4799999999&message=p%C3%A5%20%22%2642&access_token=0005",
        heads: &[],
        body: "",
        answers: &[
            (200, "OK; ID=297", Sent("297")),
            (200, "OK; ID=[297]", Sent("297")),
            (200, "Invalid access token", Misconfigured),
            (200, "Wrong parameters", Rejected),
            (429, "", Throttled),
            (200, "?", Failed),
            (500, "", Failed),
        ],
    },
    Known {
        name: "telnyx",
        keys: "sender: +15551234567\ntoken: KEY1",
        request: "POST /v2/messages",
        heads: &["authorization: Bearer KEY1", JSON],
        body: r#"{"from": "+15551234567", "to": "+4799999999", "text": "på \"&42"}"#,
        answers: &[
            (
                200,
                r#"{"data":{"id":"40385f64-5717-4562-b3fc-2c963f66afa6","to":[{"status":"queued"}]}}"#,
                Sent("40385f64-5717-4562-b3fc-2c963f66afa6"),
            ),
            (401, r#"{"errors":[{"code":"10009","title":"Authentication failed"}]}"#, Misconfigured),
            (400, r#"{"errors":[{"code":"40310","title":"Invalid 'to' address"}]}"#, Rejected),
            (400, r#"{"errors":[{"code":"40305","title":"Invalid 'from' address"}]}"#, Misconfigured),
            (429, r#"{"errors":[{"code":"10011","title":"Too many requests"}]}"#, Throttled),
            (500, r#"{"errors":[{"code":"10007","title":"Unexpected error"}]}"#, Failed),
        ],
    },
    Known {
        name: "teltonika",
        keys: "base_url: {gw}\n{login}",
        request: "GET /cgi-bin/sms_send?username=me&password=se%2Fcret&number=004799999999&text=p%C3%A5%20%22%2642",
        heads: &[],
        body: "",
        answers: &[
            (200, "OK\n", Sent("")),
            (200, "WRONG_NUMBER\n", Rejected),
            (200, "Bad username or password\n", Misconfigured),
            (403, "", Misconfigured),
            (200, "ERROR\n", Failed),
            (200, "TIMEOUT\n", Failed),
            (429, "", Throttled),
        ],
    },
    Known {
        name: "twilio",
        keys: "sender: +15017122661\n{login}",
        request: "POST /2010-04-01/Accounts/me/Messages.json",
        heads: &[BASIC, FORM],
        body: "To=%2B4799999999&From=%2B15017122661&Body=p%C3%A5%20%22%2642",
        answers: &[
            (
                201,
                r#"{"sid":"SMaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","status":"queued","error_code":null}"#,
                Sent("SMaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
            ),
            (401, r#"{"code":20003,"message":"Authenticate","status":401}"#, Misconfigured),
            (400, r#"{"code":21211,"message":"Invalid 'To' Phone Number","status":400}"#, Rejected),
            (
                400,
                r#"{"code":21606,"message":"The From phone number is not valid","status":400}"#,
                Misconfigured,
            ),
            (429, r#"{"code":20429,"message":"Too Many Requests","status":429}"#, Throttled),
            (500, r#"{"code":20500,"message":"Internal Server Error","status":500}"#, Failed),
        ],
    },
    Known {
        name: "vonage",
        keys: "sender: NOC\n{login}",
        request: "POST /sms/json",
        heads: &[FORM],
        body: "api_key=me&api_secret=se%2Fcret&from=NOC&to=4799999999&text=p%C3%A5%20%22%2642",
        answers: &[
            (
                200,
                r#"{"message-count":"1","messages":[{"to":"447700900000","message-id":"0C000000217B7F02","status":"0"}]}"#,
                Sent("0C000000217B7F02"),
            ),
            (
                200,
                r#"{"message-count":"1","messages":[{"status":"4","error-text":"Bad Credentials"}]}"#,
                Misconfigured,
            ),
            (200, r#"{"message-count":"1","messages":[{"status":"3","error-text":"Invalid to"}]}"#, Rejected),
            (
                200,
                r#"{"message-count":"1","messages":[{"status":"9","error-text":"Quota exceeded"}]}"#,
                Misconfigured,
            ),
            (200, r#"{"message-count":"1","messages":[{"status":"1","error-text":"Throttled"}]}"#, Throttled),
            (
                200,
                r#"{"message-count":"1","messages":[{"status":"5","error-text":"Internal error"}]}"#,
                Failed,
            ),
            (502, "", Failed),
        ],
    },
];

fn keys(known: &Known, gw: &str) -> String {
    // Every preset is pointed at the gateway of the test, as it would be at one behind a name of one's own.
    let base = if known.keys.contains("base_url") { "" } else { "base_url: {gw}\n" };
    let keys = format!("preset: {}\n{base}{}", known.name, known.keys);
    keys.replace("{login}", LOGIN).replace("{gw}", &format!("http://{gw}"))
}

#[tokio::test]
async fn each_preset_asks_and_understands_as_documented() {
    let mut wrong = Vec::new();
    for known in &KNOWN {
        let gateway = gateway(Behaviour::ok()).await;
        let dispatcher = built(&keys(known, &gateway.addr.to_string()));
        for (n, (status, body, want)) in known.answers.iter().enumerate() {
            gateway.set(Behaviour::status(*status).body(*body));
            let sms = sms("+4799999999", "på \"&42");
            let answer = submit(&*dispatcher, &sms).await;
            let found = meaning(&answer);
            if found.as_ref() != Some(want) {
                wrong.push(format!("{} {status} {body}: {answer:?}, not {want:?}", known.name));
            }
            if n > 0 {
                continue;
            }
            let (head, body) = (gateway.heads().remove(0), gateway.bodies().remove(0));
            let body = String::from_utf8(body).unwrap().replace(&sms.key.to_string(), "KEY");
            if !head.starts_with(known.request)
                || known.heads.iter().any(|line| !head.contains(&format!("\r\n{line}\r\n")))
            {
                wrong.push(format!("{}: {head}", known.name));
            }
            if body != known.body {
                wrong.push(format!("{}: {body}", known.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn meaning(answer: &Result<Receipt, SubmitError>) -> Option<Want> {
    let all = KNOWN.iter().flat_map(|known| known.answers).map(|(_, _, want)| *want);
    Some(match answer {
        Ok(receipt) => {
            let reference = receipt.references.join(",");
            return all.into_iter().find(|want| *want == Sent(known_reference(&reference)));
        }
        Err(error) => match error.class {
            Class::Rejected => Rejected,
            Class::Throttled { retry_after } if retry_after == Duration::from_secs(30) => Throttled,
            Class::Misconfigured => Misconfigured,
            Class::Failed => Failed,
            Class::Unavailable => Unavailable,
            _ => return None,
        },
    })
}

/// The reference as it stands in the table.
fn known_reference(found: &str) -> &'static str {
    let all = KNOWN.iter().flat_map(|known| known.answers).filter_map(|(_, _, want)| match want {
        Sent(reference) => Some(*reference),
        _ => None,
    });
    all.into_iter().find(|reference| *reference == found).unwrap_or("not in the table")
}

/// The table above has every preset, each says where its facts come from, and each answer that a gateway can give has
/// been thought of: taken, wrong login, bad number, too fast, failed.
#[test]
fn no_preset_is_left_out() {
    let all: Vec<&str> = presets::all().iter().map(|preset| preset.name).collect();
    assert_eq!(all, KNOWN.map(|known| known.name));
    for (preset, known) in presets::all().iter().zip(&KNOWN) {
        assert!(preset.documentation.starts_with("https://"), "{}", preset.name);
        for want in [Rejected, Throttled, Misconfigured, Failed] {
            assert!(known.answers.iter().any(|(_, _, found)| *found == want), "{}: {want:?}", preset.name);
        }
        assert!(matches!(known.answers[0].2, Sent(_)), "{}", preset.name);
    }
}

/// A gateway that is known works with nothing but what it needs, in Unicode, in several parts and without a sender.
#[tokio::test]
async fn texts_of_every_kind_can_be_sent() {
    for known in &KNOWN {
        let gateway = gateway(Behaviour::status(known.answers[0].0).body(known.answers[0].1)).await;
        let dispatcher = built(&keys(known, &gateway.addr.to_string()));
        for text in ["hei", "漢字 \"x\"", &"æ".repeat(300)] {
            submit(&*dispatcher, &sms("1881", text)).await.unwrap();
        }
        for body in gateway.bodies().iter().filter(|body| body.starts_with(b"{")) {
            assert!(serde_json::from_slice::<serde_json::Value>(body).is_ok(), "{}", known.name);
        }
    }
}

#[test]
fn what_a_preset_needs_is_said() {
    for (keys, want) in [
        ("preset: twilio", "[gw] has no username (preset twilio needs it; see https://www.twilio.com"),
        ("preset: sinch\ntoken: t\nsender: x", "[gw] has no var.service_plan (preset sinch needs it"),
        ("preset: kannel", "[gw] has no base_url"),
        (
            "preset: android-sms-gateway-cloud\nusername: a\npassword: b\nbody: {\"t\": {{ text }}, \"to\": {{ phone }}}",
            "smsd.conf:3:1: [gw] idempotency: no template has {{ key }}",
        ),
        (
            "preset: twilio\nusername: a\npassword: b",
            "[gw] body, line 2: it puts out a value that is not set (not set: var.service, sender)",
        ),
        ("preset: vonage\nusername: a\npassword: b", "[gw] has no sender (preset vonage needs it"),
        ("preset: gatewayapi\ntoken: t\npassword: x", "smsd.conf:7:1: password: nothing uses it"),
        ("preset: gatewayapi\ntoken_file: none", "smsd.conf:6:1: token_file: can not read"),
        ("preset: gatewayapi\ntoken: t\nbody: {", "smsd.conf:7:1: body: the text stands nowhere"),
        ("preset: gatewayapi\ntoken: t\nmethod: GET", "smsd.conf:7:1: method: GET has no body"),
        (
            "preset: gatewayapi\ntoken: t\nheader.authorization: Token x",
            "smsd.conf:6:1: token: nothing uses it",
        ),
    ] {
        let told = load(keys).err().unwrap_or_default();
        assert!(told.contains(want), "{keys}\n  told: {told}\n  want: {want}");
    }
    let told = load("preset: gatewayap\ntoken: t").err().unwrap_or_default();
    assert!(told.contains("did you mean \"gatewayapi\"?") && !told.contains("has no url"), "{told}");
}

#[tokio::test]
async fn what_the_operator_says_wins() {
    let gateway = gateway(Behaviour::status(200).body("fine")).await;
    let dispatcher = built(&format!(
        "preset: Vonage\nbase_url: http://{}/eu/\nusername: me\npassword_env: HOME\nsender: x\n\
         success: body ~ ^fine\nmethod: PUT\nbody: t={{{{ text }}}}&n={{{{ phone }}}}&{{{{ username }}}}{{{{ password }}}}{{{{ sender }}}}",
        gateway.addr
    ));
    assert_eq!(submit(&*dispatcher, &sms("112", "hei")).await.unwrap().references, [] as [String; 0]);
    assert!(gateway.heads()[0].starts_with("PUT /eu/sms/json HTTP/1.1\r\n"), "{}", gateway.heads()[0]);
    assert!(gateway.bodies()[0].starts_with(b"t=hei&n=112&me"));
    let dispatcher = built(&format!(
        "preset: 46elks\nurl: http://{}/x\nusername: a\npassword: b\nsender: c\nsuccess: status 2xx",
        gateway.addr
    ));
    submit(&*dispatcher, &sms("112", "hei")).await.unwrap();
    assert!(gateway.heads()[1].starts_with("POST /x HTTP/1.1\r\n"), "{}", gateway.heads()[1]);
    let config = load("preset: teltonika\nbase_url: http://gw\nusername: a\npassword: b").unwrap();
    assert_eq!(config.concurrency, Some(1));
    let config =
        load("preset: teltonika\nbase_url: http://gw\nusername: a\npassword: b\nconcurrency: 3").unwrap();
    assert_eq!(config.concurrency, Some(3));
}

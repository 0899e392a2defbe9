//! The one style sheet, the one script and the icon. Their names carry a hash of what is in them, so that a browser keeps
//! them for ever and a new version is another file.

use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A file that is part of the program.
#[derive(Debug)]
pub(super) struct Asset {
    stem: &'static str,
    extension: &'static str,
    kind: &'static str,
    body: &'static [u8],
    hash: u64,
}

/// The style sheet.
pub(super) static STYLE: Asset =
    Asset::new("smsd", "css", "text/css; charset=utf-8", include_bytes!("../assets/smsd.css"));
/// The script.
pub(super) static SCRIPT: Asset =
    Asset::new("smsd", "js", "text/javascript; charset=utf-8", include_bytes!("../assets/smsd.js"));
/// The icon.
pub(super) static ICON: Asset =
    Asset::new("smsd", "svg", "image/svg+xml", include_bytes!("../assets/favicon.svg"));

impl Asset {
    const fn new(
        stem: &'static str,
        extension: &'static str,
        kind: &'static str,
        body: &'static [u8],
    ) -> Asset {
        Asset { stem, extension, kind, body, hash: hash(body) }
    }

    /// Where it is.
    pub(super) fn path(&self) -> String {
        format!("/assets/{}", self.name())
    }

    fn name(&self) -> String {
        format!("{}.{:016x}.{}", self.stem, self.hash, self.extension)
    }
}

/// `GET /assets/NAME`.
pub(super) async fn serve(Path(name): Path<String>) -> Response {
    let Some(asset) = [&STYLE, &SCRIPT, &ICON].into_iter().find(|asset| asset.name() == name) else {
        return (StatusCode::NOT_FOUND, "there is no such file in this version\n").into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // An icon that is opened by itself is a document too.
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'")),
    ];
    (headers, asset.body).into_response()
}

/// FNV-1a: tells versions apart, and guards nothing.
const fn hash(bytes: &[u8]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut rest = bytes;
    while let [first, others @ ..] = rest {
        hash = (hash ^ *first as u64).wrapping_mul(0x0100_0000_01b3);
        rest = others;
    }
    hash
}

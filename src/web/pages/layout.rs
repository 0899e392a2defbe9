//! What all pages have in common: head, navigation, foot, and the headers that say what a browser may do with them.

use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::assets::{ICON, SCRIPT, STYLE};
use super::words::{Tone, foreign, symbols, zone};
use crate::web::Site;
use crate::web::access::{Caller, Scope, csrf_token};

/// Nothing but what we serve; no script and no style inside a page; nobody's frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// Without JavaScript a page is loaded anew after so many seconds.
const RELOAD: &str = "<noscript><meta http-equiv=\"refresh\" content=\"15\"></noscript>";

/// Whom a page is made for.
#[derive(Clone, Debug, Default)]
pub(super) struct Viewer {
    /// The name that actions are recorded under.
    pub(super) name: String,
    /// May act.
    pub(super) operate: bool,
    /// What a form must bring back.
    pub(super) csrf: String,
    /// Has logged in, so can log out.
    pub(super) session: bool,
}

impl Viewer {
    /// Whoever asks, as the guard has found out.
    pub(super) fn of(site: &Site, parts: &Parts) -> Viewer {
        let caller = parts.extensions.get::<Caller>();
        let tokens = !site.standing().config.http.tokens.is_empty();
        Viewer {
            name: caller.map(|c| c.name.to_string()).unwrap_or_default(),
            operate: caller.is_some_and(|c| c.scopes.has(Scope::Operate)),
            csrf: csrf_token(parts),
            session: tokens && parts.headers.contains_key(header::COOKIE),
        }
    }
}

/// A page that says what went wrong.
pub(super) fn trouble(viewer: &Viewer, status: StatusCode, words: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Trouble");
    let page = Page {
        title,
        here: Here::Elsewhere,
        live: false,
        wall: false,
        // Whom nobody knows has nowhere to go from here.
        viewer: Some(viewer).filter(|viewer| !viewer.name.is_empty()),
        flash: None,
        above: html! {},
        body: html! {
            div.narrow {
                h1 { (title) }
                p.card role="alert" { (foreign(words, 600)) }
                @if !viewer.name.is_empty() { p.acts { a.btn href="/" { "To the overview" } } }
            }
        },
    };
    page.answer(status)
}

/// The pages in the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Here {
    /// `/`
    Overview,
    /// `/alerts`, and all beneath
    Alerts,
    /// `/send`
    Send,
    /// None of them.
    Elsewhere,
}

/// A page.
pub(super) struct Page<'a> {
    /// For the title bar.
    pub(super) title: &'a str,
    /// Where it stands in the navigation.
    pub(super) here: Here,
    /// It keeps itself as it is now.
    pub(super) live: bool,
    /// For a screen on the wall: bigger, and nothing to click.
    pub(super) wall: bool,
    /// For whom; `None`: nobody knows yet.
    pub(super) viewer: Option<&'a Viewer>,
    /// What was just done.
    pub(super) flash: Option<(Tone, String)>,
    /// What stands above the part that keeps itself as it is now.
    pub(super) above: Markup,
    /// The page itself.
    pub(super) body: Markup,
}

impl Page<'_> {
    /// As the answer to a request.
    pub(super) fn answer(self, status: StatusCode) -> Response {
        let headers: [(HeaderName, HeaderValue); 6] = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            // With no referrer at all, a browser would not say either that a form is of our own pages.
            (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
            (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        (status, headers, self.render().into_string()).into_response()
    }

    /// As HTML.
    pub(super) fn render(&self) -> Markup {
        let class = if self.wall { Some("wall") } else { None };
        html! {
            (DOCTYPE)
            html lang="en" class=[class] {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width,initial-scale=1";
                    title { (self.title) " – smsd" }
                    link rel="icon" href=(ICON.path()) type="image/svg+xml";
                    link rel="stylesheet" href=(STYLE.path());
                    script src=(SCRIPT.path()) defer {}
                    @if self.live { (PreEscaped(RELOAD)) }
                }
                body {
                    (symbols())
                    @if !self.wall {
                        a.skip href="#main" { "Skip to content" }
                        (self.top())
                    }
                    @if self.live {
                        p #lost role="alert" hidden { "smsd does not answer; what you see is of " time { } "." }
                    }
                    @if let Some((tone, words)) = &self.flash {
                        p.flash.(tone.as_str()) role="status" { (tone.icon()) span { (words) } }
                    }
                    main #main tabindex="-1" {
                        (self.above)
                        @if self.live { div data-live { (self.body) } } @else { (self.body) }
                    }
                    @if !self.wall {
                        footer { "smsd " (crate::VERSION) " · times are " (zone(Timestamp::now())) }
                    }
                }
            }
        }
    }

    fn top(&self) -> Markup {
        let link = |here: Here, path: &str, words: &str| {
            let current = (self.here == here).then_some("page");
            html! { li { a href=(path) aria-current=[current] { (words) } } }
        };
        html! {
            header.top {
                a.brand href="/" { img src=(ICON.path()) alt="" width="24" height="24"; "smsd" }
                @if let Some(viewer) = self.viewer {
                    nav aria-label="Pages" {
                        ul {
                            (link(Here::Overview, "/", "Overview"))
                            (link(Here::Alerts, "/alerts", "Alerts"))
                            @if viewer.operate { (link(Here::Send, "/send", "Test send")) }
                        }
                    }
                    @if viewer.session {
                        form.who method="post" action="/logout" {
                            input type="hidden" name="csrf" value=(viewer.csrf);
                            span.soft { (viewer.name) }
                            button { "Log out" }
                        }
                    }
                }
            }
        }
    }
}

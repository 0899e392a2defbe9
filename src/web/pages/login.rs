//! `/login` and `/logout`: a token opens a session, for browsers.

use std::sync::Arc;

use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use maud::html;
use serde::Deserialize;

use super::act::Given;
use super::layout::{Here, Page, Viewer, trouble};
use super::words::foreign;
use crate::intake::{Intake, Refusal};
use crate::web::Site;
use crate::web::access::{Came, Guesses, Sessions, check_form};

/// What the form brings.
#[derive(Deserialize)]
pub(super) struct Token {
    #[serde(default)]
    token: String,
}

/// `GET /login`.
pub(super) async fn ask(State(site): State<Site>) -> Response {
    if site.standing().config.http.tokens.is_empty() {
        // Whoever may look without a token is not sent here: a way back would lead round in circles.
        let words = "No token is configured, so only this machine may look. To look from elsewhere, put one into [http] of smsd.conf.";
        return trouble(&Viewer::default(), StatusCode::FORBIDDEN, words);
    }
    form(None)
}

/// `POST /login`.
pub(super) async fn enter(
    State(site): State<Site>,
    Extension(sessions): Extension<Arc<Sessions>>,
    Extension(guesses): Extension<Arc<Guesses>>,
    came: Came,
    parts: Parts,
    Form(given): Form<Token>,
) -> Response {
    if !guesses.turn(came.address).await {
        let words = "too many wrong tokens came from this address; try again in a few seconds";
        return form(Some((StatusCode::TOO_MANY_REQUESTS, words.to_owned())));
    }
    match sessions.log_in(&site.standing().config.http, &parts, &given.token) {
        Ok(cookie) => moved("/", cookie),
        Err(problem) => {
            if problem.status == StatusCode::UNAUTHORIZED {
                guesses.wrong(came.address);
                site.desk.tally().refuse(Intake::Http, Refusal::Token, came.address);
            }
            form(Some((problem.status, problem.detail)))
        }
    }
}

/// `POST /logout`.
pub(super) async fn leave(
    State(site): State<Site>,
    Extension(sessions): Extension<Arc<Sessions>>,
    parts: Parts,
    Form(given): Form<Given>,
) -> Response {
    match check_form(&parts, &given.csrf) {
        Ok(()) => moved("/login", sessions.log_out(&parts)),
        Err(problem) => trouble(&Viewer::of(&site, &parts), problem.status, &problem.detail),
    }
}

fn moved(path: &str, cookie: HeaderValue) -> Response {
    ([(header::SET_COOKIE, cookie)], Redirect::to(path)).into_response()
}

fn form(wrong: Option<(StatusCode, String)>) -> Response {
    let body = html! {
        div.narrow {
            h1 { "Log in" }
            form.card method="post" action="/login" {
                div.field {
                    label for="token" { "Token" }
                    input #token name="token" type="password" autocomplete="current-password" required autofocus
                        aria-describedby=[wrong.as_ref().map(|_| "wrong")];
                    @if let Some((_, words)) = &wrong { p #wrong.bad role="alert" { (foreign(words, 300)) } }
                }
                button.btn.main { "Log in" }
            }
            p.soft.small { "Tokens stand in [http] of smsd.conf." }
        }
    };
    let page = Page {
        title: "Log in",
        here: Here::Elsewhere,
        live: false,
        wall: false,
        viewer: None,
        flash: None,
        above: html! {},
        body,
    };
    page.answer(wrong.map_or(StatusCode::OK, |(status, _)| status))
}

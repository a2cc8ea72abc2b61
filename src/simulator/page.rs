//! The page at `/`: a phone with a chat, and what the platform heard and said.

use askama::Template;
use poem::http::{HeaderValue, Method, StatusCode, header};
use poem::{Request, Response};

use super::{World, guard, http};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' http: https: data: blob:; media-src 'self' http: https:; \
                      frame-src http: https:; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

macro_rules! files {
    ($($name:literal)+) => {
        [$(($name, include_str!(concat!("../../templates/simulator/", $name)))),+]
    };
}

/// What `/sim/` serves: styles and scripts of our own pages.
const FILES: &[(&str, &str)] = &files! {
    "authorize.css" "page.css" "phone.css" "inspector.css"
    "main.js" "i18n.js" "dom.js" "icons.js" "state.js" "live.js" "sheet.js"
    "phone.js" "bubbles.js" "menu.js" "webview.js"
    "inspector.js" "entries.js" "pushes.js" "requests.js" "jssdk.js" "oauth.js" "tokens.js" "faults.js"
    "clock.js" "account.js" "glossary.js"
};

#[derive(Template)]
#[template(path = "simulator/index.html")]
struct Page {}

#[derive(Template)]
#[template(path = "simulator/head.svg", escape = "html")]
struct HeadImage<'a> {
    letter: &'a str,
    hue: u32,
}

/// The page itself.
pub(super) fn answer(world: &World, request: &Request) -> Response {
    if !guard::is_local(request, world.listen) {
        return http::text(StatusCode::FORBIDDEN, "Host or Origin is not this machine");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return http::text(StatusCode::METHOD_NOT_ALLOWED, "GET");
    }
    match (Page {}).render() {
        Ok(page) => http::html(page, POLICY),
        Err(why) => http::text(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()),
    }
}

/// Styles and scripts of our own pages.
pub(super) fn asset(path: &str) -> Response {
    let name = path.trim_start_matches("/sim/");
    let Some((_, text)) = FILES.iter().find(|(file, _)| *file == name) else {
        return http::text(StatusCode::NOT_FOUND, "no such file");
    };
    let content_type = if name.ends_with(".css") {
        "text/css; charset=utf-8"
    } else {
        "text/javascript; charset=utf-8"
    };
    http::answer(StatusCode::OK, content_type, *text)
}

/// `/mmopen/OPENID/132`: a made-up head image, the first letter of the name on a colour.
pub(super) fn head_image(world: &World, path: &str) -> Response {
    let openid = path.split('/').nth(2).unwrap_or_default();
    let platform = world.platform();
    let Some(fan) = platform.fans.get(openid) else {
        return http::text(StatusCode::NOT_FOUND, "no such picture");
    };
    // Of a Chinese name the last character, as chats show it; of others the first.
    let name = &fan.nickname;
    let letter = if name.is_ascii() {
        name.chars().next()
    } else {
        name.chars().last()
    };
    let letter = letter.map(String::from).unwrap_or_default();
    let hue = openid
        .bytes()
        .fold(7, |hue, byte| (hue * 31 + u32::from(byte)) % 360);
    match (HeadImage {
        letter: &letter,
        hue,
    })
    .render()
    {
        Ok(svg) => {
            let response = http::answer(StatusCode::OK, "image/svg+xml", svg);
            let policy = HeaderValue::from_static("default-src 'none'");
            http::with_header(response, header::CONTENT_SECURITY_POLICY, policy)
        }
        Err(why) => http::text(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()),
    }
}

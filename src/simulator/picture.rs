//! Pictures: those that were uploaded, under `/mmbiz/`, and those we draw ourselves.

use std::fmt::Write;

use poem::Response;
use poem::http::{HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

use super::qrcodes::QrCode;
use super::{World, http};

/// Modules of a side of the drawn code.
const SIDE: usize = 25;
/// The squares in three corners by which a code is known.
const FINDER: usize = 7;

/// `/mmbiz/KEY/0`: a file that the platform hands out to anybody who knows its address.
pub(super) fn answer(world: &World, path: &str) -> Response {
    let key = path.split('/').nth(2).unwrap_or_default();
    let platform = world.platform();
    let Some((content_type, bytes)) = platform.media.public(key, platform.now()) else {
        return http::text(StatusCode::NOT_FOUND, "no such file");
    };
    file(content_type, bytes.to_vec())
}

/// A file as an answer, which runs no script wherever it is opened.
pub(super) fn file(content_type: &'static str, bytes: Vec<u8>) -> Response {
    let response = http::answer(StatusCode::OK, content_type, bytes);
    let policy = HeaderValue::from_static("default-src 'none'; sandbox");
    let response = http::with_header(response, header::CONTENT_SECURITY_POLICY, policy);
    // Pages of the backend show it.
    let name = header::HeaderName::from_static("cross-origin-resource-policy");
    http::with_header(response, name, HeaderValue::from_static("cross-origin"))
}

/// A picture that looks like a code and says what it stands for. No camera reads it: what it leads to
/// exists in this simulator only, where `POST /_sim/scan` scans it.
pub(crate) fn qr_code(code: &QrCode) -> String {
    let mut lines = String::new();
    for y in 0..SIDE {
        for x in (0..SIDE).filter(|x| is_dark(&code.ticket, *x, y)) {
            let _ = write!(lines, "M{} {}.5h1", x + 2, y + 2);
        }
    }
    let label = escaped(&code.scene.key());
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"430\" height=\"474\" \
         viewBox=\"0 0 29 32\"><title>{label}</title><rect width=\"29\" height=\"32\" fill=\"#fff\"/>\
         <path d=\"{lines}\" stroke=\"#000\" shape-rendering=\"crispEdges\"/>\
         <text x=\"14.5\" y=\"30\" font-size=\"1.6\" text-anchor=\"middle\" \
         font-family=\"sans-serif\">模拟 · {label}</text></svg>"
    )
}

fn is_dark(ticket: &str, x: usize, y: usize) -> bool {
    let corner = |v: usize| if v > SIDE / 2 { SIDE - 1 - v } else { v };
    let (near_x, near_y) = (corner(x), corner(y));
    let is_last_corner = x > SIDE / 2 && y > SIDE / 2;
    if near_x <= FINDER && near_y <= FINDER && !is_last_corner {
        // Rings: dark, light, and a dark middle, with a light seam outside.
        let ring = near_x
            .min(near_y)
            .min((FINDER - 1).saturating_sub(near_x.max(near_y)));
        return near_x < FINDER && near_y < FINDER && ring != 1;
    }
    let hash = Sha256::digest(format!("{ticket} {y}"));
    hash[x] & 1 == 1
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

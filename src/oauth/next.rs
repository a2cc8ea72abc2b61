//! `next`: where the browser goes after signing in. A path of this site and nothing else, however it
//! is dressed up.

use percent_encoding::percent_decode_str;
use url::form_urlencoded;

const MAX_LENGTH: usize = 2048;

/// A path of this site, with its query and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextPath(String);

/// It could lead off this site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`next` is not a path of this site: it begins with one `/`, e.g. /shop?item=1")]
pub struct InvalidNext;

impl NextPath {
    /// Checks a path as given and after one percent-decoding: it begins with `/`, neither `/` nor `\`
    /// follows, and before its query it holds no `\` and no control character.
    ///
    /// # Errors
    ///
    /// [`InvalidNext`].
    pub fn parse(text: &str) -> Result<Self, InvalidNext> {
        let path = text.split(['?', '#']).next().unwrap_or_default();
        let decoded = percent_decode_str(path).decode_utf8_lossy();
        let fits = text.len() <= MAX_LENGTH
            && is_local(path)
            && is_local(&decoded)
            // A header can't hold these, wherever they stand.
            && !text.chars().any(char::is_control);
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidNext)
        }
    }

    /// The path as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path with one more parameter, before the fragment.
    pub(super) fn with_query(&self, parameter: Option<(&str, &str)>) -> String {
        let Some((name, value)) = parameter else {
            return self.0.clone();
        };
        let (rest, fragment) = match self.0.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (self.0.as_str(), None),
        };
        let separator = if !rest.contains('?') {
            "?"
        } else if rest.ends_with(['?', '&']) {
            ""
        } else {
            "&"
        };
        let parameter = form_urlencoded::Serializer::new(String::new())
            .append_pair(name, value)
            .finish();
        let fragment = fragment.map_or_else(String::new, |fragment| format!("#{fragment}"));
        format!("{rest}{separator}{parameter}{fragment}")
    }
}

fn is_local(path: &str) -> bool {
    let mut chars = path.chars();
    chars.next() == Some('/')
        && !matches!(chars.next(), Some('/' | '\\'))
        && !path.chars().any(|c| c == '\\' || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_this_site_passes() {
        for good in [
            "/",
            "/shop",
            "/shop?to=https://x.example//y",
            "/a/b#c",
            "/a%20b",
            "/中文",
            "/shop?q=\\",
        ] {
            assert!(NextPath::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn whatever_could_lead_off_this_site_is_refused() {
        for bad in [
            "",
            "shop",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/%2fevil.example",
            "/%5cevil.example",
            "/a\\b",
            "/a%5Cb",
            "/a\nb",
            "/a%0d%0ab",
            "/a\u{85}",
            "?x",
            "#/",
            "javascript:alert(1)",
            "/\t/evil.example",
            "/%09/evil.example",
            "/a?b\r\nSet-Cookie: x",
        ] {
            assert_eq!(NextPath::parse(bad), Err(InvalidNext), "{bad:?}");
        }
    }

    #[test]
    fn the_id_is_added_to_the_query() {
        let add = |next: &str| {
            NextPath::parse(next)
                .unwrap()
                .with_query(Some(("state", "a b&c")))
        };
        assert_eq!(add("/p"), "/p?state=a+b%26c");
        assert_eq!(add("/p?q=1#f"), "/p?q=1&state=a+b%26c#f");
        assert_eq!(add("/p?"), "/p?state=a+b%26c");
        assert_eq!(NextPath::parse("/p").unwrap().with_query(None), "/p");
    }
}

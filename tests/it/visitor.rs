//! A person in WeChat's browser: opens the account's pages, and decides on the platform's consent page.

use reqwest::{Client, Response, StatusCode};
use url::Url;

use crate::helpers::{World, client};

pub(crate) const SESSION: &str = "offiaccount_session";
pub(crate) const BROWSER: &str = "offiaccount_browser";

/// One browser. Its cookies know no port, as everywhere; so it may visit several instances.
pub(crate) struct Visitor {
    http: Client,
    site: String,
}

impl Visitor {
    pub(crate) fn of(world: &World) -> Self {
        Self::at(&world.app.url)
    }

    pub(crate) fn at(site: &str) -> Self {
        Self {
            http: client(),
            site: site.to_owned(),
        }
    }

    /// The same browser at another instance.
    pub(crate) fn elsewhere(&self, site: &str) -> Self {
        Self {
            http: self.http.clone(),
            site: site.to_owned(),
        }
    }

    /// Opens a path of the site, or an absolute address.
    pub(crate) async fn open(&self, address: &str) -> Response {
        let url = if address.starts_with('/') {
            format!("{}{address}", self.site)
        } else {
            address.to_owned()
        };
        self.http.get(url).send().await.unwrap()
    }

    /// Opens `/wxAuthorize`. The platform's consent page, where it leads.
    pub(crate) async fn begin(&self, query: &str) -> Url {
        let answer = self.open(&format!("/wxAuthorize?{query}")).await;
        assert_eq!(answer.status(), StatusCode::FOUND, "{query}");
        Url::parse(location(&answer)).unwrap()
    }

    /// Decides as `fan` on the consent page, by its form. The address that the platform sends back to.
    pub(crate) async fn decide(&self, consent: &Url, fan: &str, choice: &str) -> String {
        let mut shown = consent.clone();
        shown.set_fragment(None);
        shown.query_pairs_mut().append_pair("_fan", fan);
        let mut answer = self.open(shown.as_str()).await;
        if answer.status() == StatusCode::OK {
            let page = answer.text().await.unwrap();
            let (_, form) = page
                .split_once("action=\"")
                .unwrap_or_else(|| panic!("{page}"));
            let (action, _) = form.split_once('"').unwrap();
            let action = action.replace("&#38;", "&").replace("&amp;", "&");
            let form = self.http.post(shown.join(&action).unwrap());
            let form = form.form(&[("_fan", fan), ("_choice", choice)]);
            answer = form.send().await.unwrap();
        }
        assert_eq!(answer.status(), StatusCode::FOUND);
        location(&answer).to_owned()
    }

    /// Signs in as far as the callback, and gives its address.
    pub(crate) async fn consent(&self, query: &str, fan: &str) -> String {
        let consent = self.begin(query).await;
        self.decide(&consent, fan, "allow").await
    }

    /// Signs in. The callback's answer, whatever it is.
    pub(crate) async fn sign_in(&self, query: &str, fan: &str) -> Response {
        let callback = self.consent(query, fan).await;
        self.open(&callback).await
    }

    /// Signs in, to the end.
    pub(crate) async fn signed_in(self, query: &str, fan: &str) -> Self {
        let answer = self.sign_in(query, fan).await;
        assert_eq!(
            answer.status(),
            StatusCode::FOUND,
            "{}",
            answer.text().await.unwrap()
        );
        self
    }
}

/// Where a redirect leads.
#[track_caller]
pub(crate) fn location(answer: &Response) -> &str {
    assert_eq!(answer.status(), StatusCode::FOUND);
    answer.headers()["location"].to_str().unwrap()
}

/// A cookie that an answer sets, with its attributes.
pub(crate) fn cookie(answer: &Response, name: &str) -> Option<String> {
    let mut set = answer
        .headers()
        .get_all("set-cookie")
        .iter()
        .map(|it| it.to_str().unwrap());
    set.find(|it| it.split('=').next() == Some(name))
        .map(str::to_owned)
}

/// The HTML of a page for people with this status.
#[track_caller]
pub(crate) fn expect_page(answer: Response, status: StatusCode) -> impl Future<Output = String> {
    let at = std::panic::Location::caller();
    async move {
        let found = answer.status();
        let headers = answer.headers().clone();
        let page = answer.text().await.unwrap();
        assert_eq!(found, status, "{at}: {page}");
        let header = |name: &str| headers.get(name).map(|it| it.to_str().unwrap());
        assert_eq!(
            header("content-type"),
            Some("text/html; charset=utf-8"),
            "{at}"
        );
        assert_eq!(header("referrer-policy"), Some("no-referrer"), "{at}");
        assert_eq!(header("cache-control"), Some("no-store"), "{at}");
        assert_eq!(header("x-content-type-options"), Some("nosniff"), "{at}");
        assert!(header("content-security-policy").is_some(), "{at}");
        // Chinese first, then a line of English.
        let heading = page
            .split("<h1>")
            .nth(1)
            .unwrap_or_else(|| panic!("{at}: {page}"));
        assert!(
            heading.chars().next().unwrap() >= '\u{4e00}',
            "{at}: {page}"
        );
        assert!(page.contains("lang=\"zh-CN\""), "{at}: {page}");
        assert!(page.contains("lang=\"en\""), "{at}: {page}");
        page
    }
}

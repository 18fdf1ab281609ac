//! Bodies of posts. What is published is looked at as a browser does: its URLs lead to http(s), or stay on the site.
#![no_main]

use libfuzzer_sys::fuzz_target;
use url::Url;

const SITE: &str = "https://site.example/page";

fuzz_target!(|input: &[u8]| {
    let Some(message) = fuzz::checks::body(input) else { return };
    for video in message["videos"].as_array().expect("a list") {
        let title = video["title"].as_str().expect("a title");
        assert!(
            !title.contains(|letter| letter < ' ' || "\u{202d}\u{202e}\u{2066}\u{2069}".contains(letter)),
            "{title:?}"
        );
        for name in ["thumb", "url"].into_iter().filter(|name| video.get(name).is_some()) {
            check_url(video[name].as_str().expect("a URL is text"));
        }
    }
});

fn check_url(text: &str) {
    let site = Url::parse(SITE).expect("a URL");
    // What is no URL leads nowhere.
    let Ok(url) = site.join(text) else { return };
    assert!(matches!(url.scheme(), "http" | "https"), "{text:?} leads to {url}");
    assert!(!text.starts_with('/') || url.origin() == site.origin(), "{text:?} leads to {url}");
}

//! The picture as an HTML file: the page, and the data behind it.

use std::io::{self, BufWriter};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::Picture;

const PAGE: &str = include_str!("../page/picture.html");
const LIVE_PAGE: &str = include_str!("../page/live.html");
const STYLE: &str = include_str!("../page/style.css");
const LIVE_STYLE: &str = include_str!("../page/live.css");
/// The scripts of all pages, and those of each. The scripts of a page share one scope.
const SCRIPTS: [&str; 3] =
    [include_str!("../page/model.js"), include_str!("../page/diagram.js"), include_str!("../page/detail.js")];
const PICTURE: &str = include_str!("../page/picture.js");
const LIVE: [&str; 2] = [include_str!("../page/map.js"), include_str!("../page/live.js")];

/// Returns the page of a live run. It opens a websocket to `run`, relative to its own address,
/// sends requests, and gets reports with [`News`](crate::News). `quorate-lab lab` serves it.
pub fn live_page() -> String {
    LIVE_PAGE
        .replace("/* style */", &[STYLE, LIVE_STYLE].concat())
        .replace("/* scripts */", &[SCRIPTS.concat(), LIVE.concat()].concat())
}

impl Picture {
    /// Returns the picture as one HTML file, which needs nothing else. The data is compressed.
    pub fn html(&self) -> String {
        PAGE.replace("/* style */", STYLE)
            .replace("/* scripts */", &[&SCRIPTS.concat(), PICTURE].concat())
            .replace("<!-- data -->", &self.packed())
            .replace("<!-- title -->", &escape(&self.title))
    }

    /// Returns the picture as JSON, compressed by gzip, in base64.
    fn packed(&self) -> String {
        let mut gz = GzEncoder::new(Vec::new(), Compression::default());
        // Neither can fail: the target is memory, and all keys are text.
        let packed = serde_json::to_writer(BufWriter::new(&mut gz), self).map_err(io::Error::from);
        STANDARD.encode(packed.and_then(|()| gz.finish()).unwrap_or_default())
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

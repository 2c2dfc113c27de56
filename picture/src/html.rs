//! The picture as an HTML file: the page, and the data behind it.

use std::io::{self, BufWriter};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::Picture;

const PAGE: &str = include_str!("../page/picture.html");
const STYLE: &str = include_str!("../page/style.css");
/// The page's scripts. They share one scope.
const SCRIPTS: [&str; 4] = [
    include_str!("../page/model.js"),
    include_str!("../page/diagram.js"),
    include_str!("../page/detail.js"),
    include_str!("../page/picture.js"),
];

impl Picture {
    /// Returns the picture as one HTML file, which needs nothing else. The data is compressed.
    pub fn html(&self) -> String {
        PAGE.replace("/* style */", STYLE)
            .replace("/* scripts */", &SCRIPTS.concat())
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

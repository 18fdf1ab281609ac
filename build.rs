//! Prepares the browser client for embedding: compresses each file once, so that no request has to, and hashes what
//! the page at `/` has inline, so that its content security policy can name it.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

/// The files that are served, by the name of their constant.
const ASSETS: [(&str, &str); 4] = [
    ("NOTIFIER_JS", "notifier.js"),
    ("NOTIFIER_ESM_JS", "notifier.esm.js"),
    ("NOTIFIER_D_TS", "notifier.d.ts"),
    ("INDEX_HTML", "index.html"),
];

fn main() {
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut code = String::new();
    for (constant, name) in ASSETS {
        let source = Path::new("static").join(name);
        println!("cargo::rerun-if-changed={}", source.display());
        let content = fs::read(&source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        fs::write(out.join(name), &content).expect("OUT_DIR can be written");
        fs::write(out.join(format!("{name}.gz")), gzip(&content)).expect("OUT_DIR can be written");
        fs::write(out.join(format!("{name}.br")), brotli(&content)).expect("OUT_DIR can be written");
        let tag: String = Sha256::digest(&content)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        code += &format!(
            "pub static {constant}: Asset = Asset {{
                identity: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}\")),
                gzip: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.gz\")),
                brotli: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.br\")),
                tag: \"{tag}\",
            }};\n"
        );
        if name == "index.html" {
            let page = String::from_utf8(content).expect("the page is UTF-8");
            for (constant, element) in [("INLINE_SCRIPT", "script"), ("INLINE_STYLE", "style")] {
                let hash = base64(&Sha256::digest(inline(&page, element)));
                code += &format!("pub const {constant}: &str = \"'sha256-{hash}'\";\n");
            }
        }
    }
    fs::write(out.join("assets.rs"), code).expect("OUT_DIR can be written");
}

/// The text of the page's one inline element of that name.
fn inline<'a>(page: &'a str, element: &str) -> &'a str {
    let (start, end) = (format!("<{element}>"), format!("</{element}>"));
    let mut parts = page.split(&start);
    let text = parts.nth(1).and_then(|rest| rest.split(&end).next());
    assert!(parts.next().is_none(), "index.html has one inline <{element}>");
    text.unwrap_or_else(|| panic!("index.html has an inline <{element}>"))
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content).expect("memory can be written");
    encoder.finish().expect("memory can be written")
}

fn brotli(content: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::new();
    brotli::CompressorWriter::new(&mut compressed, 4096, 11, 22).write_all(content).expect("memory can be written");
    compressed
}

/// Base64 (RFC 4648 §4) of a hash; too little to take a crate for.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * index)) as usize & 63] as char;
            text.push(if index <= chunk.len() { letter } else { '=' });
        }
    }
    text
}

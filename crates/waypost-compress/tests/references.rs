//! Our codecs beside the reference tools: what they make of the same files, and whether one opens what the other packed.
//!
//! Sizes are recorded (`data/README.md` says by which versions) for tools that are not everywhere; gzip, Python and Node are,
//! and are asked.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use waypost_compress::{Stages, find, registry};

const REFERENCES: &str = include_str!("data/references.tsv");
const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
const BESIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");

/// The columns of the recorded sizes, whom they are compared with, and how much more these may take, in per cent.
const TOOLS: [(&str, &str, usize); 5] = [
    ("zstd", "zstd", 1),
    ("lz4", "lz4", 3),
    ("gzip", "lz77", 3),
    ("compress", "lz78", 3),
    ("brotli", "brotli", 1),
];

/// What a frame may add to its contents, where there is next to nothing to pack.
const FRAME_BYTES: usize = 16;

fn packed(name: &str, plain: &[u8]) -> Vec<u8> {
    let mut into = Vec::new();
    Stages::parse(name)
        .unwrap()
        .compress(plain, &mut into)
        .unwrap();
    into
}

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest
        .as_ref()
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[test]
fn sizes_are_near_those_of_the_reference_tools() {
    let mut lines = REFERENCES.lines();
    let head: Vec<_> = lines.next().unwrap().split('\t').collect();
    let mut is_skipped = false;
    for line in lines {
        let cells: Vec<_> = line.split('\t').collect();
        let here = Path::new(HERE).join(cells[0]);
        let Ok(plain) = fs::read(here).or_else(|_| fs::read(Path::new(BESIDE).join(cells[0])))
        else {
            is_skipped = true;
            continue;
        };
        assert_eq!(sha256(&plain), cells[1], "{} is another file", cells[0]);
        for (tool, strategy, per_cent) in TOOLS {
            let column = head.iter().position(|name| *name == tool).unwrap();
            let theirs: usize = cells[column].parse().unwrap();
            let ours = packed(strategy, &plain).len();
            assert!(
                100 * ours <= (100 + per_cent) * theirs + 100 * FRAME_BYTES,
                "{}: {strategy} {ours} bytes, {tool} {theirs}",
                cells[0]
            );
        }
    }
    if is_skipped {
        eprintln!("skipped: no ../shared/data");
    }
}

/// Every file below a folder.
fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            files(&path, into);
        } else {
            into.push(path);
        }
    }
}

#[test]
fn every_file_comes_back_from_every_codec() {
    let mut all = vec![Path::new(HERE).join("alice.txt")];
    files(Path::new(BESIDE), &mut all);
    if all.len() == 1 {
        eprintln!("skipped: no ../shared/data");
    }
    let mut codecs: Vec<_> = registry().iter().map(|row| (row, (row.new)())).collect();
    let (mut packed, mut unpacked) = (Vec::new(), Vec::new());
    for path in all {
        let plain = fs::read(&path).unwrap();
        for (row, codec) in &mut codecs {
            packed.clear();
            unpacked.clear();
            codec.compress(&plain, &mut packed).unwrap();
            let outcome = codec.decompress(&packed, plain.len(), &mut unpacked);
            assert_eq!(outcome, Ok(()), "{row:?}: {}", path.display());
            assert!(unpacked == plain, "{row:?}: {}", path.display());
        }
    }
}

/// What a program prints when it is given `input`; none if it is not here.
fn asked(program: &str, arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: no {program}");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{program} {arguments:?} does not open it"
        );
        Some(output.stdout)
    })
}

/// Texts, numbers, repetitions, noise, one byte, nothing; enough of one for `lz78` to fill and empty its table.
fn plains() -> Vec<Vec<u8>> {
    let alice = fs::read(Path::new(HERE).join("alice.txt")).unwrap();
    let mut state = 1_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let noise: Vec<u8> = noise.take(150_000).collect();
    let numbers: Vec<u8> = (0..20_000_u32).flat_map(u32::to_be_bytes).collect();
    let orders = (0..300).fold(String::new(), |mut text, n| {
        let _ = writeln!(
            text,
            "{{\"order\":{},\"event\":\"order.placed\",\"units\":{}}}",
            n * 7,
            n % 13
        );
        text
    });
    let mixed = [&alice[..], &noise, &alice, &numbers].concat();
    vec![
        mixed,
        alice,
        orders.into_bytes(),
        vec![7; 10_000],
        b"x".to_vec(),
        Vec::new(),
    ]
}

#[test]
fn gzip_opens_what_lz78_packed() {
    for plain in plains() {
        let file = packed("lz78", &plain);
        let Some(opened) = asked("gzip", &["-dc"], &file) else {
            return;
        };
        assert!(opened == plain, "{} bytes", plain.len());
    }
}

/// Goal: the page that describes our framings is enough to read them. Method: a script that was written from it.
#[test]
fn a_stranger_reads_what_we_packed() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stranger.py");
    for plain in plains().iter().skip(1) {
        // A script in Python decodes some 50 KB a second.
        let plain = plain.get(..4_000).unwrap_or(plain);
        for name in [
            "rle",
            "huffman",
            "arithmetic",
            "lz4",
            "lz77",
            "lz78",
            "lz78+huffman",
            "rle+lz4+arithmetic",
        ] {
            let stages = Stages::parse(name).unwrap();
            let encoding = stages.content_encoding();
            let Some(opened) = asked("python3", &[script, &encoding], &packed(name, plain)) else {
                return;
            };
            assert!(opened == plain, "{name}: {} bytes", plain.len());
        }
    }
}

include!("data/every_state.rs");

/// Goal: the table of `arithmetic` is T.88's, every row of it. Method: the script's copy decodes a message that leaves each state
/// both ways.
#[test]
fn a_stranger_agrees_on_every_state_of_the_arithmetic_coder() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stranger.py");
    let plain = every_state();
    let code = packed("arithmetic", &plain);
    if let Some(opened) = asked("python3", &[script, "waypost-arithmetic"], &code) {
        assert!(opened == plain);
    }
}

#[test]
fn node_opens_brotli_and_deflate_and_packs_them_no_smaller() {
    let script = "\
        const z = require('node:zlib'), all = [];\
        process.stdin.on('data', (piece) => all.push(piece)).on('end', () => {\
          const input = Buffer.concat(all), c = z.constants;\
          const at = { [c.BROTLI_PARAM_QUALITY]: 9, [c.BROTLI_PARAM_LGWIN]: 22, [c.BROTLI_PARAM_SIZE_HINT]: input.length };\
          process.stdout.write({ inflate: () => z.inflateSync(input), deflate: () => z.deflateSync(input),\
            unbrotli: () => z.brotliDecompressSync(input), brotli: () => z.brotliCompressSync(input, { params: at }),\
          }[process.argv[1]]());\
        });";
    for plain in plains() {
        for (name, pack, unpack, per_cent) in [
            ("lz77", "deflate", "inflate", 3),
            ("brotli", "brotli", "unbrotli", 1),
        ] {
            let ours = packed(name, &plain);
            let Some(opened) = asked("node", &["-e", script, unpack], &ours) else {
                return;
            };
            assert!(opened == plain, "{name}: {} bytes", plain.len());
            let theirs = asked("node", &["-e", script, pack], &plain).unwrap();
            assert!(
                100 * ours.len() <= (100 + per_cent) * theirs.len() + 100 * FRAME_BYTES,
                "{name}: {} bytes, theirs {}",
                ours.len(),
                theirs.len()
            );
            let mut unpacked = Vec::new();
            let mut codec = (find(name).unwrap().new)();
            codec
                .decompress(&theirs, plain.len(), &mut unpacked)
                .unwrap();
            assert!(unpacked == plain);
        }
    }
}

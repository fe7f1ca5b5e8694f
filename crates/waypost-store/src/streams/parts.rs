//! Every part of a segment as bytes alone, for whoever wants to try what is read of them.

use super::{
    api::Filter,
    block::{Block, OpenBlock},
    segment::{Begin, End, Header},
    table::{Table, Topics},
};

/// A part of a segment, without what it is compressed and sealed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The first bytes of the file.
    Header,
    /// The stream, and how far it was when the segment was begun.
    Begin,
    /// A block of records.
    Records,
    /// Where the blocks are.
    Table,
    /// Which blocks have records of which topic.
    Topics,
    /// The last bytes of the file.
    End,
}

/// Reads a part, and gives it as it would be written; `None` if it cannot be read.
pub fn decode_part(part: Part, bytes: &[u8]) -> Option<Vec<u8>> {
    Some(match part {
        Part::Header => Header::read(bytes).ok()?.encode().to_vec(),
        Part::Begin => Begin::decode(bytes).ok()?.encode(),
        Part::Records => {
            let block = Block::decode(bytes.to_vec()).ok()?;
            let mut again = OpenBlock::default();
            for record in &block.records {
                let place = (record.offset, record.wall_ms, record.expires_wall_ms);
                again.push(place, block.position, block.body(record));
            }
            again.take()?.bytes.to_vec()
        }
        Part::Table => Table::decode(bytes).ok()?.encode(),
        Part::Topics => {
            let topics = Topics::decode(bytes.to_vec()).ok()?;
            topics.matching(Filter::All, |_, postings| {
                postings.iter().for_each(drop);
            });
            bytes.to_vec()
        }
        Part::End => End::read(bytes)?.encode().to_vec(),
    })
}
